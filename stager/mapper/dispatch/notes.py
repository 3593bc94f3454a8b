"""What a dispatcher has to remember of a hand-over across its own death, such as the batch system's number."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any

_SUFFIX = ".json"


class HandOverNotes:
    """One small JSON file a hand-over, on a local disk.

    Args:
        path: the directory; made if it does not exist, for the owner alone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def read(self, job: str, epoch: int) -> dict[str, Any]:
        """What was noted; empty when nothing was."""
        try:
            found: dict[str, Any] = json.loads(self._file(job, epoch).read_bytes())
        except FileNotFoundError:
            return {}
        return found

    def update(self, job: str, epoch: int, **changes: object) -> dict[str, Any]:
        """Note these values beside what is noted already: durable on return."""
        with self._lock:
            note = self.read(job, epoch) | changes
            write_whole(self._file(job, epoch), json.dumps(note).encode())
        return note

    def forget(self, job: str, epoch: int) -> None:
        """The hand-over is over and recorded elsewhere."""
        self._file(job, epoch).unlink(missing_ok=True)

    def all_but(self, open_jobs: Collection[str]) -> list[tuple[str, int]]:
        """The hand-overs (job, epoch) of other jobs that something is noted of."""
        names = (path.name.removesuffix(_SUFFIX) for path in self._path.glob(f"*{_SUFFIX}"))
        found = (name.rpartition(".") for name in names)
        return [(job, int(epoch)) for job, _, epoch in found if epoch.isdigit() and job not in open_jobs]

    def _file(self, job: str, epoch: int) -> Path:
        return self._path / f"{job}.{epoch}{_SUFFIX}"


def write_whole(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Make `path` hold `data`, in one step and durable; whoever reads it meanwhile sees the old or the new.

    Raises:
        OSError: it holds what it held.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    fd = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        draft.rename(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
