"""What a request for bytes asks: which of them, and under which conditions (RFC 9110, 13 and 14). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

MAX_RANGES = 100
"""Parts that one request may ask for."""
GAP_BYTES = 80
"""Ranges this near to each other are sent as one: the head of a part takes as much."""
_UNIT = re.compile(r"bytes[ \t]*=", re.IGNORECASE)
_SPEC = re.compile(r"([0-9]{0,30})-([0-9]{0,30})")
_TAGS = re.compile(r'(W/)?"([^"]*)"')


class Span(NamedTuple):
    """Bytes of a file from `start` up to, but not including, `stop`."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        """How many."""
        return self.stop - self.start


class RangesRefusedError(ValueError):
    """What was asked for has no byte of the file, or is too many ranges; the message says which."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The headers of a request that choose what it is answered with; empty: not sent.

    Attributes:
        method: of the request.
        range: ``Range``.
        if_match: ``If-Match``.
        if_none_match: ``If-None-Match``.
        if_range: ``If-Range``.
        sendfile_type: ``X-Sendfile-Type``: how a proxy in front takes files over.
    """

    method: str = "GET"
    range: str = ""
    if_match: str = ""
    if_none_match: str = ""
    if_range: str = ""
    sendfile_type: str = ""

    def fails(self, sha256: str) -> bool:
        """Whether another file was wanted than the one with this digest."""
        return bool(self.if_match) and not _lists(self.if_match, sha256, weak=False)

    def has(self, sha256: str) -> bool:
        """Whether who asks has this file already."""
        return bool(self.if_none_match) and _lists(self.if_none_match, sha256, weak=True)

    def spans(self, sha256: str, size: int) -> list[Span] | None:
        """The parts to send of the file with this digest and size; None: all of it.

        Raises:
            RangesRefusedError: there is nothing to send.
        """
        wanted = self.method == "GET" and bool(self.range) and self.if_range.strip() in {"", f'"{sha256}"'}
        return ranges(self.range, size) if wanted else None


def ranges(text: str, size: int) -> list[Span] | None:
    """The parts of a file of `size` bytes that a ``Range`` asks for, in its order; None: it says nothing that counts.

    Those that overlap, or nearly touch, are one.

    Raises:
        RangesRefusedError: none of them has a byte of the file, or they are too many.
    """
    unit = _UNIT.match(text.strip())
    if unit is None or not size:
        return None
    specs = [part.strip() for part in text.strip()[unit.end() :].split(",")]
    found = [_SPEC.fullmatch(part) for part in specs if part]
    spans = []
    for match in found:
        if match is None:
            return None
        first, last = match.groups()
        if not (first or last) or (first and last and int(first) > int(last)):
            return None
        if not first:
            spans.append(Span(max(size - int(last), 0), size))
        else:
            spans.append(Span(int(first), min(int(last) + 1, size) if last else size))
    if not spans:
        return None
    if len(spans) > MAX_RANGES:
        raise RangesRefusedError(f"{len(spans)} ranges at once; {MAX_RANGES} are taken")
    within = [span for span in spans if span.start < span.stop]
    if not within:
        raise RangesRefusedError(f"the file has {size} bytes")
    return _joined(within)


def _joined(spans: list[Span]) -> list[Span]:
    joined: list[tuple[int, Span]] = []  # with the place of the first one that went into it
    for place, span in sorted(enumerate(spans), key=lambda found: found[1]):
        if joined and span.start <= joined[-1][1].stop + GAP_BYTES:
            before, last = joined[-1]
            joined[-1] = min(before, place), Span(last.start, max(last.stop, span.stop))
        else:
            joined.append((place, span))
    return [span for _, span in sorted(joined)]


def _lists(header: str, sha256: str, *, weak: bool) -> bool:
    """Whether the list of entity tags has that of the digest; a weak one is the same for those who may take it so."""
    if header.strip() == "*":
        return True
    return any(tag == sha256 and (weak or not mark) for mark, tag in _TAGS.findall(header))
