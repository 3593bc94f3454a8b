"""Fetches that wait for room in the cache, and how much they need together. Pure.

Such a fetch is held back, without counting as a try, until room was made; and is tried now and then besides,
since somebody else may make it.
"""

from __future__ import annotations

from stager.errors import CacheFullError
from stager.mapper.instructions import MakeRoom
from stager.model.sizes import written

LEAST_BYTES = 1 << 20
"""What a fetch is taken to need that can't say it; twice as much each time that this was not enough."""
_DOUBLINGS = 20


class Shortage:
    """Who waits, and for how many bytes."""

    def __init__(self) -> None:
        self._needs: dict[str, tuple[int, int, bool]] = {}  # bytes, bytes promised to others, refused
        self._refusals: dict[str, int] = {}
        self._said: MakeRoom | None = None

    def __contains__(self, fetch: str) -> bool:
        return fetch in self._needs

    def wait(self, fetch: str, error: CacheFullError) -> None:
        """The cache was full for the fetch."""
        refusals = self._refusals[fetch] = self._refusals.get(fetch, -1) + 1
        refused = "errno" in error.details  # by the file system itself, whatever it says is free
        least = LEAST_BYTES << min(refusals, _DOUBLINGS) if refused else 0
        needed, promised = (_number(error.details.get(name)) for name in ("needed", "promised"))
        self._needs[fetch] = max(least, needed), promised, refused

    def began(self, fetch: str) -> None:
        """The fetch is tried."""
        self._needs.pop(fetch, None)

    def over(self, fetch: str) -> None:
        """The fetch needs nothing any more."""
        self._needs.pop(fetch, None)
        self._refusals.pop(fetch, None)

    def all(self) -> list[str]:
        """Those who wait, the one that has done so longest first."""
        return list(self._needs)

    def order(self) -> MakeRoom | None:
        """What is to be asked for, if that has changed."""
        needs = self._needs.values()
        size = sum(need[0] for need in needs) + max((need[1] for need in needs), default=0)
        order = MakeRoom(size, any(need[2] for need in needs))
        if order == (self._said or MakeRoom(0)):
            return None
        self._said = order
        return order

    def ask_again(self) -> None:
        """What was asked for has been answered."""
        self._said = None


def waiting_for_room(error: CacheFullError, why: str) -> CacheFullError:
    """What people see while the fetch waits: the cause is why there is no room, and none can be made."""
    needed = error.details.get("needed")
    what = f"waits for {written(needed)} of room" if isinstance(needed, int) and needed else "waits for room"
    remedy = "it goes on by itself; `stager cache limits` says what holds the room"
    return CacheFullError(what, cause=why, remedy=remedy, **error.details)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
