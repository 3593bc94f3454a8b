"""What a try shows to the origins that it asks: the credential for each, renewed in time, and its cookies.

One for each try that may need it, so no cookie outlives the try or is seen by another job.
"""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Generator
from typing import Any

from stager.clock import Clock
from stager.credentials.wallet import Credential, Session, Wallet, refused
from stager.errors import CredentialError, CredentialRefusedError
from stager.model.credentials import CredentialRow, Kind
from stager.model.urls import WEB, Url
from stager.transfer.asks import Fill, Open
from stager.transfer.cookies import Jar
from stager.transfer.decisions import Again, ClientCertificate, Finish, Identity, Receive, Unchanged
from stager.transfer.login import Login
from stager.transfer.plan import TransferPlan
from stager.transfer.transport import Answer, Pulse

LEASE_SECONDS = 60.0
"""Longest time that one who renews a session keeps others from it."""
LOOK_SECONDS = 0.1
"""Between two looks whether somebody else has renewed it."""
AHEAD_SECONDS = 60.0
AHEAD_SHARE = 0.2
"""A session is renewed so long before its end, or in the last part of its life, if that is shorter."""
UNAUTHORIZED = 401
_DATA = frozenset({200, 206, 304})
_SESSIONS = frozenset({Kind.FORM, Kind.OAUTH2_CLIENT, Kind.OAUTH2_REFRESH})

Version = tuple[str, int]
"""Of which credential, and which of its secrets."""
Preparing = Generator[Open | Fill, Any, None]


class Access:
    """See the module.

    Args:
        wallet: the credentials.
        owner: whose fetch it is.
        clock: the time.
        again: show also what an origin has refused before.
    """

    def __init__(self, wallet: Wallet, owner: str, clock: Clock, *, again: bool = False) -> None:
        self._wallet = wallet
        self._again = again
        self._owner = owner
        self._clock = clock
        self._jar = Jar()
        self._at: Url | None = None
        self._credential: Credential | None = None
        self._why_not: CredentialError | None = None
        self._was_shown = False
        self.shown_ids: tuple[str, ...] = ()
        """Of the credentials that were shown in this try."""
        self._refused: set[Version] = set()
        """Secrets that an origin has refused in this try."""
        self._stale: dict[Version, Session | None] = {}
        """Sessions that it has refused; another one is needed."""
        self._renewed: set[Version] = set()
        """For which one was asked for in this try: if that is refused, so is the next."""

    @property
    def shown(self) -> CredentialRow | None:
        """What is shown to the origin that is asked."""
        return None if self._credential is None else self._credential.row

    def prepare(self, plan: TransferPlan, pulse: Pulse) -> Preparing:
        """Have `plan` show what is for the origin that it asks next.

        Raises:
            CredentialRefusedError: a login failed.
            FetchError: it can't be tried now.
        """
        at = plan.route.at
        if at is not self._at:
            self._choose(at)
        headers: dict[str, str] = {}
        certificate = identity = None
        credential = self._credential
        if credential is not None:
            session = None
            if credential.kind in _SESSIONS:
                session = yield from self._session(credential, pulse)
            if at.scheme in WEB:
                headers, certificate = shown(credential, session, at, self._clock.time())
            else:
                identity = identity_of(credential)
            self._was_shown = True
            if credential.id not in self.shown_ids:
                self.shown_ids += (credential.id,)
        cookies = [text for text in (headers.get("Cookie"), self._jar.header(at, self._clock.time())) if text]
        if cookies:
            headers["Cookie"] = "; ".join(cookies)
        plan.present(headers, certificate, identity, is_secret=self._was_shown)

    def decide(self, plan: TransferPlan, answer: Answer) -> Again | Receive | Unchanged | Finish:
        """What `plan` says to the answer; to a refusal, whether there is another way.

        Raises:
            FetchError: as of `TransferPlan.on_response`; a `CredentialError` says what is known of the credential.
        """
        status, at, now = answer.status, plan.route.at, self._clock.time()
        if self._jar.take(at, answer.headers, now):
            plan.route.revisit()
        try:
            decision = plan.on_response(status, answer.headers, now)
        except CredentialError as error:
            if self._has_another_way(at, status):
                return Again("another credential, or another session")
            raise self._explained(error) from None
        if self._credential is not None and status in _DATA:
            self._wallet.accepted(self._credential)
        return decision

    # -- parts ----------------------------------------------------------------------------------

    def _choose(self, at: Url) -> None:
        found = self._wallet.find(at, self._owner, again=self._again)
        self._at = at
        self._credential = found if isinstance(found, Credential) else None
        self._why_not = found if isinstance(found, CredentialError) else None

    def _has_another_way(self, at: Url, status: int) -> bool:
        credential = self._credential
        if (
            credential is not None
            and credential.kind in _SESSIONS
            and credential.version not in self._renewed
        ):
            self._stale[credential.version] = self._wallet.session(credential)
            return True
        if credential is not None:
            self._refused.add(credential.version)
            if status == UNAUTHORIZED:
                self._wallet.refused(credential)
        self._wallet.look()  # somebody may just have given another one
        self._choose(at)
        found = self._credential
        if found is not None and found.version not in self._refused:
            return True
        if credential is not None and self._why_not is None:
            self._why_not = refused(credential.row, at)
        self._credential = None
        return False

    def _explained(self, error: CredentialError) -> CredentialError:
        """The same error with what is known of the credential, if there is one."""
        why = self._why_not
        if why is None:
            return error
        said = error.cause.partition(": ")[0]
        cause = f"{said}: {why.what}" + (f" ({why.cause})" if why.cause else "")
        return type(why)(error.what, cause=cause, remedy=why.remedy, **why.details, **_only(error, "status"))

    def _session(self, credential: Credential, pulse: Pulse) -> Generator[Open | Fill, Any, Session]:
        """The session to use now: the one that there is, or another one, obtained by whoever has the lease."""
        session = self._wallet.session(credential)
        is_stale = credential.version in self._stale
        if session is not None and not is_stale and not self._is_due(session):
            return session
        stale = self._stale.pop(credential.version, None)
        leased = self._lease(credential, pulse)
        try:
            newer = self._wallet.session(credential, anew=True)
            if newer is None or newer == stale or self._is_due(newer):
                newer = yield from self._log_in(credential, newer, pulse)
            return newer
        finally:
            self._renewed.add(credential.version)
            if leased:
                self._wallet.release(credential)

    def _lease(self, credential: Credential, pulse: Pulse) -> bool:
        until = self._clock.monotonic() + LEASE_SECONDS
        while not self._wallet.lease(credential, LEASE_SECONDS):
            pulse(0.0)
            if self._clock.monotonic() >= until:
                return False  # it only saves work
            time.sleep(LOOK_SECONDS)
        return True

    def _log_in(
        self, credential: Credential, before: Session | None, pulse: Pulse
    ) -> Generator[Open | Fill, Any, Session]:
        wallet = self._wallet
        try:
            session = yield from Login(credential, before, pulse, self._clock.time).steps()
        except CredentialRefusedError:
            latest = wallet.session(credential, anew=True)
            if latest is not None and latest != before and not self._is_due(latest):
                return latest  # somebody was quicker, and used up what we had
            wallet.refused(credential, for_good=True)
            raise
        wallet.keep_session(credential, session)
        wallet.accepted(credential)
        return session

    def _is_due(self, session: Session) -> bool:
        if session.expires_at is None:
            return False
        ahead = min(AHEAD_SECONDS, (session.expires_at - session.obtained_at) * AHEAD_SHARE)
        return self._clock.time() >= session.expires_at - ahead


def _only(error: CredentialError, name: str) -> dict[str, Any]:
    return {name: error.details[name]} if name in error.details else {}


def shown(
    credential: Credential, session: Session | None, at: Url, now: float
) -> tuple[dict[str, str], ClientCertificate | None]:
    """The headers that show a credential at `at`, and the certificate."""
    parts = credential.parts
    match credential.kind:
        case Kind.BASIC:
            pair = f"{parts['user']}:{parts['password']}".encode()
            return {"Authorization": f"Basic {b64encode(pair).decode()}"}, None
        case Kind.BEARER:
            return {"Authorization": f"Bearer {parts['token']}"}, None
        case Kind.HEADER:
            return {parts["name"]: parts["value"]}, None
        case Kind.OAUTH2_CLIENT | Kind.OAUTH2_REFRESH:
            assert session is not None
            return {"Authorization": f"Bearer {session.values['token']}"}, None
        case Kind.FORM:
            assert session is not None
            cookies = Jar(session.values["cookies"]).header(at, now)
            return ({"Cookie": cookies} if cookies else {}), None
        case Kind.CERTIFICATE:
            name = f"{credential.id}.{credential.row.serial}"
            return {}, ClientCertificate(
                name, parts["certificate"], parts["key"], parts.get("passphrase", "")
            )
        case _:
            return {}, None


def identity_of(credential: Credential) -> Identity:
    """The same for the schemes that have no headers."""
    parts = credential.parts
    match credential.kind:
        case Kind.S3:
            return Identity(parts["access_key"], parts["secret_key"], token=parts.get("session_token", ""))
        case Kind.SSH:
            return Identity(parts["user"], key=parts["key"], passphrase=parts.get("passphrase", ""))
        case Kind.BEARER:
            return Identity(token=parts["token"])
        case _:
            return Identity(parts["user"], parts["password"])
