"""Jobs in a batch system, which is spoken to by the commands that its users know.

The job's directory is on the share, and so are the claim and the exit file of each run (`shared_runs`):
the claim makes a second submission harmless, and the exit file is the truth about the end. The batch
system is asked only for what is missing: which jobs left it without an exit file. One look every
`poll_seconds` while jobs are out, and none when no job is.
"""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from stager import steps
from stager.cache.store import FileCache
from stager.errors import CommandFailedError, JobError, RunnerLostError, StagerError
from stager.mapper.dispatch.batch import BatchSystem, same_id
from stager.mapper.dispatch.collect import cut_short
from stager.mapper.dispatch.executor import DelayedExecutor
from stager.mapper.dispatch.handovers import AGAIN_SECONDS, HandOver, HandOvers
from stager.mapper.dispatch.notes import HandOverNotes
from stager.mapper.dispatch.prepare import environment
from stager.mapper.dispatch.shared_runs import Look, SharedRun
from stager.model.backoff import RetryPolicy
from stager.model.events import DispatchOrder, JobEnded, JobSignal

log = logging.getLogger(__name__)

THREADS = 4
"""Commands at once: a scheduler answers more of them no faster."""
SUBMISSIONS = RetryPolicy(attempts=10, first_seconds=1.0, longest_seconds=300.0)
"""A scheduler that restarts is away for minutes; after a quarter of an hour somebody should know."""
PASSES = 2
"""So often in a row a job must be missing before it counts as lost: its exit file may be on the way."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(slots=True, eq=False)
class _Run(HandOver):
    recalled: bool = False  # what a server before this one noted
    batch_ids: list[str] = field(default_factory=list)
    submissions: int = 0  # begun; more than there are ids when one was cut short
    tries: int = 0
    tried_at: float = 0.0  # the first of them
    out: bool = False  # the poll looks after it
    missing: int = 0  # passes in a row
    cancelled: bool = False  # and the batch system took it


class CommandDispatcher:
    """Runs jobs in a batch system.

    Args:
        cache: on a share that the batch system's nodes see under the same path.
        notes: directory on a local disk for the batch ids.
        emit: takes the signals; called from several threads.
        system: the batch system's commands.
        poll_seconds: between two looks.
        grace_seconds: from SIGTERM to SIGKILL.
        retry: when a submission that failed is made again.
    """

    def __init__(
        self,
        cache: FileCache,
        notes: Path,
        emit: Callable[[JobSignal], None],
        *,
        system: BatchSystem,
        poll_seconds: float,
        grace_seconds: float,
        retry: RetryPolicy = SUBMISSIONS,
    ) -> None:
        self._cache = cache
        self._notes = HandOverNotes(notes)
        self._system = system
        self._poll_seconds = poll_seconds
        self._grace = grace_seconds
        self._retry = retry
        self._executor = DelayedExecutor(THREADS, "dispatch")
        self._hand_overs: HandOvers[_Run] = HandOvers(cache, emit, self._executor, _Run)
        self._lock = threading.Lock()
        self._polling = False

    # -- the port -------------------------------------------------------------------------------

    def hand_over(self, order: DispatchOrder) -> None:
        """See `JobPlace.hand_over`."""
        run = self._hand_overs.take(order)
        if run is not None:
            self._executor.submit(self._begin, run)

    def holds(self, job: str, epoch: int) -> bool:
        """See `JobPlace.holds`."""
        return self._hand_overs.get(job, epoch) is not None

    def stop(self, job: str, epoch: int) -> None:
        """See `JobPlace.stop`."""
        run, new = self._hand_overs.stop(job, epoch)
        self._executor.submit(self._begin if new else self._halt, run)

    def clean_up(self, job: str, epoch: int) -> None:
        """See `JobPlace.clean_up`."""
        self._executor.submit(self._clean_up, job, epoch)

    def tidy(self, open_jobs: Collection[str]) -> None:
        """See `JobPlace.tidy`."""
        for job, epoch in self._notes.all_but(open_jobs):
            self.clean_up(job, epoch)

    def close(self) -> None:
        """Stop watching. Jobs stay in the batch system; the next server finds them."""
        self._hand_overs.close()
        self._system.close()
        self._executor.close()

    # -- from hand-over to the queue of the batch system ----------------------------------------

    def _begin(self, run: _Run) -> None:
        """Submit the job, or find out what became of an earlier submission under the same id."""
        if not self._hand_overs.holds(run):
            return
        self._recall(run)
        seen = self._look(run)
        if seen is None:
            self._executor.submit_after(AGAIN_SECONDS, self._begin, run)
        elif seen.claimed or seen.forbidden:
            self._take_in(run, seen)
        elif self._hand_overs.is_stopped(run):
            self._halt(run)
        elif run.batch_ids:
            self._watch(run)
        else:
            self._prepare(run)

    def _prepare(self, run: _Run) -> None:
        directory = self._hand_overs.prepare(run, self._begin)
        if directory is None:
            return
        variables = environment(run.order, directory)
        if "TMPDIR" not in dict(run.order.environment):
            variables.pop("TMPDIR", None)  # a place on this host; the node has its own
        try:
            self._files(run).write(run.order.job, run.order.command, variables, self._grace)
        except OSError as error:
            log.warning("job %s waits to be handed over: %s", run.order.job, error)
            self._executor.submit_after(AGAIN_SECONDS, self._begin, run)
            return
        steps.reached("dispatch.prepared")
        self._submit(run, directory)

    def _submit(self, run: _Run, directory: Path) -> None:
        if self._hand_overs.is_stopped(run):  # from here on `_halt` finds what has to be cancelled
            self._halt(run)
            return
        run.submissions += 1
        self._notes.update(*run.id, submissions=run.submissions)
        try:
            batch_id = self._system.submit(self._values(run, directory), directory)
        except CommandFailedError as error:
            self._not_submitted(run, error)
            return
        run.batch_ids.append(batch_id)
        self._notes.update(*run.id, batch_ids=run.batch_ids)
        log.info("job %s is %s in the batch system", run.order.job, batch_id)
        if self._hand_overs.is_stopped(run):
            self._halt(run)
        else:
            self._watch(run)

    def _not_submitted(self, run: _Run, error: StagerError) -> None:
        now = time.monotonic()
        run.tried_at = run.tried_at if run.tries else now
        run.tries += 1
        jitter = random.random()  # noqa: S311 - spreads load, guards nothing
        at = self._retry.next_try(run.tries, started=run.tried_at, now=now, jitter=jitter)
        if self._hand_overs.is_stopped(run):
            self._halt(run)
        elif at is not None:
            left = f"try {run.tries} of {self._retry.attempts}, the next in {at - now:.0f} s"
            log.warning("job %s is not in the batch system: %s; %s", run.order.job, error, left)
            self._executor.submit_after(at - now, self._begin, run)
        elif self._files(run).forbid():  # a submission that failed may have been one all the same
            log.error("job %s failed: %s", run.order.job, error)
            self._hand_overs.end(run, JobEnded(*run.id, None, error))
        else:
            self._watch(run)

    def _values(self, run: _Run, directory: Path) -> dict[str, str]:
        order, files = run.order, SharedRun(directory, run.order.epoch)
        return {
            "job": order.job,
            "epoch": str(order.epoch),
            "name": _plain(order.name) or order.job,
            "owner": _plain(order.owner) or "anonymous",
            "directory": str(directory),
            "script": str(files.file("script")),
            "stdout": str(files.file("out")),
            "stderr": str(files.file("err")),
        }

    # -- from the queue to the end --------------------------------------------------------------

    def _watch(self, run: _Run) -> None:
        with self._lock:
            run.out = True
            if not self._polling:
                self._polling = True
                self._executor.submit_after(self._poll_seconds, self._poll)

    def _poll(self) -> None:
        with self._lock:
            out = [run for run in self._hand_overs.active() if run.out]
            self._polling = bool(out)
        try:
            self._pass(out)
        finally:
            if out:
                self._executor.submit_after(self._poll_seconds, self._poll)

    def _pass(self, out: Collection[_Run]) -> None:
        """Look at all runs that are out; those without an exit file are asked for, in one go."""
        asked: list[tuple[_Run, Look, list[str]]] = []
        for run in out:
            seen = self._look(run)
            if seen is None:
                continue
            if seen.outcome is not None:
                self._executor.submit(self._hand_overs.collect, run, seen.outcome)
                continue
            self._take_in(run, seen)
            if not seen.forbidden:
                asked.append((run, seen, _ids(run, seen)))
            if self._hand_overs.is_stopped(run) and not run.cancelled:
                self._cancel(run, seen)
        over = self._system.over({one for _, _, ids in asked for one in ids}) if asked else set()
        for run, seen, ids in asked:
            run.missing = run.missing + 1 if ids and over.issuperset(ids) else 0
            if run.missing >= PASSES:
                self._lost(run, seen, ids)

    def _take_in(self, run: _Run, seen: Look) -> None:
        """Tell what a look has shown."""
        if seen.outcome is not None:
            self._hand_overs.collect(run, seen.outcome)
        elif seen.forbidden:
            self._never_started(run)
        elif seen.claimed:
            self._hand_overs.start(run)
            if not run.out:
                self._watch(run)
                if self._hand_overs.is_stopped(run):
                    self._halt(run)

    def _lost(self, run: _Run, seen: Look, ids: Collection[str]) -> None:
        """It left the batch system and no end is recorded."""
        words = self._files(run).last_words()
        where = f"batch job {' and '.join(ids)} left the batch system"
        if seen.claimed:
            ended = cut_short(run.order)
            assert ended.error is not None
            cause = f"{where} before the command ended" + (f": {words}" if words else "")
            self._hand_overs.end(run, JobEnded(*run.id, None, ended.error.with_cause(cause)))
        elif self._files(run).forbid():
            self._never_started(run, where + (f": {words}" if words else ""))

    def _never_started(self, run: _Run, cause: str = "") -> None:
        error: JobError
        if self._hand_overs.is_stopped(run):
            error = JobError("cancelled before it started")
        else:
            error = RunnerLostError(
                f"job {run.order.job} was never started",
                cause=cause or "its batch job is over",
                remedy="ask the batch system why, then submit it again",
            )
        self._hand_overs.end(run, JobEnded(*run.id, None, error))

    # -- cancelling -----------------------------------------------------------------------------

    def _halt(self, run: _Run) -> None:
        """Make sure that it never starts, or end it; the poll sees the end."""
        self._recall(run)
        seen = self._look(run)
        if seen is None:
            self._executor.submit_after(AGAIN_SECONDS, self._halt, run)
            return
        if not seen.claimed and not seen.forbidden and not self._files(run).forbid():
            seen = self._look(run) or Look(claimed=True)
        if seen.outcome is None:
            self._cancel(run, seen)
        if not seen.claimed:
            self._never_started(run)
        elif seen.outcome is not None:
            self._hand_overs.collect(run, seen.outcome)
        else:
            self._watch(run)

    def _cancel(self, run: _Run, seen: Look) -> None:
        done = True
        for one in sorted({*_ids(run, seen), *run.batch_ids}):
            values = {
                "batch_id": one,
                "job": run.order.job,
                "epoch": str(run.order.epoch),
                "owner": _plain(run.order.owner) or "anonymous",
            }
            try:
                self._system.cancel(values)
            except CommandFailedError as error:  # over already, as often as not: the next look tells
                log.warning("%s", error)
                done = False
        run.cancelled = done

    # -- parts ----------------------------------------------------------------------------------

    def _recall(self, run: _Run) -> None:
        with self._lock:
            if not run.recalled:
                note = self._notes.read(*run.id)
                run.batch_ids = list(note.get("batch_ids", ()))
                run.submissions = int(note.get("submissions", 0))
                run.recalled = True

    def _files(self, run: _Run) -> SharedRun:
        return SharedRun(self._cache.root / "jobs" / run.order.job, run.order.epoch)

    def _look(self, run: _Run) -> Look | None:
        try:
            return self._files(run).look()
        except OSError as error:
            log.warning("the share does not tell of job %s: %s", run.order.job, error)
            return None

    def _clean_up(self, job: str, epoch: int) -> None:
        """Inputs and collected results go; what the job printed stays for people to read."""
        self._hand_overs.forget(job)
        SharedRun(self._cache.root / "jobs" / job, epoch).settle()
        self._cache.release(job)
        self._notes.forget(job, epoch)


def _ids(run: _Run, seen: Look) -> list[str]:
    """The batch ids by which to tell whether the run is still there; none: nobody can."""
    if seen.batch_id:
        known = [one for one in run.batch_ids if same_id(one) == same_id(seen.batch_id)]
        return known or [seen.batch_id]
    if seen.claimed and run.submissions > 1:
        return []  # one of several submissions has it, and it is not known which
    return run.batch_ids


def _plain(text: str) -> str:
    """`text` as batch systems like names: no spaces, and not to be taken for an option."""
    return _NOT_IN_NAMES.sub("_", text).lstrip("-.")[:64]
