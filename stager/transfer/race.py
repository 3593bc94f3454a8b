"""Which source of a file is read, by what was seen of its origin: left when it fails, or when another is quicker."""

from __future__ import annotations

from typing import Any

from stager.clock import Clock
from stager.errors import CancelledError, FetchError
from stager.transfer.exchange import no_connection
from stager.transfer.plan import TransferPlan
from stager.transfer.standings import Standings

WATCH_SECONDS = 5.0
"""A source is watched so long before it is called slow: a connection takes a while to reach its speed."""
WORTH_SECONDS = 10.0
"""What would be over sooner is not worth another connection."""
TELLING_BYTES = 1 << 20
"""From so many bytes on their speed says something about the origin."""


class Race:
    """The sources of one try that has several.

    Args:
        plan: of the try.
        standings: what was seen of origins.
        clock: for `standings`.
    """

    def __init__(self, plan: TransferPlan, standings: Standings, clock: Clock) -> None:
        self._plan = plan
        self._standings = standings
        self._clock = clock
        self._failures: list[FetchError] = []
        self._begin()
        self._given_up: set[str] = set()  # for being slow

    def _begin(self) -> None:
        self._received = 0
        self._seconds = 0.0

    @property
    def tried(self) -> tuple[dict[str, Any], ...]:
        """The sources that failed: URL and error."""
        return tuple(map(_told, self._failures))

    def received(self, count: int, seconds: float, left: int | None) -> None:
        """So many bytes came in so many seconds, and so many are left (None: nobody knows).

        Raises:
            ConnectionFailedError: another source is likely to be quicker by far.
        """
        self._received += count
        self._seconds += seconds
        source = self._plan.sources.current.text
        if self._seconds < WATCH_SECONDS or left is None or not self._plan.sources.may_move:
            return
        speed = self._received / self._seconds
        slow = left > speed * WORTH_SECONDS and source not in self._given_up
        if slow and self._standings.promise_more(self._plan.sources.left, speed, self._clock.time()):
            self._given_up.add(source)
            raise no_connection(
                self._plan.sources.current,
                f"{speed:,.0f} bytes per second, and another source may be quicker",
            )

    def turn(self, error: FetchError, in_place: int) -> None:
        """Go on at the next source.

        Args:
            error: what came of the present one.
            in_place: bytes in the partial.

        Raises:
            FetchError: there is none; `error`, or one of those before that may pass.
        """
        if isinstance(error, CancelledError):
            raise error
        source = self._plan.sources.current.text
        slow = source in self._given_up and self._seconds > 0
        if slow:
            self._note_speed(source)
        elif error.transient:
            self._standings.failed(source, self._clock.time())
        self._failures.append(error)
        self._begin()
        if not self._plan.turn(in_place, later=slow):
            raise self._verdict()

    def won(self) -> None:
        """The present source delivered."""
        if self._received >= TELLING_BYTES:
            self._note_speed(self._plan.sources.current.text)

    def _note_speed(self, source: str) -> None:
        if self._seconds > 0:
            self._standings.delivered(source, self._received / self._seconds, self._clock.time())

    def _verdict(self) -> FetchError:
        """One error for all: of a kind that may pass if any of them may, and with all that was tried."""
        first = next((error for error in self._failures if error.transient), self._failures[0])
        others = [error for error in self._failures if error is not first]
        if not others:
            return first
        told = "; ".join(f"{error.details.get('url')}: {error.cause}" for error in others)
        error = first.with_cause(f"{first.cause}; nor at its other URLs: {told}")
        error.details["tried"] = [_told(other) for other in others]
        return error


def _told(error: FetchError) -> dict[str, Any]:
    return {"url": error.details.get("url"), "error": error.to_dict()}
