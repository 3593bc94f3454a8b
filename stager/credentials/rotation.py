"""A new key: what is sealed for the old one is sealed anew, while everything goes on."""

from __future__ import annotations

from dataclasses import replace

from stager.credentials.files import FileStore
from stager.credentials.keys import KeyFiles
from stager.credentials.seal import Closer, Opener
from stager.errors import CredentialStoreError
from stager.model.credentials import CredentialRow

MOST_ROUNDS = 10
"""Looks for what was given meanwhile with the old key."""


def rotate_keys(store: FileStore, keys: KeyFiles) -> tuple[int, list[str]]:
    """Make a new key, seal everything for it, and drop the old one; how many credentials, and which can't be opened.

    Both keys open what they sealed until it is done. Interrupted, it is finished by the next call.

    Raises:
        CredentialStoreError: keys or credentials can't be used, or they change all the time.
    """
    keys.make()
    if len(keys.opener().keys) == 1:
        keys.add()
    lost: list[str] = []
    count = 0
    for _ in range(MOST_ROUNDS):
        opener, closer = keys.opener(), keys.closer()
        lost = []
        stale = [row for row in store.rows() if row.key != closer.key]
        for row in stale:
            sealed = _sealed_anew(row, opener, closer)
            if sealed is None:
                lost.append(row.id)
            elif store.swap(row, sealed):
                count += 1
        _sessions(store, opener, closer)
        if len(stale) == len(lost):
            keys.retire()
            return count, lost
    raise CredentialStoreError(
        "the keys are not rotated yet",
        cause="credentials were given all the time",
        remedy="call `stager credentials rotate-keys` again",
    )


def _sealed_anew(row: CredentialRow, opener: Opener, closer: Closer) -> CredentialRow | None:
    try:
        inside = opener.open(row.sealed, row.key)
    except (LookupError, ValueError):
        return None
    return replace(row, sealed=closer.seal(inside), key=closer.key)


def _sessions(store: FileStore, opener: Opener, closer: Closer) -> None:
    for row in store.rows():
        session = store.session(row.id)
        if session is not None and session.key != closer.key:
            try:
                inside = opener.open(session.sealed, session.key)
            except (LookupError, ValueError):
                continue  # another one is obtained
            store.put_session(row.id, replace(session, sealed=closer.seal(inside), key=closer.key))
