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


def asking_name() -> str:
    """Whom what is asked of the server counts for: the login name, which the server's own token says nothing of.

    Empty where a user shows a token of his own: the server knows him by that.
    """
    from stager.cli.connect import shown_token
    from stager.errors import AccessDeniedError
    from stager.model.accounts import is_users_token
    from stager.settings import load_settings

    try:
        return "" if is_users_token(shown_token(load_settings())) else login_name()
    except AccessDeniedError:  # there is none: the command will say so, if it needs one
        return login_name()
