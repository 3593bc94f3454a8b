"""Where fetches run: which credential is for a URL, opened, and what was obtained with it.

Whether there is any costs a look at the time; all is read anew when the store says that it changed.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from stager.clock import Clock
from stager.credentials.base import CredentialStore
from stager.errors import (
    CredentialError,
    CredentialExpiredError,
    CredentialRefusedError,
    CredentialRequiredError,
    CredentialStoreError,
    CredentialUnreadableError,
    StagerError,
)
from stager.model.credentials import CredentialRow, Kind, Notes, SealedSession, narrowest
from stager.model.urls import Url

if TYPE_CHECKING:  # nobody without a credential needs PyNaCl
    from stager.credentials.seal import Closer, Opener

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How long what is in memory is used before the store is asked whether it changed."""
NOTE_SECONDS = 60.0
"""Between two notes of a use."""
MOST_REFUSALS = 3
"""In a row, of a credential that an origin accepted before: from then on it is not shown any more, or the account
might be locked there. One that was never accepted is shown once."""
HTTP_KINDS = frozenset(Kind) - {Kind.S3, Kind.SSH}
"""Kinds that a web server understands."""
KINDS: Mapping[str, Collection[Kind]] = {
    "http": HTTP_KINDS,
    "https": HTTP_KINDS,
    "ftp": {Kind.BASIC},
    "sftp": {Kind.BASIC, Kind.SSH},
    "s3": {Kind.S3},
    "gs": {Kind.BEARER},
    "webdav": {Kind.BASIC, Kind.BEARER},
    "smb": {Kind.BASIC},
}
"""What servers of a scheme understand; of one that is not here nothing."""


@dataclass(frozen=True, slots=True)
class Credential:
    """An open one. Its parts are in no representation of it."""

    row: CredentialRow
    parts: Mapping[str, str] = field(repr=False)

    @property
    def id(self) -> str:
        """Of the stored one."""
        return self.row.id

    @property
    def version(self) -> tuple[str, int]:
        """Of which credential, and which of its secrets."""
        return self.row.id, self.row.serial

    @property
    def kind(self) -> Kind:
        """How it is shown."""
        return self.row.kind


@dataclass(frozen=True, slots=True)
class Session:
    """What was obtained with a credential: ``token``, ``refresh_token``, ``cookies``."""

    serial: int
    values: Mapping[str, Any] = field(repr=False)
    obtained_at: float = 0.0
    expires_at: float | None = None


class Wallet:
    """Used by many threads at once.

    Args:
        store: where the credentials are, sealed.
        opener: gives what opens them; asked when there is one to open.
        closer: gives what seals a session.
        clock: the time.
    """

    def __init__(
        self,
        store: CredentialStore,
        opener: Callable[[], Opener],
        closer: Callable[[], Closer],
        clock: Clock,
    ) -> None:
        self._store = store
        self._opener = opener
        self._closer = closer
        self._clock = clock
        self._lock = threading.Lock()
        self._look_at = -1.0
        self._stamp: Hashable = object()
        self._rows: list[CredentialRow] = []
        self._trouble: StagerError | None = None
        self._open: dict[str, tuple[CredentialRow, Credential]] = {}
        self._sessions: dict[str, Session] = {}
        self._notes: dict[str, Notes] = {}
        self._refusals: Counter[tuple[str, int]] = Counter()

    @property
    def is_empty(self) -> bool:
        """Whether there is no credential at all, and no trouble with them."""
        if self._clock.monotonic() >= self._look_at:
            self.look()
        return not self._rows and self._trouble is None

    def look(self) -> None:
        """Read what changed, now. What is wrong with the store harms only fetches that need a credential."""
        with self._lock:
            try:
                stamp = self._store.stamp()
                if stamp != self._stamp:
                    self._rows = self._store.rows()
                    self._notes.clear()
                    self._stamp = stamp
                self._trouble = None
            except StagerError as error:
                if self._trouble is None:
                    log.warning("%s", error)
                self._trouble = error
            self._look_at = self._clock.monotonic() + LOOK_SECONDS

    def find(self, url: Url, owner: str, *, again: bool = False) -> Credential | CredentialError | None:
        """The credential of the narrowest scope for `url`; or why there is none that can be used; None: there is none.

        `again`: also one that an origin has refused.
        """
        kinds = KINDS.get(url.scheme, ())
        if not kinds or self.is_empty:
            return None
        rows = [row for row in narrowest(self._rows, url, owner) if row.kind in kinds]
        if not rows:
            trouble = self._trouble
            return None if trouble is None else CredentialUnreadableError(
                "the credentials can't be read", cause=str(trouble), **_details(url)
            )  # fmt: skip
        able = [row for row in rows if row.scope.may_travel(url)]
        if not able:
            return CredentialRequiredError(
                f"no credential goes to {url.place} over {url.scheme}",
                cause="there is one, and whoever is on the way would read it",
                remedy="use https, or give it again with --allow-http",
                **_details(url),
            )
        row = able[0]
        if row.expires_at is not None and row.expires_at <= self._clock.time():
            return CredentialExpiredError(
                f"the credential for {row.scope.host} has expired",
                remedy=f"`stager credentials rotate {row.id}`",
                **_details(url),
            )
        refusal = self.notes(row).is_refused and not again
        return refused(row, url) if refusal else self._openable(row, url)

    # -- sessions -------------------------------------------------------------------------------

    def session(self, credential: Credential, *, anew: bool = False) -> Session | None:
        """What was obtained with it, as far as this process knows; with `anew` as the store knows."""
        found = self._sessions.get(credential.id)
        if found is None or found.serial != credential.row.serial or anew:
            found = self._stored_session(credential)
            if found is not None:
                self._sessions[credential.id] = found
        return found

    def keep_session(self, credential: Credential, session: Session) -> None:
        """Remember what was obtained, for all processes."""
        closer = self._closer()
        value = {
            "id": credential.id,
            "serial": session.serial,
            "values": dict(session.values),
            "obtained_at": session.obtained_at,
            "expires_at": session.expires_at,
        }
        sealed = SealedSession(session.serial, closer.seal(value), closer.key, session.expires_at)
        self._sessions[credential.id] = session
        try:
            self._store.put_session(credential.id, sealed)
        except StagerError as error:  # it is good all the same, as long as this process lives
            log.error("a session of credential %s is not kept: %s", credential.id, error)  # noqa: TRY400

    def lease(self, credential: Credential, seconds: float) -> bool:
        """Take the right to renew the session."""
        return self._store.lease(credential.id, seconds)

    def release(self, credential: Credential) -> None:
        """Give it back."""
        self._store.release(credential.id)

    def _stored_session(self, credential: Credential) -> Session | None:
        sealed = self._store.session(credential.id)
        if sealed is None or sealed.serial != credential.row.serial:
            return None
        try:
            found = self._opener().open(sealed.sealed, sealed.key)
        except (LookupError, ValueError):  # then another one is obtained
            return None
        if (found.get("id"), found.get("serial")) != credential.version:
            return None
        return Session(credential.row.serial, found["values"], found["obtained_at"], found["expires_at"])

    # -- what became of it ----------------------------------------------------------------------

    def notes(self, row: CredentialRow) -> Notes:
        """Of its present secret."""
        found = self._notes.get(row.id)
        if found is None or found.serial != row.serial:
            found = self._store.notes(row.id)
            if found.serial != row.serial:
                found = Notes(row.serial)
            self._notes[row.id] = found
        return found

    def accepted(self, credential: Credential) -> None:
        """An origin gave data for it."""
        self._refusals.pop(credential.version, None)
        now, notes = self._clock.time(), self.notes(credential.row)
        if notes.accepted_at is None or notes.is_refused or now - (notes.used_at or 0.0) >= NOTE_SECONDS:
            self._note(credential, replace(notes, used_at=now, accepted_at=now))

    def refused(self, credential: Credential, *, for_good: bool = False) -> None:
        """An origin did not accept it (401); when that says enough, it is not shown any more."""
        self._refusals[credential.version] += 1
        now, notes = self._clock.time(), self.notes(credential.row)
        known_good = notes.accepted_at is not None and not for_good
        if known_good and self._refusals[credential.version] < MOST_REFUSALS:
            return
        self._note(credential, replace(notes, used_at=now, refused_at=now))

    def _note(self, credential: Credential, notes: Notes) -> None:
        self._notes[credential.id] = notes
        try:
            self._store.put_notes(credential.id, notes)
        except StagerError as error:
            log.warning("a note about credential %s is lost: %s", credential.id, error)

    # -- parts ----------------------------------------------------------------------------------

    def _openable(self, row: CredentialRow, url: Url) -> Credential | CredentialError:
        try:
            return self._opened(row)
        except LookupError:
            cause = "it was sealed for a key that is not here any more"
        except (CredentialStoreError, ValueError) as error:
            cause = str(error)
        return CredentialUnreadableError(
            f"the credential for {row.scope.host} can't be opened",
            cause=cause,
            remedy=f"give it again: `stager credentials rotate {row.id}`",
            credential=row.id,
            **_details(url),
        )

    def _opened(self, row: CredentialRow) -> Credential:
        known = self._open.get(row.id)
        if known is not None and known[0] == row:
            return known[1]
        inside = self._opener().open(row.sealed, row.key)
        if inside.get("facts") != row.facts():
            raise ValueError(
                "what it says of itself is not what is written beside it: it was moved or altered"
            )
        found = Credential(row, inside["parts"])
        self._open[row.id] = row, found
        return found


def sealed_row(row: CredentialRow, parts: Mapping[str, str], closer: Closer) -> CredentialRow:
    """`row` with its parts sealed inside."""
    row = replace(row, key=closer.key)
    return replace(row, sealed=closer.seal({"facts": row.facts(), "parts": dict(parts)}))


def refused(row: CredentialRow, url: Url) -> CredentialRefusedError:
    """What is said of a credential that an origin does not accept."""
    return CredentialRefusedError(
        f"{url.place} did not accept the credential for {row.scope.host}",
        cause=f"{row.kind}" + (f" of user {row.user}" if row.user else ""),
        remedy=f"`stager credentials rotate {row.id}` takes the right one",
        credential=row.id,
        **_details(url),
    )


def _details(url: Url) -> dict[str, str]:
    return {"url": url.redacted, "host": url.place}
