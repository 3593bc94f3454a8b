"""How often somebody may do something: a bucket each, which fills with time and is emptied by doing it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class _Bucket:
    level: float
    at: float


class Buckets:
    """Buckets by name. Of those that were not used for longest, the ones beyond `most` are forgotten: they are full.

    Args:
        per_second: how fast each fills.
        burst: how much each holds.
        most: how many there are at once.
    """

    def __init__(self, per_second: float, burst: float, most: int = 10_000) -> None:
        self._per_second = per_second
        self._burst = burst
        self._most = most
        self._of: dict[str, _Bucket] = {}

    def take(self, name: str, now: float) -> float:
        """Take one out of that bucket: 0.0; or, if it is empty, the seconds until there is one again."""
        bucket = self._of.pop(name, None)
        if bucket is None:
            bucket = _Bucket(self._burst, now)
            while len(self._of) >= self._most:
                del self._of[next(iter(self._of))]
        self._of[name] = bucket  # the last one again
        bucket.level = min(self._burst, bucket.level + (now - bucket.at) * self._per_second)
        bucket.at = now
        if bucket.level >= 1.0:
            bucket.level -= 1.0
            return 0.0
        return (1.0 - bucket.level) / self._per_second

    def __len__(self) -> int:
        return len(self._of)
