"""The server's token: made at its first start, read by those who may use it."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from stager.errors import AccessDeniedError, SettingsError

TOKEN_BYTES = 32
"""Random bytes in a token."""
SHORTEST = 32
"""Characters; a shorter one could be guessed."""


def ensure_token(path: Path) -> str:
    """The token in the file, made if there is none; only the owner can read it.

    Raises:
        SettingsError: the file can't be used, is open to others, or holds no token.
    """
    try:
        if not path.exists():
            _make(path)
        mode = path.stat().st_mode
        token = path.read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise SettingsError(f"token file {path} can't be used", cause=_reason(error)) from None
    if stat.S_IMODE(mode) & 0o077:
        raise SettingsError(
            f"token file {path} is open to others",
            cause=f"its mode is {stat.S_IMODE(mode):o}",
            remedy=f"remove it, and the server makes another; or `chmod 600 {path}`",
        )
    if len(token) < SHORTEST or not token.isprintable():
        raise SettingsError(
            f"token file {path} holds no token",
            cause=f"{SHORTEST} printable characters are needed",
            remedy="remove it, and the server makes another",
        )
    return token


def read_token(path: Path) -> str:
    """The token that a client shows.

    Raises:
        AccessDeniedError: there is none, or it may not be read.
    """
    try:
        return path.read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise AccessDeniedError(
            f"token file {path} can't be read",
            cause=_reason(error),
            remedy="set STAGER_TOKEN, or token_file to a copy of the server's",
        ) from None


def _make(path: Path) -> None:
    """Whole or not at all: a name of its own first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    fd = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(secrets.token_urlsafe(TOKEN_BYTES) + "\n")
        file.flush()
        os.fsync(fd)
    draft.rename(path)


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "it is not text"
