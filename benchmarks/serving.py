"""A server as a process of its own, for the figures of its API."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Served:
    """Where it answers."""

    url: str
    token: str
    pid: int
    root: Path

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def head(self, method: str, path: str, *more: str, body: bytes = b"") -> bytes:
        """A request as it goes over the wire."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {self.token}", *more]
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + body


@contextmanager
def served(root: Path, *, core: int | None = None, **variables: str) -> Iterator[Served]:
    """A server below `root`, on that core alone if one is given; ended at the end."""
    directories = {"STAGER_STATE_DIR": str(root / "state"), "STAGER_CACHE_DIR": str(root / "cache")}
    process = subprocess.Popen(
        [sys.executable, "-m", "stager", "serve", "--port", "0", "--json"],
        env=os.environ | directories | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        if core is not None:
            for thread in Path(f"/proc/{process.pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), {core})
        yield Served(ready["url"], (root / "state" / "token").read_text().strip(), process.pid, root)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
