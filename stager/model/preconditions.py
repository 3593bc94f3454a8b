"""Preconditions by name: anything a job waits for that is not a URL."""

from __future__ import annotations

import re

from stager.errors import InputError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+=-]{0,199}")


def check_precondition_name(name: str) -> str:
    """`name` itself.

    Raises:
        InputError: empty, too long, or with characters that a name can't have.
    """
    if not _NAME.fullmatch(name):
        remedy = (
            "give a URL as an input, not as a precondition"
            if "://" in name
            else "use letters, digits and . _ : @ + = - (at most 200)"
        )
        raise InputError(
            f"{name!r} is not the name of a precondition",
            cause="a name starts with a letter or digit",
            remedy=remedy,
        )
    return name
