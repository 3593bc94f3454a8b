"""What a test asks a guest to do with jobs of a batch system; the guest calls it by name (see hosts.py).

The batch system's queue is the test: it takes the script that was submitted and starts it where it wants.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from stager.cache.store import FileCache
from stager.mapper.dispatch.batch import BatchSystem
from stager.mapper.dispatch.command import CommandDispatcher
from stager.model.events import DispatchInput, DispatchOrder, JobEnded, JobSignal, JobStarted

NUMBER = "17"
"""Of every job."""
_told: dict[str, list[JobSignal]] = {}


@cache
def _dispatcher(root: str) -> CommandDispatcher:
    system = BatchSystem(submit=f"echo {NUMBER}", status=f"echo {NUMBER}", cancel="true")
    notes = Path(tempfile.mkdtemp())
    emit = _told.setdefault(root, []).append
    return CommandDispatcher(FileCache(root), notes, emit, system=system, poll_seconds=0.05, grace_seconds=1)


def hand_over(root: str, job: str, script: str, text: str) -> None:
    """Submit a job with one input, a file that contains `text`."""
    dispatcher = _dispatcher(root)
    entry = FileCache(root).put(f"k{job}", text.encode())
    item = DispatchInput("input", entry.object, entry.size, "f")
    dispatcher.hand_over(DispatchOrder(job, 1, "", ("/bin/sh", "-c", script), (), (item,), ()))


def look(root: str, job: str) -> list[str]:
    """The files of the run that the server's host sees now."""
    directory = Path(root, "jobs", job, "run")
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


def told(root: str, job: str) -> list[object]:
    """What the dispatcher has told of a job: ``started``, and of the end its status and its results."""
    found: list[object] = []
    for signal in _told.get(root, []):
        if signal.job == job and isinstance(signal, JobStarted):
            found.append("started")
        elif signal.job == job and isinstance(signal, JobEnded):
            found.append([signal.exit_code, str(signal.error), {r.name: r.sha256 for r in signal.results}])
    return found


def close(root: str) -> None:
    _dispatcher(root).close()
