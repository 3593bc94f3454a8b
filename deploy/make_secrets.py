"""Writes the passwords of a compose project into the volume that its services read: once, unless given.

    python make_secrets.py DIRECTORY

``REDIS_PASSWORD``, ``POSTGRES_PASSWORD`` and ``FLOWER_PASSWORD`` in the environment are taken over; for
one that is not given the file stays as it is, and is made with a random password if there is none.
Passwords are never printed.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from pathlib import Path

ALLOWED = re.compile(r"[A-Za-z0-9._~+/=-]{12,}")
"""What needs no quoting in any of the files below."""
RANDOM_BYTES = 24
FOR_GROUP, FOR_OWNER = 0o440, 0o400


def main(directory: Path) -> None:
    """Write all files; each has its final content as soon as it has its name."""
    redis, postgres, flower = (password(directory, name) for name in ("redis", "postgres", "flower"))
    put(directory / "redis_password", redis)
    put(directory / "redis.conf", f"requirepass {redis}")
    put(directory / "postgres_password", postgres)
    put(directory / "pgpass", f"*:*:*:*:{postgres}", FOR_OWNER)  # libpq refuses one that others can read
    put(directory / "flower_password", flower)


def password(directory: Path, name: str) -> str:
    """The one given, else the one in place, else a new one."""
    variable = f"{name.upper()}_PASSWORD"
    given = os.environ.get(variable, "")
    if given and not ALLOWED.fullmatch(given):
        sys.exit(
            f"error: {variable} needs at least 12 characters, all of them letters, digits or . _ ~ + / = -"
        )
    file = directory / f"{name}_password"
    if given:
        return given
    return file.read_text("ascii").strip() if file.exists() else secrets.token_urlsafe(RANDOM_BYTES)


def put(file: Path, text: str, mode: int = FOR_GROUP) -> None:
    """Write a file, unless that is what it holds."""
    if file.exists() and file.read_text("ascii") == text + "\n":
        return
    draft = file.with_name(f".{file.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "w") as out:
        out.write(text + "\n")
        out.flush()
        os.fsync(out.fileno())
    draft.rename(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
