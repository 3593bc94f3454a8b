"""Who has proved what: the grants that count, and what of them has to be written. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from stager.model.grants import Access, Grant

GRANT_SECONDS = 300.0
"""A proof is remembered for so long unless the settings say otherwise."""


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

    def allows(self, user: str, key: str, sha256: str, now: float) -> bool:
        """Whether the user has proved, not too long ago, that he may read the object under that key."""
        grant = self._held.get(Access(user, key, sha256))
        return grant is not None and grant.is_valid(now)

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
        if self._held and not next(iter(self._held.values())).is_valid(now):  # the oldest, nearly
            self._end(lambda grant: not grant.is_valid(now))

    def _end(self, which: Callable[[Grant], bool]) -> int:
        ended = [grant.access for grant in self._held.values() if which(grant)]
        for access in ended:
            del self._held[access]
            self._dirty[access] = None
        return len(ended)
