"""Sealed credentials in Redis, for workers on other hosts: put there by the server, opened where the fetch runs.

Losing them loses nothing: the server puts them there again. What workers obtained is taken over by the server,
since a refresh token that an origin has replaced is nowhere else.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Hashable, Iterable
from dataclasses import asdict
from hashlib import sha256
from typing import Any

from stager.model.credentials import CredentialRow, Notes, SealedSession
from stager.signals import keys
from stager.signals.connection import RedisAddress

_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class RedisStore:
    """See the module, and `CredentialStore`. All methods raise `SignalsError` when Redis can't be used.

    Args:
        address: where Redis is.
    """

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._redis = address.connect()
        self._release = self._redis.register_script(_RELEASE)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def stamp(self) -> Hashable:
        """See `CredentialStore.stamp`."""
        with self._address.speaking():
            return str(self._redis.get(keys.CREDENTIALS_STAMP))

    def rows(self) -> list[CredentialRow]:
        """See `CredentialStore.rows`."""
        with self._address.speaking():
            found: Any = self._redis.hvals(keys.CREDENTIALS)
        return [CredentialRow.from_dict(json.loads(text)) for text in found]

    def put(self, row: CredentialRow) -> None:
        """See `CredentialStore.put`."""
        self.replace([*(one for one in self.rows() if one.id != row.id), row])

    def remove(self, credential: str) -> bool:
        """See `CredentialStore.remove`."""
        rows = self.rows()
        left = [row for row in rows if row.id != credential]
        self.replace(left)
        return len(left) < len(rows)

    def replace(self, rows: Iterable[CredentialRow]) -> None:
        """Have exactly these; what was obtained with others, or with another secret, goes."""
        texts: dict[Any, Any] = {row.id: json.dumps(row.to_dict(), sort_keys=True) for row in rows}
        serials = {row: json.loads(text)["serial"] for row, text in texts.items()}
        stamp = sha256("\n".join(sorted(texts.values())).encode()).hexdigest()
        with self._address.speaking():
            sessions: Any = self._redis.hgetall(keys.CREDENTIAL_SESSIONS)
            stale = [
                name
                for name, text in sessions.items()
                if serials.get(name.decode()) != json.loads(text)["serial"]
            ]
            pipe = self._redis.pipeline()
            pipe.delete(keys.CREDENTIALS)
            if texts:
                pipe.hset(keys.CREDENTIALS, mapping=texts)
            if stale:
                pipe.hdel(keys.CREDENTIAL_SESSIONS, *stale)
            pipe.set(keys.CREDENTIALS_STAMP, stamp)
            pipe.execute()

    def session(self, credential: str) -> SealedSession | None:
        """See `CredentialStore.session`."""
        found = self._field(keys.CREDENTIAL_SESSIONS, credential)
        return None if found is None else SealedSession(**found)

    def put_session(self, credential: str, session: SealedSession) -> None:
        """See `CredentialStore.put_session`."""
        with self._address.speaking():
            self._redis.hset(keys.CREDENTIAL_SESSIONS, credential, json.dumps(asdict(session)))

    def notes(self, credential: str) -> Notes:
        """See `CredentialStore.notes`."""
        found = self._field(keys.CREDENTIAL_NOTES, credential)
        return Notes() if found is None else Notes(**found)

    def put_notes(self, credential: str, notes: Notes) -> None:
        """See `CredentialStore.put_notes`."""
        with self._address.speaking():
            if self._redis.hexists(keys.CREDENTIALS, credential):
                self._redis.hset(keys.CREDENTIAL_NOTES, credential, json.dumps(asdict(notes)))

    def lease(self, credential: str, seconds: float) -> bool:
        """See `CredentialStore.lease`."""
        with self._address.speaking():
            taken = self._redis.set(
                keys.CREDENTIAL_LEASE + credential, _holder(), px=int(seconds * 1000), nx=True
            )
        return bool(taken)

    def release(self, credential: str) -> None:
        """See `CredentialStore.release`."""
        with self._address.speaking():
            self._release(keys=[keys.CREDENTIAL_LEASE + credential], args=[_holder()])

    def _field(self, name: str, credential: str) -> dict[str, Any] | None:
        with self._address.speaking():
            found: Any = self._redis.hget(name, credential)
        return None if found is None else dict(json.loads(found))


def _holder() -> str:
    return f"{os.uname().nodename} {os.getpid()} {threading.get_ident()}"
