"""Telling those who wait for a job or a stage request that something happened to it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from stager.model.records import Changes


class Watch:
    """Callbacks by job or stage request. Calls them in the mapper's thread, so they must be quick."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: dict[str, list[Callable[[], None]]] = {}

    def add(self, job: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after each durable change of the job or stage request; returns what ends that."""
        with self._lock:
            self._callbacks.setdefault(job, []).append(callback)

        def remove() -> None:
            with self._lock:
                found = self._callbacks.get(job, [])
                if callback in found:
                    found.remove(callback)
                    if not found:
                        del self._callbacks[job]

        return remove

    def tell(self, changes: Changes) -> None:
        """Say that these records changed."""
        if not self._callbacks:
            return
        with self._lock:
            due = [callback for job in changes.jobs for callback in self._callbacks.get(job.id, ())]
            stages = dict.fromkeys(file.stage.id for file in changes.staged)
            due += [callback for stage in stages for callback in self._callbacks.get(stage, ())]
        for callback in due:
            callback()
