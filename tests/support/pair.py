"""Two hosts and one cache on the NFS share that both have mounted."""

from __future__ import annotations

import fcntl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.guests import Guest
from tests.support.hosts import Hosts


@dataclass(frozen=True)
class Pair:
    """Two hosts and one cache.

    Attributes:
        root: of the cache, as both hosts name it.
        truth: the same directory, as the NFS server sees it.
    """

    hosts: Hosts
    protocol: str
    first: Guest
    second: Guest
    root: str
    truth: Path

    def ask(self, guest: Guest, function: str, *arguments: object, timeout: float = 60.0) -> Any:
        """Call a function of guest_cache.py on that host, with this cache."""
        return guest.call(f"tests.support.guest_cache:{function}", self.root, *arguments, timeout=timeout)

    def objects(self) -> list[Path]:
        """All objects there are."""
        return sorted(path for path in self.truth.glob("objects/*/*/*") if len(path.name) == 64)

    def partials(self) -> list[str]:
        """The names of all unfinished files."""
        return sorted(path.name for path in self.truth.glob("partial/*/*"))

    def is_locked(self) -> bool:
        """Whether the NFS server holds a lock for somebody who had an unfinished file open."""
        for path in self.truth.glob("partial/*/*.part"):
            with path.open("rb+") as file:
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return True
        return False
