"""Preconditions by name: anything a job waits for that is not a URL."""

from __future__ import annotations

import re

from stager.errors import InputError
from stager.model.urls import refused_url

MAX_LENGTH = 200
"""Characters."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+=-]*")


def check_precondition_name(name: str) -> str:
    """`name` itself.

    Raises:
        InputError: empty, too long, or with characters that a name can't have.
    """
    if len(name) > MAX_LENGTH or not _NAME.fullmatch(name):
        remedy = (
            "give a URL as an input, not as a precondition"
            if "://" in name
            else f"use letters, digits and . _ : @ + = - (at most {MAX_LENGTH})"
        )
        raise InputError(
            f"{refused_url(name)} is not the name of a precondition",
            cause="it is too long"
            if len(name) > MAX_LENGTH
            else "a name starts with a letter or digit and has no spaces",
            remedy=remedy,
        )
    return name
