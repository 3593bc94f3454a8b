"""The port: where sealed credentials, and what was obtained with them, are kept."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

from stager.model.credentials import CredentialRow, Notes, SealedSession


class CredentialStore(Protocol):
    """Keeps rows, sessions and notes; opens none of them.

    All methods raise `StagerError` when the store can't be used, and can be called again then.
    """

    def stamp(self) -> Hashable:
        """Another value whenever `rows` may have changed; quick."""
        ...

    def rows(self) -> list[CredentialRow]:
        """All credentials."""
        ...

    def put(self, row: CredentialRow) -> None:
        """Keep a credential; durable on return. One of the same id is replaced, and its session goes."""
        ...

    def remove(self, credential: str) -> bool:
        """Forget a credential and all that was obtained with it; False when it was not there."""
        ...

    def session(self, credential: str) -> SealedSession | None:
        """What was obtained with it last."""
        ...

    def put_session(self, credential: str, session: SealedSession) -> None:
        """Keep what was obtained; durable on return."""
        ...

    def notes(self, credential: str) -> Notes:
        """What became of it."""
        ...

    def put_notes(self, credential: str, notes: Notes) -> None:
        """Remember what became of it; may be lost in a crash."""
        ...

    def lease(self, credential: str, seconds: float) -> bool:
        """Take the right to renew its session, for so long at most; False: somebody else has it."""
        ...

    def release(self, credential: str) -> None:
        """Give the right back."""
        ...
