"""The end of what a job printed, as text that a page can show."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

TAIL_BYTES = 32 * 1024
"""Shown of each stream; all of it is to be had beside it."""
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a stream.

    Attributes:
        name: of the stream.
        text: without what moves a terminal's cursor.
        size: bytes of all of it.
        is_cut: whether there is more before it.
    """

    name: str
    text: str
    size: int
    is_cut: bool


def tail(name: str, path: Path) -> Tail:
    """The end of a file; of one that is not there yet, nothing."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            first = max(0, size - TAIL_BYTES)
            file.seek(first)
            data = file.read(TAIL_BYTES)
    except FileNotFoundError:
        return Tail(name, "", 0, is_cut=False)
    if first:
        data = data[data.find(b"\n") + 1 :]  # from the beginning of a line on
    text = _CONTROL.sub("", _ESCAPES.sub("", data.decode("utf-8", "replace"))).replace("\r\n", "\n")
    return Tail(name, text.replace("\r", "\n"), size, is_cut=first > 0)
