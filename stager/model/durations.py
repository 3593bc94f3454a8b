"""Lengths of time as people write them: ``90s``, ``15m``, ``12h``, ``7d``, ``2w``, ``1y``."""

from __future__ import annotations

import re

from stager.errors import InputError

_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0, "y": 31_536_000.0}
_FORM = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*([a-z]+)")


def parse_duration(text: str) -> float:
    """Seconds that `text` says.

    Raises:
        InputError: not a number with a unit.
    """
    found = _FORM.fullmatch(text.strip().lower())
    if found is None or found[2] not in _SECONDS:
        raise InputError(
            f"{text!r} is no length of time",
            cause=f"a number and one of {', '.join(_SECONDS)} are needed",
            remedy="write, for instance, 7d",
        )
    return float(found[1]) * _SECONDS[found[2]]
