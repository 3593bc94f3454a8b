"""Who has proved what: the grants that count, and what of them has to be written. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from stager.model.grants import Access, Grant

GRANT_SECONDS = 300.0
"""A proof is remembered for so long unless the settings say otherwise."""

ROUNDS = 12
"""A proof that a job with many inputs waits to be followed by others is remembered for so many times as long."""


class Grants:
    """Grants by user, key and object.

    Args:
        seconds: how long a proof is remembered.
        grants: what was written.
    """

    def __init__(self, seconds: float = GRANT_SECONDS, grants: Iterable[Grant] = ()) -> None:
        self._seconds = seconds
        self._held = {grant.access: grant for grant in grants}
        self._dirty: dict[Access, Grant | None] = {}

    def __len__(self) -> int:
        return len(self._held)

    def give(self, access: Access, credentials: tuple[str, ...], now: float) -> Grant:
        """The origin has just given or confirmed the object to the user."""
        self._forget_old(now)
        grant = Grant(access, now, now + self._seconds, credentials)
        self._held.pop(access, None)  # so that the oldest stay the first
        self._held[access] = self._dirty[access] = grant
        return grant

    def allows(self, user: str, key: str, sha256: str, now: float, since: float | None = None) -> bool:
        """Whether the user has proved, not too long ago, that he may read the object under that key.

        With `since` a proof from then on counts for longer: where a job has so many inputs that the first proof
        is over before the last one is made, it would never start.
        """
        grant = self._held.get(Access(user, key, sha256))
        if grant is None or grant.is_valid(now):
            return grant is not None
        return since is not None and grant.granted_at >= since and not self._is_old(grant, now)

    def refuse(self, user: str, key: str) -> int:
        """An origin has refused the user: all that was granted to him under that key ends; how many grants."""
        return self._end(lambda grant: grant.access[:2] == (user, key))

    def withdraw(self, credentials: Collection[str]) -> int:
        """These credentials are no more: what was granted for one of them ends; how many grants."""
        return self._end(lambda grant: not set(credentials).isdisjoint(grant.credentials))

    def revoke(self, wanted: Callable[[Grant], bool]) -> list[Grant]:
        """End those grants; which they were."""
        found = [grant for grant in self._held.values() if wanted(grant)]
        self._end(lambda grant: grant in found)
        return found

    def valid(self, now: float) -> list[Grant]:
        """Those that count now; the newest first."""
        found = (grant for grant in self._held.values() if grant.is_valid(now))
        return sorted(found, key=lambda grant: (-grant.granted_at, grant.id))

    def take_changes(self) -> dict[Access, Grant | None]:
        """What changed since the last call; None: the grant is over."""
        changed, self._dirty = self._dirty, {}
        return changed

    def _forget_old(self, now: float) -> None:
        if self._held and self._is_old(next(iter(self._held.values())), now):  # the oldest, nearly
            self._end(lambda grant: self._is_old(grant, now))

    def _is_old(self, grant: Grant, now: float) -> bool:
        return now >= grant.granted_at + ROUNDS * self._seconds

    def _end(self, which: Callable[[Grant], bool]) -> int:
        ended = [grant.access for grant in self._held.values() if which(grant)]
        for access in ended:
            del self._held[access]
            self._dirty[access] = None
        return len(ended)
