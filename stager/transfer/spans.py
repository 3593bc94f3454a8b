"""Which bytes of a file are in place, and which are being brought by whom: arithmetic, without I/O.

A file that several streams bring grows at its front and, a block at a time, beyond it::

    0 ------------ front === gap === [ span: at ..... stop ) === gap === total

What lies before `front` is in place; a span beyond it is in place up to `at`. Blocks are given out in order
and close to the front, so that the hash, which must read in order, is never far behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


class Span:
    """Bytes of the file from `start` to `stop`; those before `at` are in place.

    Somebody brings the rest.
    """

    __slots__ = ("at", "start", "stop")

    def __init__(self, start: int, stop: int, at: int) -> None:
        self.start = start
        self.stop = stop
        self.at = at

    def __repr__(self) -> str:
        return f"Span({self.start}, {self.stop}, at={self.at})"

    @property
    def left(self) -> int:
        """Bytes that are still to come."""
        return self.stop - self.at


class Spans:
    """The state of one file of `total` bytes.

    Args:
        total: bytes of the whole.
        front: all before are in place.
        beyond: ranges beyond the front, start and stop, that are in place too; see `beyond`.
    """

    def __init__(self, total: int, front: int, beyond: Iterable[Sequence[int]] = ()) -> None:
        self.total = total
        self.front = front
        self._spans = [Span(start, stop, stop) for start, stop in sorted(beyond, key=lambda found: found[0])]
        self._advance()

    @property
    def in_place(self) -> int:
        """Bytes in place, wherever they lie."""
        return self.front + sum(span.at - max(span.start, self.front) for span in self._spans)

    @property
    def complete(self) -> bool:
        """Whether all bytes are in place."""
        return self.front == self.total

    @property
    def beyond(self) -> list[list[int]]:
        """What is in place beyond the front: start and stop of each range, in order. A later `Spans` takes it."""
        found: list[list[int]] = []
        for span in self._spans:
            if span.at <= max(span.start, self.front):
                continue
            if found and found[-1][1] == span.start:
                found[-1][1] = span.at
            else:
                found.append([span.start, span.at])
        return found

    @property
    def unclaimed(self) -> int:
        """Bytes that nobody brings yet."""
        return sum(stop - start for start, stop in self._gaps())

    def claim(self, most: int) -> Span | None:
        """The first bytes that nobody brings, at most so many; the caller is to bring them. None: there are none."""
        gap = next(self._gaps(), None)
        if gap is None:
            return None
        start, stop = gap
        span = Span(start, min(stop, start + most), start)
        self._spans.append(span)
        self._spans.sort(key=lambda one: one.start)
        return span

    def wrote(self, span: Span, count: int) -> None:
        """So many bytes more of `span` are in place."""
        span.at += count
        assert span.at <= span.stop
        self._advance()

    def give_up(self, span: Span) -> None:
        """Nobody brings the rest of `span` any more; what is in place of it stays."""
        span.stop = span.at
        self._spans = [one for one in self._spans if one.start < one.stop]
        self._advance()

    def _advance(self) -> None:
        """Move the front over what is in place now."""
        while self._spans and self._spans[0].start <= self.front:
            first = self._spans[0]
            self.front = max(self.front, first.at)
            if first.left:
                return
            del self._spans[0]

    def _gaps(self) -> Iterator[tuple[int, int]]:
        """Ranges that are neither in place nor taken, in order."""
        at = self.front
        for span in self._spans:
            if span.start > at:
                yield at, span.start
            at = max(at, span.stop)
        if at < self.total:
            yield at, self.total
