"""Giving, listing, replacing and removing credentials. Nothing here can open one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from stager.clock import Clock
from stager.credentials.base import CredentialStore
from stager.credentials.wallet import sealed_row
from stager.errors import ConflictError, InputError, NotFoundError
from stager.model.credentials import (
    MAX_CREDENTIALS,
    CredentialRow,
    CredentialView,
    NewCredential,
    view_of,
)

if TYPE_CHECKING:
    from stager.credentials.seal import Closer


class CredentialService:
    """What the server, the command line and Python programs do with credentials.

    A credential is named by its id, or by its host if only one is for that host; where an `owner` is given, among his.

    Args:
        store: where they are kept.
        closer: gives what seals them.
        clock: the time.
        ids: makes the id of a new one.
        changed: told of each one that was given (True) or removed (False), once that is durable.
    """

    def __init__(
        self,
        store: CredentialStore,
        closer: Callable[[], Closer],
        clock: Clock,
        ids: Iterator[str],
        changed: Callable[[CredentialRow, bool], None] = lambda _, __: None,
    ) -> None:
        self._store = store
        self._closer = closer
        self._clock = clock
        self._ids = ids
        self._changed = changed
        self._lock = threading.Lock()

    def add(self, new: NewCredential) -> CredentialView:
        """Keep a credential; one of the same host, prefix, owner and kind is replaced. Durable on return.

        Raises:
            InputError: there are too many, or it has expired already.
            CredentialStoreError: it can't be kept; nothing was changed.
        """
        with self._lock:
            rows = self._store.rows()
            same = [
                row for row in rows if row.kind is new.kind and row.scope.same_place == new.scope.same_place
            ]
            if not same and len(rows) >= MAX_CREDENTIALS:
                raise InputError(
                    f"{len(rows)} credentials are kept",
                    cause=f"at most {MAX_CREDENTIALS}",
                    remedy="remove some, or give them for patterns of hosts",
                )
            return self._keep(
                new,
                same[0].id if same else next(self._ids),
                same[0].serial + 1 if same else 1,
            )

    def rotate(
        self,
        word: str,
        parts: Mapping[str, str],
        expires_at: float | None = None,
        owner: str | None = None,
    ) -> CredentialView:
        """Replace what is secret of a credential; its other parts stay, unless they are given too.

        Raises:
            NotFoundError, ConflictError: `word` names none, or several.
            InputError: parts are missing or make no sense.
        """
        with self._lock:
            row = self.find(word, owner)
            new = NewCredential(row.scope, row.kind, {**row.public, **parts}, expires_at)
            return self._keep(new, row.id, row.serial + 1)

    def remove(self, word: str, owner: str | None = None) -> CredentialView:
        """Forget a credential and what was obtained with it; what it was.

        Raises:
            NotFoundError, ConflictError: `word` names none, or several.
        """
        with self._lock:
            row = self.find(word, owner)
            view = self._view(row)
            self._store.remove(row.id)
        self._changed(row, False)
        return view

    def list(self, host: str = "", owner: str | None = None) -> list[CredentialView]:
        """Credentials by host, path and owner; only those of that host or pattern, or that owner (empty: the site's)."""
        found = [
            row
            for row in self._store.rows()
            if (not host or row.scope.host == host) and owner in {None, row.scope.owner}
        ]
        return [self._view(row) for row in sorted(found, key=lambda row: (row.scope.same_place, row.kind))]

    def find(self, word: str, owner: str | None = None) -> CredentialRow:
        """The one that `word` names.

        Raises:
            NotFoundError: none.
            ConflictError: several.
        """
        rows = [row for row in self._store.rows() if owner in {None, row.scope.owner}]
        found = [row for row in rows if row.id == word] or [row for row in rows if row.scope.host == word]
        if not found:
            raise NotFoundError(f"no credential {word[:80]!r}", remedy="see `stager credentials ls`")
        if len(found) > 1:
            raise ConflictError(
                f"{word!r} names several credentials",
                cause=", ".join(row.id for row in found),
                remedy="name one by its id",
            )
        return found[0]

    def _keep(self, new: NewCredential, credential: str, serial: int) -> CredentialView:
        now = self._clock.time()
        if new.expires_at is not None and new.expires_at <= now:
            raise InputError("the credential has expired already", remedy="check the time of its end")
        row = CredentialRow(credential, new.scope, new.kind, new.public, serial, now, new.expires_at)
        row = sealed_row(row, new.parts, self._closer())
        self._store.put(row)
        self._changed(row, True)
        return self._view(row)

    def _view(self, row: CredentialRow) -> CredentialView:
        session = self._store.session(row.id)
        until = session.expires_at if session is not None and session.serial == row.serial else None
        return view_of(row, self._store.notes(row.id), self._clock.time(), until)
