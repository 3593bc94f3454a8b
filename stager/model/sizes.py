"""Sizes and rates as people write them: ``100MB``, ``4 GiB``, ``100MB/s``; and parts: ``1%``."""

from __future__ import annotations

import re

from stager.errors import InputError

_FORM = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*([kmgtp]?)(i?)b?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def parse_size(text: str) -> int:
    """Bytes that `text` says; ``k``, ``M``, ``G``, ``T``, ``P`` are powers of 1000, ``Ki``, ``Mi`` ... of 1024.

    Raises:
        InputError: not a number with such a unit.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None or (found[3] and not found[2]):
        raise InputError(
            f"{text!r} is no size",
            cause="a number with B, kB, MB, GB, TB, or KiB, MiB, GiB, TiB is needed",
            remedy="write, for instance, 100GB",
        )
    return int(float(found[1]) * (1024 if found[3] else 1000) ** _POWERS[found[2].lower()])


def parse_rate(text: str) -> int:
    """Bytes per second that `text` says, with or without ``/s``.

    Raises:
        InputError: not a size per second.
    """
    try:
        return parse_size(text.strip().removesuffix("/s"))
    except InputError as error:
        raise InputError(
            f"{text!r} is no rate", cause=error.cause + " per second", remedy="write, for instance, 100MB/s"
        ) from None


def parse_part(text: str) -> float:
    """The part that `text` says (``1%`` or ``0.01``), more than 0 and at most 1.

    Raises:
        InputError: not such a number.
    """
    plain = text.strip()
    try:
        part = float(plain.removesuffix("%")) / (100 if plain.endswith("%") else 1)
    except ValueError:
        part = 0.0
    if not 0 < part <= 1:
        raise InputError(
            f"{text!r} is no part", cause="more than 0 and at most 100% are", remedy="write, for instance, 1%"
        )
    return part


def written(count: int) -> str:
    """A size that `parse_size` reads, short and not less than `count` bytes: ``12.4GB``."""
    unit, name = 1, "B"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if count < unit * 1000:
            break
        unit, name = unit * 1000, larger
    tenths = -(-count * 10 // unit)
    return f"{tenths // 10}.{tenths % 10}{name}" if tenths % 10 else f"{tenths // 10}{name}"
