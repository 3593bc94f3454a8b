"""How clients without configuration find the server, and how its supervisor learns that it is up."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

FILE = "server.json"
"""In the state directory: ``url`` and ``pid`` of the server that runs, and the root of its ``cache``."""


@contextmanager
def announced(state_dir: Path, url: str, cache: Path | None = None) -> Iterator[None]:
    """Inside, the state directory says where the server is."""
    path = state_dir / FILE
    draft = path.with_name(f"{FILE}.{os.getpid()}")
    draft.write_text(json.dumps({"url": url, "pid": os.getpid(), "cache": str(cache or "")}) + "\n")
    draft.chmod(0o600)
    draft.rename(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def announced_url(state_dir: Path) -> str | None:
    """Where the server of this state directory is; None when none runs.

    A file left by a server that was killed names a process that is gone. It is not believed: its port
    may be another user's by now, who must not be shown the token.
    """
    return _announced(state_dir, "url")


def announced_cache(state_dir: Path) -> str | None:
    """The root of the cache that the server of this state directory looks after; None when none runs."""
    return _announced(state_dir, "cache")


def _announced(state_dir: Path, name: str) -> str | None:
    try:
        found = json.loads((state_dir / FILE).read_bytes())
        os.kill(int(found["pid"]), 0)
        return str(found[name])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def notify(state: str) -> None:
    """Tell systemd (``READY=1``, ``STOPPING=1``, ...), if it started us and asked for it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.setblocking(False)  # a supervisor that does not listen stops nobody's work
        try:
            channel.sendto(state.encode(), address)
        except OSError as error:
            log.warning("the supervisor was not told %s: %s", state.partition("\n")[0], error)
