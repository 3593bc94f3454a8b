"""How many streams a large file is brought by, found by trying. Pure: readings in, numbers out.

One stream is best where the path is short: more of them only stand in each other's way. Where each is slow
for itself (a long round trip with losses, a server that limits each connection) several are as many times
faster. Nobody can tell by looking; so it is tried, and kept only if it helped.
"""

from __future__ import annotations

from typing import Self

from stager.transfer.decisions import Receive
from stager.transfer.options import TransferOptions

SPLIT_BYTES = 4 << 20
"""A body of which less is to come is brought by one stream."""
READING_SECONDS = 0.25
"""Between two readings of the throughput; the first comes after as long."""
SETTLING_SECONDS = 1.0
"""What further streams bring is judged after this time: connections take some round trips to be fast."""
FAST_BYTES_PER_SECOND = 250e6
"""A stream of this speed is limited by a machine, not by the path."""
WORTH_SECONDS = 1.5
"""What one stream has left must take at least so long for more streams to be worth their connections."""
STEADY = 1.2
"""A stream that is so many times faster than it was a reading ago is still getting into its stride ..."""
MOST_READINGS = 4
"""... which it has had time for after so many."""
GAIN = 1.25
"""Least growth of throughput that pays for the streams that brought it; less is noise."""
BLOCK_SECONDS = 2.0
"""What a stream asks for at a time is what it brings in about this time: long enough that the round trip
between two requests does not count, short enough that the front is not far behind."""
LEAST_BLOCK = 1 << 20
MOST_BLOCK = 64 << 20


class Streams:
    """Decides for one file.

    Args:
        most: streams that it may have.
        total: bytes of the whole.
        now: seconds, on any clock.
        in_place: bytes in place.
    """

    def __init__(self, most: int, total: int, now: float, in_place: int) -> None:
        self.wanted = 1
        self.rate = 0.0
        """Bytes per second, of all streams together."""
        self._most = most
        self._total = total
        self._at = now
        self._in_place = in_place
        self._readings = 0
        self._alone = 0.0  # throughput of one stream, while more are on trial
        self._settled = False

    @classmethod
    def of(cls, order: Receive, options: TransferOptions, now: float, in_place: int) -> Self | None:
        """For the body that `order` says to take; None where there is to be one stream."""
        total, length = order.total, order.length
        if options.segments == 1 or total is None or length != total - order.offset or length < SPLIT_BYTES:
            return None
        return cls(options.segments, total, now, in_place)

    def read(self, now: float, in_place: int) -> int:
        """Take a reading if it is time to; the number of streams from now on.

        Args:
            now: as before.
            in_place: bytes in place.
        """
        if self._settled or now - self._at < (SETTLING_SECONDS if self._alone else READING_SECONDS):
            return self.wanted
        before, self.rate = self.rate, (in_place - self._in_place) / max(now - self._at, 1e-6)
        self._at, self._in_place = now, in_place
        self._readings += 1
        if self._alone:
            self._settled = True
            if self.rate < GAIN * self._alone:
                self.wanted = 1
        elif self.rate >= FAST_BYTES_PER_SECOND:
            self._settled = True
        elif self._total - in_place < WORTH_SECONDS * self.rate:
            pass  # for now: it may become slower
        elif self.rate and (self.rate < STEADY * before or self._readings >= MOST_READINGS):
            self._alone = self.rate
            self.wanted = self._most
        return self.wanted

    def block(self, unclaimed: int) -> int:
        """How many bytes a stream should ask for at a time, when so many are not asked for yet."""
        fair = min(self.rate * BLOCK_SECONDS / self.wanted, unclaimed / self.wanted)
        return max(LEAST_BLOCK, min(MOST_BLOCK, int(fair)))
