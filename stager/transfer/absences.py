"""What origins said of late not to have, so that many who ask for it are not many requests. Times are passed in."""

from __future__ import annotations

from stager.errors import OriginRefusedError
from stager.model.fetches import FetchRequest

STATUSES = frozenset({404, 410})
"""Only these say something about the file, and nothing about who asks or when."""
MOST = 4096
"""Files that are remembered; the oldest go first."""


class Absences:
    """Files that are not there, each for a short time, and for whom it was said: another one may see more.

    Args:
        seconds: how long; 0: not at all.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._known: dict[tuple[str, str], tuple[float, OriginRefusedError]] = {}

    def note(self, request: FetchRequest, error: BaseException, now: float) -> None:
        """`error` is what came of `request`."""
        if not self._seconds or not isinstance(error, OriginRefusedError) or request.mirrors:
            return
        if error.details.get("status") in STATUSES and "seconds_ago" not in error.details:
            while len(self._known) >= MOST:
                self._known.pop(next(iter(self._known)), None)
            self._known[request.key, request.owner] = (now, error)

    def check(self, request: FetchRequest, now: float) -> None:
        """Say again what was said a moment ago, unless it is asked for anew (`refresh`) or elsewhere.

        Raises:
            OriginRefusedError: it is not there.
        """
        if not self._known or request.refresh or request.mirrors:
            return
        place = request.key, request.owner
        known = self._known.get(place)
        if known is None:
            return
        at, error = known
        left = at + self._seconds - now
        if not 0 < left <= self._seconds:  # also when the clock was set back
            self._known.pop(place, None)
            return
        again = error.with_cause(f"{error.cause} {now - at:.0f} s ago; it is asked again in {left:.0f} s")
        again.details["seconds_ago"] = now - at
        raise again
