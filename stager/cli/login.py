"""Whom what a command asks for counts for."""

from __future__ import annotations

import os


def login_name() -> str:
    """Of the user of this process; a container may run as a number without a name."""
    import pwd

    number = os.getuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:
        name = str(number)
    return "".join(c if c.isascii() and (c.isalnum() or c in "._@+-") else "_" for c in name)[:64]
