"""When to try again: exponential back-off with jitter, capped, under a total deadline."""

from __future__ import annotations

from dataclasses import dataclass

MOST_DOUBLINGS = 30
"""Beyond them any cap is reached; a power of two with a thousand for exponent is no number any more."""


def outage_wait(failures: int, first_seconds: float, longest_seconds: float) -> float:
    """Seconds to wait after so many failures in a row (from 1), for something that is expected to come back."""
    return min(first_seconds * 2.0 ** min(max(failures - 1, 0), MOST_DOUBLINGS), longest_seconds)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long a fetch is tried.

    Attributes:
        attempts: tries in a row *without progress* before giving up; progress resets the count.
        first_seconds: wait before the second try.
        factor: growth of the wait per try.
        longest_seconds: cap of one wait, also of a Retry-After.
        deadline_seconds: cap of the whole fetch, from its first try.
    """

    attempts: int = 6
    first_seconds: float = 0.5
    factor: float = 2.0
    longest_seconds: float = 300.0
    deadline_seconds: float = 86_400.0

    def delay(self, tries: int, *, jitter: float, retry_after: float | None = None) -> float:
        """Seconds to wait after `tries` fruitless tries.

        Args:
            tries: tries so far, in a row, without progress (0: the last one made progress).
            jitter: a random number in [0, 1); half of the wait is drawn by it, so that many
                clients that failed together do not come back together.
            retry_after: what the origin asked for, in seconds; never undercut, only capped.
        """
        wait = min(self.first_seconds * self.factor ** min(max(tries, 1) - 1, 60), self.longest_seconds)
        wait *= 0.5 + 0.5 * jitter
        if retry_after is not None:
            wait = max(wait, min(retry_after, self.longest_seconds))
        return wait

    def next_try(
        self, tries: int, *, started: float, now: float, jitter: float, retry_after: float | None = None
    ) -> float | None:
        """The time of the next try, or None when it is time to give up.

        `started` and `now` are readings of one clock, in seconds.
        """
        if tries >= self.attempts:
            return None
        at = now + self.delay(tries, jitter=jitter, retry_after=retry_after)
        return at if at - started <= self.deadline_seconds else None
