"""Jobs as processes of this machine, which outlive the server.

Each job is started by a runner (`runner`) that claims the run, so that a hand-over repeated after a
crash starts nothing twice, and that records the end, so that a job which ended while no server was
there is not lost. The dispatcher waits for the runners of this server and of those before it on
their process file descriptors: one thread, no polling.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from stager import steps
from stager.cache.store import FileCache
from stager.errors import CacheError, CacheGoneError, CommandFailedError, JobError
from stager.mapper.dispatch import runner
from stager.mapper.dispatch.collect import Refusals, collect, cut_short
from stager.mapper.dispatch.prepare import Prepare, environment, prepare
from stager.mapper.dispatch.runs import RunFiles, RunsDirectory
from stager.model.events import DispatchOrder, JobEnded, JobRefused, JobSignal, JobStarted

log = logging.getLogger(__name__)

WORKERS = 4
"""Threads that prepare jobs and collect results."""
AGAIN_SECONDS = 5.0
"""After the file system refused for a cause that may pass (full, stale), a job is prepared again."""


@dataclass(slots=True, eq=False)
class _Run:
    """A hand-over in progress."""

    order: DispatchOrder
    files: RunFiles
    process: subprocess.Popen[bytes] | None = None  # None: started by a server before this one
    pidfd: int = -1
    started: bool = False
    stopped: bool = False


class LocalDispatcher:
    """Runs jobs as processes of this machine.

    Args:
        cache: holds the inputs, gives the job directories, takes the results.
        runs: directory on a local disk for claims and exit files.
        emit: takes the signals; called from several threads.
        grace_seconds: from SIGTERM to SIGKILL.
        prepare: makes a job's directory and shows it its inputs.
    """

    def __init__(
        self,
        cache: FileCache,
        runs: Path,
        emit: Callable[[JobSignal], None],
        *,
        grace_seconds: float,
        prepare: Prepare = prepare,
    ) -> None:
        self._cache = cache
        self._prepared = prepare
        self._runs = RunsDirectory(runs)
        self._emit = emit
        self._grace = grace_seconds
        self._active: dict[tuple[str, int], _Run] = {}
        self._refusals = Refusals()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._wake_fd, selectors.EVENT_READ)
        self._arrived: list[_Run] = []  # to be watched
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="dispatch")
        self._watcher = threading.Thread(target=self._watch, name="dispatch-watch", daemon=True)
        self._watcher.start()

    # -- the port -------------------------------------------------------------------------------

    def hand_over(self, order: DispatchOrder) -> None:
        """See `JobPlace.hand_over`."""
        with self._lock:
            refused = self._refusals.of(order.job, order.epoch)
            run = self._active.get((order.job, order.epoch))
            if run is None and refused is None:
                run = self._active[order.job, order.epoch] = _Run(
                    order, self._runs.files(order.job, order.epoch)
                )
                self._submit(self._begin, run)
                return
        if run is None and refused is not None:
            self._emit(refused)
        elif run is not None and run.started:
            self._emit(JobStarted(order.job, order.epoch))

    def holds(self, job: str, epoch: int) -> bool:
        """See `JobPlace.holds`."""
        with self._lock:
            return (job, epoch) in self._active

    def stop(self, job: str, epoch: int) -> None:
        """See `JobPlace.stop`."""
        with self._lock:
            run = self._active.get((job, epoch))
            if run is None:
                order = DispatchOrder(
                    job, epoch, name="", command=("-",), environment=(), inputs=(), results=()
                )
                run = self._active[job, epoch] = _Run(order, self._runs.files(job, epoch), stopped=True)
                self._submit(self._begin, run)
                return
            run.stopped = True
            self._terminate(run)

    def clean_up(self, job: str, epoch: int) -> None:
        """See `JobPlace.clean_up`."""
        self._submit(self._clean_up, job, epoch)

    def tidy(self, open_jobs: Collection[str]) -> None:
        """See `JobPlace.tidy`."""
        self._runs.settle_all_but(open_jobs, now=time.time())

    def close(self) -> None:
        """Stop watching. Jobs go on running; the next server finds them."""
        if self._closing.is_set():
            return
        self._closing.set()
        os.eventfd_write(self._wake_fd, 1)
        self._watcher.join()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for key in list(self._selector.get_map().values()):
            self._selector.unregister(key.fd)
            os.close(key.fd)
        self._selector.close()
        for run in self._active.values():
            if run.process is not None:
                run.process.returncode = 0  # not ours to wait for any more: it outlives this server

    # -- from hand-over to start ----------------------------------------------------------------

    def _submit(self, work: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the pool is shut down: the next server does it
            self._pool.submit(self._guarded, work, *arguments)

    @staticmethod
    def _guarded(work: Callable[..., None], *arguments: object) -> None:
        try:
            work(*arguments)
        except Exception:  # a fault of ours: say so where people look
            log.exception("internal fault in the dispatcher")

    def _begin(self, run: _Run) -> None:
        """Start the job, or find out what became of an earlier start under the same id."""
        if run.files.outcome() is not None or run.files.is_claimed():
            self._adopt(run)
        elif run.stopped:
            self._forbid(run)
        else:
            self._prepare(run)

    def _prepare(self, run: _Run) -> None:
        order = run.order
        try:
            directory = self._prepared(self._cache, order)
        except CacheError as error:
            self._not_prepared(run, error)
            return
        if isinstance(directory, JobRefused):
            self._end(run, directory)
            return
        steps.reached("dispatch.prepared")
        try:
            self._start(run, directory)
        except OSError as error:
            cause = error.strerror or str(error)
            failed = CommandFailedError(
                f"job {order.job} could not be started", cause=cause, remedy="see the server's log"
            )
            self._end(run, JobEnded(order.job, order.epoch, None, failed))

    def _not_prepared(self, run: _Run, error: CacheError) -> None:
        """A full disk at the hand-over must not fail a thousand jobs in a row: wait for it to pass."""
        if not error.transient:
            self._end(run, JobEnded(run.order.job, run.order.epoch, None, error))
            return
        level = (
            logging.DEBUG if isinstance(error, CacheGoneError) else logging.WARNING
        )  # that is said elsewhere
        log.log(level, "job %s waits to be started: %s", run.order.job, error)
        timer = threading.Timer(AGAIN_SECONDS, self._submit, (self._begin, run))
        timer.daemon = True
        timer.start()

    def _start(self, run: _Run, directory: Path) -> None:
        order = run.order
        arguments = [sys.executable, "-I", "-S", runner.__file__, str(run.files.base), str(self._grace), "--"]
        with (
            self._lock,
            (directory / "stdout").open("ab") as stdout,
            (directory / "stderr").open("ab") as stderr,
        ):
            if run.stopped:
                self._submit(self._begin, run)
                return
            run.process = subprocess.Popen(  # noqa: S603 - the command is the user's, as it has to be
                [*arguments, *order.command],
                cwd=directory,
                env=environment(order, directory),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
            run.pidfd = os.pidfd_open(run.process.pid)
            run.started = True
        steps.reached("dispatch.started")
        self._emit(JobStarted(order.job, order.epoch))
        self._watch_for(run)

    # -- a run that somebody started before -----------------------------------------------------

    def _adopt(self, run: _Run) -> None:
        """Watch a run that another process claimed; or take note of its end."""
        pid = run.files.living_runner()
        if pid is None:
            self._collect(run)
            return
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._collect(run)
            return
        if run.files.living_runner() != pid:  # it ended meanwhile, and the number may be another's
            os.close(pidfd)
            self._collect(run)
            return
        with self._lock:
            run.pidfd, run.started = pidfd, True
            if run.stopped:
                self._terminate(run)
        self._emit(JobStarted(run.order.job, run.order.epoch))
        self._watch_for(run)

    def _forbid(self, run: _Run) -> None:
        """Cancelled before it was started: make sure that it never is."""
        if run.files.forbid():
            self._end(
                run, JobEnded(run.order.job, run.order.epoch, None, JobError("cancelled before it started"))
            )
        else:
            self._adopt(run)

    def _terminate(self, run: _Run) -> None:
        if run.pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(run.pidfd, signal.SIGTERM)

    # -- from the end of the process to the end of the job --------------------------------------

    def _watch_for(self, run: _Run) -> None:
        with self._lock:
            self._arrived.append(run)
        os.eventfd_write(self._wake_fd, 1)

    def _watch(self) -> None:
        while not self._closing.is_set():
            for key, _ in self._selector.select():
                if key.fd == self._wake_fd:
                    self._take_arrived()
                else:
                    self._selector.unregister(key.fd)
                    self._submit(self._ended, key.data)

    def _take_arrived(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)
        with self._lock:
            arrived, self._arrived = self._arrived, []
        for run in arrived:
            self._selector.register(run.pidfd, selectors.EVENT_READ, run)

    def _ended(self, run: _Run) -> None:
        """The runner's process is gone."""
        with self._lock:
            os.close(run.pidfd)
            run.pidfd = -1
        process, run.process = run.process, None
        status = process.wait() if process is not None else 0
        if status == runner.LOST_CLAIM:
            self._adopt(run)
        else:
            self._collect(run)

    def _collect(self, run: _Run) -> None:
        """Turn what the runner left into the job's end."""
        outcome = run.files.outcome()
        if outcome is None:
            self._end(run, cut_short(run.order))
            return
        try:
            ended = collect(self._cache, run.order, outcome, stopped=run.stopped)
        except CacheError as error:
            log.warning("results of job %s wait to be kept: %s", run.order.job, error)
            timer = threading.Timer(AGAIN_SECONDS, self._submit, (self._collect, run))
            timer.daemon = True
            timer.start()
            return
        self._end(run, ended)

    def _end(self, run: _Run, signal_: JobSignal) -> None:
        with self._lock:
            self._active.pop((run.order.job, run.order.epoch), None)
            self._refusals.note(signal_)
        self._emit(signal_)

    def _clean_up(self, job: str, epoch: int) -> None:
        """Inputs and collected results go; what the job printed stays for people to read."""
        with self._lock:
            self._refusals.forget(job)
        self._runs.files(job, epoch).settle()
        self._cache.release(job)
