"""How origins did of late, as far as it matters to who can choose between several. Times are passed in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stager.model.urls import origin_of

FAILED_SECONDS = 300.0
"""An origin that failed is asked after the others for so long."""
SPEED_SECONDS = 3600.0
"""A speed that was seen counts for so long."""
MUCH_SLOWER = 4.0
"""An origin is asked after others if one of them was so many times as quick; less may be chance."""
SLOW_BYTES_PER_SECOND = 262_144.0
"""Below this a mirror that was never tried is worth a try."""
MOST = 1024
"""Origins that are remembered."""


@dataclass(slots=True)
class _Standing:
    failed_at: float | None = None
    speed: float = 0.0
    speed_at: float = 0.0


class Standings:
    """What was seen of origins; safe in any thread, as each call changes one thing."""

    def __init__(self) -> None:
        self._known: dict[str, _Standing] = {}

    def failed(self, url: str, now: float) -> None:
        """Its origin could not be reached, broke off, or was too busy."""
        self._of(url).failed_at = now

    def delivered(self, url: str, bytes_per_second: float, now: float) -> None:
        """Its origin sent with that speed; what was before is over."""
        standing = self._of(url)
        standing.failed_at, standing.speed, standing.speed_at = None, bytes_per_second, now

    def order(self, urls: Sequence[str], now: float) -> list[str]:
        """The URLs in the order in which to try them: as given, but origins in trouble and slow ones later."""
        best = max((self._speed(url, now) or 0.0 for url in urls), default=0.0)

        def rank(url: str) -> tuple[bool, bool]:
            speed = self._speed(url, now)
            return self._is_failing(url, now), speed is not None and speed * MUCH_SLOWER < best

        return sorted(urls, key=rank)

    def promise_more(self, urls: Iterable[str], bytes_per_second: float, now: float) -> bool:
        """Whether one of these URLs is likely to be quicker by far."""
        for url in urls:
            speed = self._speed(url, now)
            if self._is_failing(url, now):
                continue
            if speed is None and bytes_per_second < SLOW_BYTES_PER_SECOND:
                return True
            if speed is not None and speed > MUCH_SLOWER * bytes_per_second:
                return True
        return False

    def _of(self, url: str) -> _Standing:
        if len(self._known) >= MOST:
            self._known.clear()  # it is a memory of minutes: what matters is soon there again
        return self._known.setdefault(origin_of(url), _Standing())

    def _is_failing(self, url: str, now: float) -> bool:
        standing = self._known.get(origin_of(url))
        return (
            standing is not None
            and standing.failed_at is not None
            and now < standing.failed_at + FAILED_SECONDS
        )

    def _speed(self, url: str, now: float) -> float | None:
        """Bytes per second; None: nobody knows."""
        standing = self._known.get(origin_of(url))
        if standing is None or not standing.speed or now > standing.speed_at + SPEED_SECONDS:
            return None
        return standing.speed
