"""What a site can choose about transfers; plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class TransferOptions:
    """How patient, how far, how trusting.

    Attributes:
        read_timeout_seconds: longest silence of an origin, before and within an answer.
        low_speed_bytes_per_second: mean speed over `low_speed_seconds` below which a transfer is
            broken off, to be resumed; 0: never.
        low_speed_seconds: see there.
        max_redirects: hops from the URL that was asked for.
        unproven: what to do with a body that has neither length nor digest.
        max_file_bytes: a larger file is not taken; 0: any.
        max_fetch_seconds: longest time of one try.
        fresh_min_seconds: how long a copy is used without asking when the origin says nothing.
        fresh_max_seconds: longest guess from Last-Modified.
        segments: most streams that a large file is brought by, if one is slow; 1: always one.
        overlap_bytes: asked for again when a transfer is gone on with, and compared with what is in place.
        absent_seconds: how long a file that the origin does not have is not asked for again; 0: it is.
        html_hosts: hosts (``*`` is a pattern) whose pages are data, even if they look like a login.
    """

    read_timeout_seconds: float = 60.0
    low_speed_bytes_per_second: float = 100.0
    low_speed_seconds: float = 60.0
    max_redirects: int = 10
    unproven: Literal["refuse", "accept"] = "refuse"
    max_file_bytes: int = 0
    max_fetch_seconds: float = 86_400.0
    fresh_min_seconds: float = 60.0
    fresh_max_seconds: float = 86_400.0
    segments: int = 6
    overlap_bytes: int = 65_536
    absent_seconds: float = 0.0
    html_hosts: tuple[str, ...] = ()
