"""File systems that a test mounts; they go with the test."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.needs import needs


def _mount(*arguments: str | Path) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, check=False)
    needs(done.returncode == 0, f"the right to mount: {done.stderr.decode()}")


@contextmanager
def mounted(path: Path, options: str = "size=16m,mode=755", *, source: Path | None = None) -> Iterator[Path]:
    """A file system in memory at `path`; or, read-only, what is at `source`."""
    needs(os.geteuid() == 0, "root, to mount a file system")
    path.mkdir(parents=True, exist_ok=True)
    if source is None:
        _mount("-t", "tmpfs", "-o", options, "none", path)
    else:
        _mount("--bind", source, path)
    try:
        if source is not None:
            _mount("-o", "remount,bind,ro", path)
        yield path
    finally:
        unmount(path)


def remount(path: Path, options: str) -> None:
    """Mount it with these options from now on."""
    _mount("-o", f"remount,{options}", path)


def move(path: Path, to: Path) -> None:
    """Let what is mounted at `path` be mounted at `to` instead."""
    to.mkdir(parents=True, exist_ok=True)
    _mount("--move", path, to)


def unmount(path: Path) -> None:
    """Unmount what is there, if anything is."""
    while any(line.split()[4] == str(path) for line in Path("/proc/self/mountinfo").read_text().splitlines()):
        subprocess.run(["umount", "-l", path], check=True)
