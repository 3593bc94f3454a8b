"""Hand-overs in progress, for places where jobs run out of this server's sight."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from stager.cache.store import FileCache
from stager.errors import CacheError
from stager.mapper.dispatch.collect import Refusals, collect
from stager.mapper.dispatch.executor import DelayedExecutor
from stager.mapper.dispatch.prepare import prepare
from stager.mapper.dispatch.runs import Outcome
from stager.model.events import DispatchOrder, JobEnded, JobRefused, JobSignal, JobStarted

log = logging.getLogger(__name__)

AGAIN_SECONDS = 5.0
"""After the file system refused for a cause that may pass (full, stale), a step is done again."""


@dataclass(slots=True, eq=False)
class HandOver:
    """One of them; a place derives what else it has to know."""

    order: DispatchOrder
    started: bool = False
    stopped: bool = False
    ending: bool = False  # its results are being collected

    @property
    def id(self) -> tuple[str, int]:
        """Job and epoch."""
        return self.order.job, self.order.epoch


_Run = TypeVar("_Run", bound=HandOver)


class HandOvers(Generic[_Run]):
    """Which hand-overs are in progress; each is told of once, whoever finds out and how often.

    Args:
        cache: gives the job directories, takes the results.
        emit: takes the signals; called from several threads.
        executor: does again what the file system refused.
        make: makes the record of a hand-over.
    """

    def __init__(
        self,
        cache: FileCache,
        emit: Callable[[JobSignal], None],
        executor: DelayedExecutor,
        make: Callable[[DispatchOrder], _Run],
    ) -> None:
        self._cache = cache
        self._emit = emit
        self._executor = executor
        self._make = make
        self._lock = threading.Lock()
        self._active: dict[tuple[str, int], _Run] = {}
        self._refusals = Refusals()
        self._closed = False

    def take(self, order: DispatchOrder) -> _Run | None:
        """A new hand-over; None when it is known, and what is known of it was told again."""
        with self._lock:
            refused = self._refusals.of(order.job, order.epoch)
            run = self._active.get((order.job, order.epoch))
            if run is None and refused is None:
                run = self._active[order.job, order.epoch] = self._make(order)
                return run
        if run is None and refused is not None:
            self._tell(refused)
        elif run is not None and run.started:
            self._tell(JobStarted(order.job, order.epoch))
        return None

    def stop(self, job: str, epoch: int) -> tuple[_Run, bool]:
        """Mark the hand-over as stopped; it, and whether it was unknown until now."""
        with self._lock:
            run = self._active.get((job, epoch))
            new = run is None
            if run is None:
                unknown = DispatchOrder(
                    job, epoch, name="", command=("-",), environment=(), inputs=(), results=()
                )
                run = self._active[job, epoch] = self._make(unknown)
            run.stopped = True
        return run, new

    def get(self, job: str, epoch: int) -> _Run | None:
        """The hand-over, if it is in progress."""
        with self._lock:
            return self._active.get((job, epoch))

    def holds(self, run: _Run) -> bool:
        """Whether this very hand-over is still in progress."""
        with self._lock:
            return self._active.get(run.id) is run

    def is_stopped(self, run: _Run) -> bool:
        """Whether somebody asked for its end by now."""
        with self._lock:
            return run.stopped

    def active(self) -> list[_Run]:
        """All in progress."""
        with self._lock:
            return list(self._active.values())

    # -- steps ----------------------------------------------------------------------------------

    def prepare(self, run: _Run, again: Callable[[_Run], None]) -> Path | None:
        """Make the job's directory and pin its inputs.

        None when the hand-over ended by that (refused, failed), or has to wait: then `again` is called.
        """
        try:
            directory = prepare(self._cache, run.order)
        except CacheError as error:
            if error.transient:
                log.warning("job %s waits to be handed over: %s", run.order.job, error)
                self._executor.submit_after(AGAIN_SECONDS, again, run)
            else:
                self.end(run, JobEnded(*run.id, None, error))
            return None
        if isinstance(directory, JobRefused):
            self.end(run, directory)
            return None
        return directory

    def start(self, run: _Run, seconds: float = 0.0) -> None:
        """Tell, once, that the command runs, and for how many seconds it has."""
        with self._lock:
            if run.started or self._active.get(run.id) is not run:
                return
            run.started = True
        self._tell(JobStarted(*run.id, seconds=seconds))

    def collect(self, run: _Run, outcome: Outcome) -> None:
        """Keep the results and tell the end."""
        with self._lock:
            if run.ending or self._active.get(run.id) is not run:
                return
            run.ending = True
        if outcome.exit_code is not None:
            self.start(run, outcome.seconds)
        self._collect(run, outcome)

    def _collect(self, run: _Run, outcome: Outcome) -> None:
        try:
            ended = collect(self._cache, run.order, outcome, stopped=self.is_stopped(run))
        except CacheError as error:
            log.warning("results of job %s wait to be kept: %s", run.order.job, error)
            self._executor.submit_after(AGAIN_SECONDS, self._collect, run, outcome)
            return
        self.end(run, ended)

    def end(self, run: _Run, signal: JobSignal) -> None:
        """Tell the end (or the refusal), once."""
        with self._lock:
            if self._active.get(run.id) is not run:
                return
            del self._active[run.id]
            self._refusals.note(signal)
        self._tell(signal)

    def forget(self, job: str) -> None:
        """The end of the job is recorded."""
        with self._lock:
            self._refusals.forget(job)

    def close(self) -> None:
        """Tell nothing any more."""
        self._closed = True

    def _tell(self, signal: JobSignal) -> None:
        if not self._closed:
            self._emit(signal)
