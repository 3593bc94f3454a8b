"""How much an origin is given at once: learnt from how it answers.

*Limit.* It begins at the configured maximum. A sign of overload (429, 503, a Retry-After, a connection
that failed, broke or stalled) halves it, and so does a success rate below one half over the last
tries; it never falls below 1. Tries that had begun before a step down don't cause the next one. As many
successes in a row as the limit allows at once add 1, up to the maximum: the additive increase and
multiplicative decrease of TCP. A Retry-After also pauses the whole origin until then.

A success is whatever shows that the origin can cope: a file, but also the answer that there is no such
file, or bytes that are not the ones asked for. A full cache, a lost worker or a cancelled fetch say
nothing about it.

*Portion.* Files that are small by the mean of those that came may share a seat: one connection, one
after the other. Of an origin of which nothing is known a seat takes one; with the small files that
complete it grows to twice as many from seat to seat.

Pure: time comes in as an argument. What was learnt is not kept over a restart.
"""

from __future__ import annotations

from enum import Enum, auto

from stager.errors import (
    ConnectionFailedError,
    DigestMismatchError,
    FetchError,
    FetchTooLongError,
    FileTooLargeError,
    IncompleteError,
    OriginBusyError,
    OriginRefusedError,
    ProtocolError,
    RedirectError,
    StagerError,
    TlsError,
    UnprovenLengthError,
)

TRIES_REMEMBERED = 16
"""Tries over which the success rate is taken."""
FEWEST_TRIES = 8
"""Fewer tries than that make no rate."""
SEAT_BYTES = 8 << 20
"""What a seat carries at most, by the mean size: about a second of a good connection."""
MEAN_WEIGHT = 1 / 8
"""Weight of the newest size in the mean: eight files of another size change it."""

_OVERLOADED = frozenset({429, 503})
_IN_PREPARATION = 202
_REMEMBERED = (1 << TRIES_REMEMBERED) - 1


class Verdict(Enum):
    """What a try says of its origin."""

    COPES = auto()
    FAILS = auto()
    OVERLOADED = auto()
    NOTHING = auto()


def judge(error: StagerError) -> Verdict:
    """What a failed try says of its origin."""
    match error:
        case OriginBusyError():
            status = error.details.get("status")
            if status == _IN_PREPARATION:  # this file is not there yet (on tape, say); others may be
                return Verdict.COPES
            asked_to_wait = error.retry_after is not None
            return Verdict.OVERLOADED if asked_to_wait or status in _OVERLOADED else Verdict.FAILS
        case ConnectionFailedError() | FetchTooLongError():
            return Verdict.OVERLOADED
        case IncompleteError() | ProtocolError():
            return Verdict.FAILS
        case (
            OriginRefusedError()
            | DigestMismatchError()
            | FileTooLargeError()
            | UnprovenLengthError()
            | RedirectError()
            | TlsError()
        ):
            return Verdict.COPES
    return Verdict.NOTHING


class Origin:
    """One origin: how many seats it may have, and how many files go into one.

    Args:
        name: scheme, host and port.
        maximum: seats at once, at most.
        small_bytes: what counts as a small file.
    """

    __slots__ = (
        "_fresh",
        "_in_a_row",
        "_mean",
        "_outcomes",
        "_small",
        "_small_bytes",
        "_tries",
        "in_flight",
        "last_error",
        "limit",
        "maximum",
        "name",
        "paused_until",
        "round",
    )

    def __init__(self, name: str, *, maximum: int, small_bytes: int) -> None:
        self.name = name
        self.maximum = maximum
        self.limit = maximum
        self.round = 0
        """Steps down so far; a seat remembers the one in which it began."""
        self.in_flight = 0
        self.paused_until = 0.0
        self.last_error = ""
        self._small_bytes = small_bytes
        self._outcomes = 0  # of the last tries, one bit each, 1 for a success; the last one is the lowest
        self._tries = 0  # how many of the bits mean something
        self._fresh = 0  # how many of them are since the last step down
        self._in_a_row = 0
        self._mean: float | None = None  # bytes
        self._small = 0  # small files completed

    # -- limit ----------------------------------------------------------------------------------

    def succeeded(self, begun: int) -> None:
        """A try that began in the round `begun` shows that the origin copes."""
        if begun != self.round:
            return
        self._note(success=True)
        if self.limit == self.maximum:
            return
        self._in_a_row += 1
        if self._in_a_row >= self.limit:
            self.limit += 1
            self._in_a_row = 0

    def failed(self, error: StagerError, begun: int, pause_until: float) -> None:
        """A try that began in the round `begun` ended with `error`.

        `pause_until` is when a Retry-After in it, if there is one, is over.
        """
        verdict = judge(error)
        if verdict is Verdict.NOTHING:
            return
        if verdict is Verdict.COPES:
            self.succeeded(begun)
            return
        self.last_error = error.code
        if isinstance(error, FetchError) and error.retry_after is not None:
            self.paused_until = max(self.paused_until, pause_until)
        if begun != self.round:
            return
        self._note(success=False)
        self._in_a_row = 0
        if verdict is Verdict.OVERLOADED or self._fails_mostly():
            self.limit = max(1, self.limit // 2)
            self.round += 1
            self._fresh = 0

    @property
    def recent_successes(self) -> int:
        """Of the last tries."""
        return self._outcomes.bit_count()

    @property
    def recent_failures(self) -> int:
        """Of the last tries."""
        return self._tries - self.recent_successes

    def _note(self, *, success: bool) -> None:
        self._outcomes = (self._outcomes << 1 | success) & _REMEMBERED
        self._tries = min(self._tries + 1, TRIES_REMEMBERED)
        self._fresh = min(self._fresh + 1, TRIES_REMEMBERED)

    def _fails_mostly(self) -> bool:
        fresh = self._outcomes & ((1 << self._fresh) - 1)
        return self._fresh >= FEWEST_TRIES and 2 * fresh.bit_count() < self._fresh

    # -- portion --------------------------------------------------------------------------------

    def learn(self, size: int) -> None:
        """A file of `size` bytes has come."""
        self._mean = float(size) if self._mean is None else self._mean + MEAN_WEIGHT * (size - self._mean)
        if size <= self._small_bytes:
            self._small += 1

    @property
    def is_small(self) -> bool:
        """Whether its files are known to be small."""
        return self._mean is not None and self._mean <= self._small_bytes

    def portion(self, most: int) -> int:
        """How many files go into one seat, of `most` at most."""
        if most == 1 or self._mean is None or self._mean > self._small_bytes:
            return 1
        return max(1, min(most, self._small + 1, SEAT_BYTES // max(1, int(self._mean))))
