"""Credentials of the server, sealed, where workers on other hosts find them; and back what these obtained."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from stager.credentials.base import CredentialStore
from stager.model.credentials import CredentialRow


class SharedStore(CredentialStore, Protocol):
    """A store that workers on other hosts read."""

    def replace(self, rows: Iterable[CredentialRow]) -> None:
        """Have exactly these."""
        ...


class CredentialSpread:
    """Makes two stores agree; each call does so once.

    Args:
        kept: the server's own, which says what there is.
        shared: what workers read, and where they leave what they obtain.
    """

    def __init__(self, kept: CredentialStore, shared: SharedStore) -> None:
        self._kept = kept
        self._shared = shared

    def __call__(self) -> None:
        """Give what changed, and take what is newer.

        Raises:
            StagerError: one of them can't be used.
        """
        rows = self._kept.rows()
        for row in rows:
            self._take_back(row)
        if sorted(rows, key=_by_id) != sorted(self._shared.rows(), key=_by_id):
            self._shared.replace(rows)
        for row in rows:
            session = self._kept.session(row.id)
            if session is not None and self._shared.session(row.id) is None and session.serial == row.serial:
                self._shared.put_session(row.id, session)

    def _take_back(self, row: CredentialRow) -> None:
        session = self._shared.session(row.id)
        if session is not None and session.serial == row.serial and session != self._kept.session(row.id):
            self._kept.put_session(row.id, session)
        notes = self._shared.notes(row.id)
        if notes.serial == row.serial and notes != self._kept.notes(row.id):
            self._kept.put_notes(row.id, notes)


def _by_id(row: CredentialRow) -> str:
    return row.id
