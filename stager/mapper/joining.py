"""Which fetch a new request may join. Pure."""

from __future__ import annotations

from collections.abc import Collection

from stager.model.fetches import FetchRequest, FetchState
from stager.model.records import FetchRecord

UNDER_WAY: Collection[FetchState] = frozenset({FetchState.QUEUED, FetchState.RUNNING})
"""States in which a fetch is about to bring what is not here yet."""
Wanted = str | tuple[str, str] | tuple[str, str, str | None, int | None]
"""Which requests one fetch serves: those for a key by one owner, with a digest or a size if one is asked for.

Each owner has a fetch of his own, since it is made with his credentials; one of a key runs at a time, and the next
usually finds the bytes in the cache.
"""


def wanted_of(key: str, owner: str, expected: str | None, size: int | None) -> Wanted:
    """What such a request is found by."""
    if expected is not None or size is not None:
        return key, owner, expected, size
    return (key, owner) if owner else key  # which is held anyway


def by_worth_joining(fetch: FetchRecord) -> tuple[bool, float, str]:
    """Sorts last what a new job should join: a fetch under way before one that is over, then the newest."""
    return fetch.state in UNDER_WAY, fetch.created_at, fetch.id


def is_good(request: FetchRequest, fresh_until: float | None, now: float, source: str | None = None) -> bool:
    """Whether bytes at hand, which are as the request says, answer it without asking the origin.

    `source` is where they came from; None: from where its own owner said.
    """
    if request.refresh:
        return False
    is_fresh = fresh_until is None or now < fresh_until
    return request.expected is not None or (is_fresh and request.names(source))
