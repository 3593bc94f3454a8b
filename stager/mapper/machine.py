"""The deciding core: events in, instructions out.

Pure: no I/O, no clock, no randomness; time and jitter come in as arguments. The machine holds every
job that is not over, every fetch and precondition these refer to, and nothing else. The loop
(`stager.mapper.loop`) feeds it, writes what changed in one transaction (`take_changes`) and then
carries out the instructions; after a crash the machine is loaded again from what was written.

Work that grows with the number of waiting jobs (one URL that 100,000 jobs wait for) is not done when
the event arrives but a piece at a time in `advance`, so that nothing else has to wait for it.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from stager.errors import ConflictError, InputFailedError, NotFoundError
from stager.mapper.admission import Admission
from stager.model.backoff import RetryPolicy
from stager.model.entries import Entry
from stager.model.events import JobEnded, JobRefused, JobSignal, JobStarted
from stager.model.fetches import (
    Failed,
    FetchOrder,
    FetchRequest,
    FetchState,
    Progress,
    Ready,
    Signal,
    Started,
    check_fetch_transition,
)
from stager.model.jobs import JobState, check_job_transition
from stager.model.records import Changes, FetchRecord, JobRecord, NameRecord
from stager.model.urls import parse_url


@dataclass(frozen=True, slots=True)
class StartFetch:
    """Instruction: run this try."""

    order: FetchOrder


@dataclass(frozen=True, slots=True)
class StopFetch:
    """Instruction: nobody wants this fetch any more."""

    fetch: str
    generation: int


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Instruction: hand the job over."""

    job: str
    epoch: int


@dataclass(frozen=True, slots=True)
class StopJob:
    """Instruction: end the job's command."""

    job: str
    epoch: int


Instruction = StartFetch | StopFetch | Dispatch | StopJob


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to take in: its id, the inputs it needs and what the cache already holds of them."""

    id: str
    inputs: tuple[tuple[FetchRequest, Entry | None], ...]
    after: tuple[str, ...] = ()
    priority: int = 0


FETCH = "fetch:"
NAME = "name:"
"""Prefixes that tell the two kinds of precondition apart in `JobRecord.unmet`."""


class Machine:
    """Jobs, fetches and preconditions, and the rules that move them.

    Args:
        admission: the queue of fetches.
        retry: when a failed try is repeated.
        job_slots: jobs that may be handed over at once; None: no limit.
        fetch_ids: makes the id of a new fetch.
    """

    def __init__(
        self, admission: Admission, retry: RetryPolicy, *, job_slots: int | None, fetch_ids: Iterator[str]
    ) -> None:
        self.admission = admission
        self.retry = retry
        self.job_slots = job_slots
        self.jobs: dict[str, JobRecord] = {}
        self.fetches: dict[str, FetchRecord] = {}
        self.names: dict[str, NameRecord] = {}
        self.stale_signals = 0
        self._fetch_ids = fetch_ids
        self._flights: dict[tuple[str, str | None], str] = {}  # (key, sha256) → fetch to join
        self._stopping: dict[str, int] = {}  # fetch that nobody needs → its try, which has a place still
        self._handed: set[str] = set()
        self._again: list[str] = []  # loaded as handed over; their place has to be told again
        self._ready: list[tuple[int, str]] = []  # heap of (-priority, job); ids sort by time
        self._wakes: deque[tuple[str, deque[str]]] = deque()  # (precondition, jobs to look at)
        self._instructions: list[Instruction] = []
        self._loaded = False  # and not advanced since: fetches that were queued may start
        self._dirty_jobs: dict[str, JobRecord] = {}
        self._dirty_fetches: dict[str, FetchRecord] = {}
        self._dirty_names: dict[str, NameRecord] = {}

    # -- loading what was written ---------------------------------------------------------------

    def load(
        self,
        jobs: Iterable[JobRecord],
        fetches: Iterable[FetchRecord],
        names: Iterable[NameRecord],
        *,
        now: float,
    ) -> None:
        """Take in what the database holds, at start.

        Fetches that were running start anew with the next generation (their partial files are
        resumed); jobs handed over and not known to be over are handed over again under the same id.
        """
        self._loaded = True
        for name in names:
            self.names[name.name] = name
        for fetch in sorted(fetches, key=_by_worth_joining):
            self.fetches[fetch.id] = fetch
            self._flights[fetch.request.key, fetch.request.sha256] = fetch.id
        for job in jobs:
            self.jobs[job.id] = job
            if job.state in _BEFORE_START:
                self._attach(job)
            if job.handed:
                self._handed.add(job.id)
                self._again.append(job.id)
        for fetch in list(self.fetches.values()):
            self._reload_fetch(fetch, now)
        for job in list(self.jobs.values()):
            if job.state in {JobState.WAITING, JobState.READY}:
                self._settle(job, now)

    def _reload_fetch(self, fetch: FetchRecord, now: float) -> None:
        if fetch.state is FetchState.RUNNING:
            self._move_fetch(fetch, FetchState.QUEUED)
            fetch.generation += 1
        if fetch.state is FetchState.LOST:
            self._move_fetch(fetch, FetchState.QUEUED)
        if not fetch.jobs:
            self._drop_fetch(fetch, now)
        elif fetch.state is FetchState.QUEUED:
            self._enqueue(fetch)

    def _settle(self, job: JobRecord, now: float) -> None:
        """Bring a job that is not handed over to where its preconditions say it belongs."""
        failed = [
            f for f in job.fetches if self.fetches[f].state in {FetchState.FAILED, FetchState.CANCELLED}
        ]
        if job.state is JobState.READY and (failed or job.unmet):
            self._move_job(job, JobState.WAITING)
        if failed:
            self._fail_for(job, self.fetches[failed[0]], now)
        elif not job.unmet and job.state is JobState.WAITING:
            self._make_ready(job, now)
        elif job.state is JobState.READY:
            heapq.heappush(self._ready, (-job.priority, job.id))

    # -- what users do --------------------------------------------------------------------------

    def submit(self, new: NewJob, *, now: float) -> JobRecord:
        """Take in a job; it is ready at once when all it waits for holds already."""
        if new.id in self.jobs:
            raise ConflictError(f"job {new.id} exists already")
        fetches = tuple(
            self._fetch_for(request, entry, new.priority, now).id for request, entry in new.inputs
        )
        job = JobRecord(id=new.id, fetches=fetches, after=new.after, priority=new.priority, submitted_at=now)
        self.jobs[job.id] = job
        self._dirty_jobs[job.id] = job
        self._attach(job)
        if not job.unmet:
            self._make_ready(job, now)
        return job

    def meet(self, name: str, *, now: float) -> bool:
        """Say that a precondition is met; False when it was already."""
        record = self._name(name)
        if record.met_at is not None:
            return False
        record.met_at = now
        self._dirty_names[name] = record
        if record.jobs:
            self._wakes.append((NAME + name, deque(record.jobs)))
        return True

    def cancel(self, job_id: str, *, now: float) -> bool:
        """Cancel a job; False when it is cancelled already.

        Raises:
            NotFoundError: the machine does not hold the job (unknown, or over long ago).
            ConflictError: the job is over.
        """
        job = self.jobs.get(job_id)
        if job is None:
            raise NotFoundError(f"no job {job_id} that is not over")
        if job.state is JobState.CANCELLED:
            return False
        if job.state.is_final:
            raise ConflictError(
                f"job {job_id} is {job.state}", cause="only a job that is not over can be cancelled"
            )
        if job.handed:
            self._instructions.append(StopJob(job.id, job.epoch))
        self._finish(job, JobState.CANCELLED, now)
        return True

    # -- what fetches tell ----------------------------------------------------------------------

    def fetch_signal(self, signal: Signal, *, now: float, jitter: float = 0.0) -> None:
        """Take in a signal of a fetch; one of another generation, or of a fetch not running, is ignored."""
        fetch = self.fetches.get(signal.fetch)
        if fetch is None or fetch.generation != signal.generation or fetch.state is not FetchState.RUNNING:
            self.stale_signals += 1
            if isinstance(signal, Ready | Failed):
                self._free_place(signal.fetch, signal.generation)
            return
        if isinstance(signal, Started | Progress):
            return
        self.admission.ended(fetch.id)
        if isinstance(signal, Ready):
            self._fetch_ready(fetch, signal, now)
        else:
            self._fetch_failed(fetch, signal, now, jitter)

    def _free_place(self, fetch_id: str, generation: int) -> None:
        """A try that nobody wants any more has ended: its place is free."""
        if self._stopping.get(fetch_id) == generation:
            del self._stopping[fetch_id]
            self.admission.ended(fetch_id)

    def _fetch_ready(self, fetch: FetchRecord, signal: Ready, now: float) -> None:
        result = signal.result
        self._move_fetch(fetch, FetchState.READY)
        fetch.sha256, fetch.size, fetch.fresh_until = result.sha256, result.size, result.fresh_until
        fetch.cached = result.cached
        fetch.received += result.received
        fetch.resumed_from = result.resumed_from or fetch.resumed_from
        fetch.error, fetch.ended_at = None, now
        self._wakes.append((FETCH + fetch.id, deque(fetch.jobs)))

    def _fetch_failed(self, fetch: FetchRecord, signal: Failed, now: float, jitter: float) -> None:
        error = signal.error
        fetch.received += int(error.details.get("received", 0))
        fetch.tries = 1 if signal.progressed else fetch.tries + 1
        fetch.error = error
        if error.transient:
            started = fetch.first_try_at if fetch.first_try_at is not None else now
            retry_after = error.details.get("retry_after")
            at = self.retry.next_try(
                fetch.tries, started=started, now=now, jitter=jitter, retry_after=retry_after
            )
            if at is not None:
                self._move_fetch(fetch, FetchState.QUEUED)
                fetch.generation += 1
                fetch.not_before = at
                self._enqueue(fetch)
                return
            fetch.error = error.with_cause(
                f"{error.cause or 'no answer'} (gave up after {fetch.generation} tries)"
            )
        self._move_fetch(fetch, FetchState.FAILED)
        fetch.ended_at = now
        self._wakes.append((FETCH + fetch.id, deque(fetch.jobs)))

    # -- what the dispatcher tells --------------------------------------------------------------

    def job_signal(self, signal: JobSignal, *, now: float) -> None:
        """Take in a signal of the dispatcher; one of another epoch is ignored."""
        job = self.jobs.get(signal.job)
        if job is None or job.epoch != signal.epoch or not job.handed:
            self.stale_signals += 1
        elif isinstance(signal, JobRefused) and job.state is JobState.RUNNING:
            self.stale_signals += 1  # it was started, so this hand-over can't have been refused
        elif isinstance(signal, JobStarted):
            self._job_started(job, now)
        elif isinstance(signal, JobRefused):
            self._job_refused(job, signal, now)
        else:
            self._job_ended(job, signal, now)

    def _job_started(self, job: JobRecord, now: float) -> None:
        if job.state is JobState.DISPATCHED:
            self._move_job(job, JobState.RUNNING)
            job.started_at = now
            self._detach(job, now)

    def _job_refused(self, job: JobRecord, signal: JobRefused, now: float) -> None:
        self._over(job)
        for fetch_id in signal.lost:
            self.lose(fetch_id)
        if job.state is JobState.DISPATCHED:
            self._move_job(job, JobState.WAITING)
            job.unmet.clear()
            self._attach(job)  # anew: what was lost may have come back, or failed, meanwhile
            self._settle(job, now)
        elif job.state.is_final:
            self._forget(job)

    def _job_ended(self, job: JobRecord, signal: JobEnded, now: float) -> None:
        self._over(job)
        if job.state.is_final:  # cancelled meanwhile
            self._dirty_jobs[job.id] = job
            job.exit_code = signal.exit_code
            self._forget(job)
            return
        if signal.exit_code is not None:
            self._job_started(job, now - signal.seconds)
        job.exit_code, job.error, job.results = signal.exit_code, signal.error, signal.results
        if signal.error is not None:
            self._finish(job, JobState.FAILED, now)
        else:
            self._finish(job, JobState.DONE, now)

    def lose(self, fetch_id: str) -> None:
        """The object of a fetch is gone: fetch it again; jobs that were ready wait again."""
        fetch = self.fetches.get(fetch_id)
        if fetch is None or fetch.state is not FetchState.READY:
            return
        self._move_fetch(fetch, FetchState.LOST)
        precondition = FETCH + fetch.id
        for job_id in fetch.jobs:
            job = self.jobs[job_id]
            job.unmet.add(precondition)
            if job.state is JobState.READY:
                self._move_job(job, JobState.WAITING)
        self._move_fetch(fetch, FetchState.QUEUED)
        fetch.generation += 1
        fetch.tries, fetch.not_before, fetch.first_try_at, fetch.ended_at = 0, 0.0, None, None
        self._enqueue(fetch)

    # -- moving on ------------------------------------------------------------------------------

    def advance(self, now: float, *, limit: int = 1000) -> list[Instruction]:
        """Do at most `limit` pieces of pending work and return what is to be carried out.

        Call it again, after writing the changes, while `pending` is True.
        """
        self._loaded = False
        self._hand_over_again()
        self._wake(now, limit)
        self._dispatch_ready(now, limit)
        for fetch_id in self.admission.pick(now):
            fetch = self.fetches[fetch_id]
            self._move_fetch(fetch, FetchState.RUNNING)
            if fetch.first_try_at is None:
                fetch.first_try_at = now
            self._instructions.append(StartFetch(FetchOrder(fetch.id, fetch.generation, fetch.request)))
        instructions, self._instructions = self._instructions, []
        return instructions

    @property
    def pending(self) -> bool:
        """Whether `advance` has more to do right now."""
        return bool(self._loaded or self._wakes or self._instructions or self._again) or (
            bool(self._ready) and self._has_slot()
        )

    def take_changes(self) -> Changes:
        """What changed since the last call; what is over and written is then forgotten."""
        changes = Changes(
            list(self._dirty_jobs.values()),
            list(self._dirty_fetches.values()),
            list(self._dirty_names.values()),
        )
        self._dirty_jobs, self._dirty_fetches, self._dirty_names = {}, {}, {}
        return changes

    def _wake(self, now: float, limit: int) -> None:
        while self._wakes and limit > 0:
            precondition, waiting = self._wakes[0]
            while waiting and limit > 0:
                limit -= 1
                job = self.jobs.get(waiting.popleft())
                if job is not None and job.state is JobState.WAITING:
                    self._look_at(job, precondition, now)
            if not waiting:
                self._wakes.popleft()

    def _look_at(self, job: JobRecord, precondition: str, now: float) -> None:
        if precondition.startswith(FETCH):
            fetch = self.fetches[precondition.removeprefix(FETCH)]
            if fetch.state is FetchState.FAILED:
                self._fail_for(job, fetch, now)
                return
            if fetch.state is not FetchState.READY:  # lost again before this job was looked at
                return
        job.unmet.discard(precondition)
        if not job.unmet:
            self._make_ready(job, now)

    def _hand_over_again(self) -> None:
        """What was told since the load counts: a hand-over that is over now must not be repeated."""
        for job_id in self._again:
            job = self.jobs.get(job_id)
            if job is not None and job.handed:
                again = StopJob if job.state.is_final else Dispatch
                self._instructions.append(again(job.id, job.epoch))
        self._again.clear()

    def _dispatch_ready(self, now: float, limit: int) -> None:
        while self._ready and limit > 0 and self._has_slot():
            limit -= 1
            job = self.jobs.get(heapq.heappop(self._ready)[1])
            if job is None or job.state is not JobState.READY:
                continue
            self._move_job(job, JobState.DISPATCHED)
            job.epoch += 1
            job.handed = True
            job.dispatched_at = now
            self._handed.add(job.id)
            self._instructions.append(Dispatch(job.id, job.epoch))

    def _has_slot(self) -> bool:
        return self.job_slots is None or len(self._handed) < self.job_slots

    # -- the parts of which the above is made ---------------------------------------------------

    def _fetch_for(
        self, request: FetchRequest, entry: Entry | None, priority: int, now: float
    ) -> FetchRecord:
        """The fetch that brings this request: one that is under way or still good, or a new one."""
        at_hand = entry if entry and _is_good(request, entry.object, entry.fresh_until, now) else None
        flight = self.fetches.get(self._flights.get((request.key, request.sha256), ""))
        under_way = flight is not None and flight.state in _UNDER_WAY
        if flight is not None:
            if under_way and at_hand is None:
                if priority > flight.priority:
                    flight.priority = priority
                    self._dirty_fetches[flight.id] = flight
                    self.admission.lift(flight.id, priority)
                return flight
            if flight.state is FetchState.READY and _is_good(request, flight.sha256, flight.fresh_until, now):
                return flight
        fetch = FetchRecord(id=next(self._fetch_ids), request=request, priority=priority, created_at=now)
        if at_hand is not None:
            fetch.state, fetch.cached, fetch.ended_at = FetchState.READY, True, now
            fetch.sha256, fetch.size, fetch.fresh_until = at_hand.object, at_hand.size, at_hand.fresh_until
        else:
            self._enqueue(fetch)
        self.fetches[fetch.id] = fetch
        if not under_way:  # else the next job that finds nothing at hand joins what is under way
            self._flights[request.key, request.sha256] = fetch.id
        self._dirty_fetches[fetch.id] = fetch
        return fetch

    def _name(self, name: str) -> NameRecord:
        record = self.names.get(name)
        if record is None:
            record = self.names[name] = NameRecord(name)
            self._dirty_names[name] = record
        return record

    def _attach(self, job: JobRecord) -> None:
        """Register the job with what it waits for, and note what of it is not met."""
        for fetch_id in job.fetches:
            fetch = self.fetches[fetch_id]
            fetch.jobs[job.id] = None
            if fetch.state is not FetchState.READY:
                job.unmet.add(FETCH + fetch_id)
        for name in job.after:
            record = self._name(name)
            record.jobs[job.id] = None
            if record.met_at is None:
                job.unmet.add(NAME + name)

    def _detach(self, job: JobRecord, now: float) -> None:
        """The job needs nothing any more: fetches that nobody else needs are given up."""
        for name in job.after:
            self.names[name].jobs.pop(job.id, None)
        for fetch_id in job.fetches:
            fetch = self.fetches.get(fetch_id)
            if fetch is not None and fetch.jobs.pop(job.id, ()) is None and not fetch.jobs:
                self._drop_fetch(fetch, now)

    def _drop_fetch(self, fetch: FetchRecord, now: float) -> None:
        """No job needs the fetch: stop it if it is under way, and forget it."""
        if fetch.state is FetchState.RUNNING:
            self._instructions.append(StopFetch(fetch.id, fetch.generation))
            self._stopping[fetch.id] = fetch.generation
        if fetch.state in {FetchState.QUEUED, FetchState.RUNNING}:
            self.admission.remove(fetch.id)
            self._move_fetch(fetch, FetchState.CANCELLED)
            fetch.ended_at = now
        del self.fetches[fetch.id]
        flight = (fetch.request.key, fetch.request.sha256)
        if self._flights.get(flight) == fetch.id:
            del self._flights[flight]

    def _enqueue(self, fetch: FetchRecord) -> None:
        self.admission.add(
            fetch.id,
            origin=fetch.request.origin,
            key=fetch.request.key,
            priority=fetch.priority,
            not_before=fetch.not_before,
        )

    def _make_ready(self, job: JobRecord, now: float) -> None:
        self._move_job(job, JobState.READY)
        job.ready_at = now
        heapq.heappush(self._ready, (-job.priority, job.id))

    def _fail_for(self, job: JobRecord, fetch: FetchRecord, now: float) -> None:
        error = fetch.error
        url = parse_url(fetch.request.url).redacted
        job.error = InputFailedError(
            f"input {url} could not be fetched",
            cause=str(error) if error is not None else "its fetch was cancelled",
            remedy="mend the cause and submit the job again",
            url=url,
            fetch=fetch.id,
            code=error.code if error is not None else "cancelled",
        )
        self._finish(job, JobState.FAILED, now)

    def _finish(self, job: JobRecord, state: JobState, now: float) -> None:
        self._move_job(job, state)
        job.ended_at = now
        self._detach(job, now)
        if not job.handed:
            self._forget(job)

    def _over(self, job: JobRecord) -> None:
        """The hand-over is over: no process of this job exists any more."""
        job.handed = False
        self._handed.discard(job.id)
        self._dirty_jobs[job.id] = job

    def _forget(self, job: JobRecord) -> None:
        """A job that is over stays with the database alone."""
        self.jobs.pop(job.id, None)

    def _move_job(self, job: JobRecord, state: JobState) -> None:
        check_job_transition(job.id, job.state, state)
        job.state = state
        self._dirty_jobs[job.id] = job

    def _move_fetch(self, fetch: FetchRecord, state: FetchState) -> None:
        check_fetch_transition(fetch.id, fetch.state, state)
        fetch.state = state
        self._dirty_fetches[fetch.id] = fetch

    # -- for tests and for the sceptic ----------------------------------------------------------

    def validate(self) -> None:
        """Check what must hold between any two calls; raises `AssertionError` naming what does not."""
        pending = _pending_pairs(self._wakes)
        for job in self.jobs.values():
            assert not (job.state.is_final and not job.handed), f"job {job.id} is over and still held"
            assert job.handed == (job.id in self._handed), f"job {job.id}: slot and record differ"
            if job.state is JobState.READY:
                assert not job.unmet, f"job {job.id} is ready with {job.unmet} unmet"
                assert any(entry[1] == job.id for entry in self._ready), (
                    f"job {job.id} is ready and not queued"
                )
            if job.state is JobState.WAITING:
                open_ones = {p for p in job.unmet if not (self._is_met(p) or self._has_failed(p))}
                done_ones = job.unmet - open_ones
                assert job.unmet, f"job {job.id} waits for nothing"
                assert all((p, job.id) in pending for p in done_ones), (
                    f"job {job.id} was not woken by {done_ones}"
                )
            if job.state in _BEFORE_START:
                for fetch_id in job.fetches:
                    assert job.id in self.fetches[fetch_id].jobs, (
                        f"fetch {fetch_id} does not know job {job.id}"
                    )
        for fetch in self.fetches.values():
            assert fetch.jobs, f"fetch {fetch.id} is wanted by nobody"
            queued = fetch.id in self.admission
            assert queued == (fetch.state is FetchState.QUEUED), (
                f"fetch {fetch.id} is {fetch.state}, queued: {queued}"
            )
        if self.job_slots is not None:
            assert len(self._handed) <= self.job_slots, "more jobs handed over than there are slots"

    def _is_met(self, precondition: str) -> bool:
        if precondition.startswith(FETCH):
            return self.fetches[precondition.removeprefix(FETCH)].state is FetchState.READY
        return self.names[precondition.removeprefix(NAME)].met_at is not None

    def _has_failed(self, precondition: str) -> bool:
        return (
            precondition.startswith(FETCH)
            and self.fetches[precondition.removeprefix(FETCH)].state is FetchState.FAILED
        )


_UNDER_WAY: Collection[FetchState] = frozenset({FetchState.QUEUED, FetchState.RUNNING})
_BEFORE_START: Collection[JobState] = frozenset({JobState.WAITING, JobState.READY, JobState.DISPATCHED})


def _by_worth_joining(fetch: FetchRecord) -> tuple[bool, float, str]:
    """Sorts last what a new job should join: a fetch under way before one that is over, then the newest."""
    return fetch.state in _UNDER_WAY, fetch.created_at, fetch.id


def _is_good(request: FetchRequest, sha256: str, fresh_until: float | None, now: float) -> bool:
    """Whether bytes at hand answer the request without asking the origin."""
    if request.refresh:
        return False
    if request.sha256 is not None:
        return request.sha256 == sha256
    return fresh_until is None or now < fresh_until


def _pending_pairs(wakes: Iterable[tuple[str, Iterable[str]]]) -> set[tuple[str, str]]:
    return {(precondition, job) for precondition, jobs in wakes for job in jobs}
