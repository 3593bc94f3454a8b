"""The deciding core: events in, instructions out.

Pure: no I/O, no clock, no randomness; time and jitter come in as arguments. The machine holds every
job that is not over, every fetch and precondition these refer to, and nothing else. The loop
(`stager.mapper.loop`) feeds it, writes what changed in one transaction (`take_changes`) and then
carries out the instructions; after a crash the machine is loaded again from what was written.

Work that grows with the number of waiting jobs (one URL that 100,000 jobs wait for) is not done when
the event arrives but a piece at a time in `advance`, so that nothing else has to wait for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator

from stager.errors import ConflictError, NotFoundError
from stager.mapper.admission import Admission
from stager.mapper.flights import Flights
from stager.mapper.grants import Grants
from stager.mapper.instructions import AdoptFetch, Dispatch, Instruction, NewJob, StopJob
from stager.mapper.line import Line
from stager.mapper.stages import Stages
from stager.mapper.verdicts import MOST_HAND_OVERS, input_failed, inputs_lost, job_too_large
from stager.mapper.wants import Wants
from stager.model.backoff import RetryPolicy
from stager.model.events import JobEnded, JobRefused, JobSignal, JobStarted
from stager.model.fetches import FetchState, Signal
from stager.model.jobs import JobState, check_job_transition
from stager.model.records import NAME, Besides, Changes, FetchRecord, JobRecord, NameRecord
from stager.model.stages import StagedFile

BEFORE_START: Collection[JobState] = frozenset({JobState.WAITING, JobState.READY, JobState.DISPATCHED})
"""States in which a job needs its inputs."""


class Machine:
    """Jobs, fetches and preconditions, and the rules that move them.

    Args:
        admission: the queue of fetches.
        retry: when a failed try is repeated.
        job_slots: jobs that may be handed over at once; None: no limit.
        fetch_ids: makes the id of a new fetch.
        job_bytes: what the inputs of a job may take in all; 0: no limit.
        grants: who may read what is restricted, as it was written.
    """

    def __init__(
        self,
        admission: Admission,
        retry: RetryPolicy,
        *,
        job_slots: int | None,
        fetch_ids: Iterator[str],
        job_bytes: int = 0,
        grants: Grants | None = None,
    ) -> None:
        self.flights = Flights(admission, retry, fetch_ids, grants)
        self.besides = Besides()
        self.stages = Stages(self.flights, self.besides)
        self._wants = Wants(self.flights)
        self.job_bytes = job_bytes
        self.jobs: dict[str, JobRecord] = {}
        self.line = Line(job_slots)
        """Jobs that are ready, or handed over."""
        self.wakes: deque[tuple[str, deque[str]]] = deque()
        """A precondition that is decided, and the jobs still to be looked at for it."""
        self.stale_job_signals = 0
        self._instructions: list[Instruction] = []
        self._loaded = False  # and not advanced since: fetches that were queued may start
        self._dirty_jobs: dict[str, JobRecord] = {}

    @property
    def fetches(self) -> dict[str, FetchRecord]:
        """Fetches by id."""
        return self.flights.fetches

    @property
    def names(self) -> dict[str, NameRecord]:
        """Preconditions by name."""
        return self._wants.names

    @property
    def stale_signals(self) -> int:
        """Signals ignored because they came late, twice, or of a try before."""
        return self.flights.stale_signals + self.stale_job_signals

    def next_time(self) -> float | None:
        """When a fetch that is held back may start; None when none is."""
        return self.flights.admission.next_time()

    # -- loading what was written ---------------------------------------------------------------

    def load(
        self,
        jobs: Iterable[JobRecord],
        fetches: Iterable[FetchRecord],
        names: Iterable[NameRecord],
        staged: Iterable[StagedFile] = (),
        *,
        now: float,
        keep_running: bool = False,
    ) -> None:
        """Take in what the database holds, at start.

        Fetches that were running start anew with the next generation, unless they go on without a
        server (`keep_running`); jobs handed over and not known to be over are handed over again.
        """
        self._loaded = True
        self._wants.load(names)
        self.flights.load(fetches)
        self.stages.load(staged)
        for job in jobs:
            self.jobs[job.id] = job
            if job.state in BEFORE_START:
                self._wants.attach(job)
            if job.handed:
                self.line.handed.add(job.id)
                self.line.again.append(job.id)
        self._instructions += map(AdoptFetch, self.flights.resume(now, keep_running=keep_running))
        for job in list(self.jobs.values()):
            if job.state in {JobState.WAITING, JobState.READY}:
                self._settle(job, now)

    def settle_anew(self, job: JobRecord, now: float) -> None:
        """Find out from the beginning what a job that is not handed over waits for, and act on it."""
        job.unmet.clear()
        self._wants.attach(job)
        self._settle(job, now)

    def _settle(self, job: JobRecord, now: float) -> None:
        """Bring a job that is not handed over to where its preconditions say it belongs."""
        failed = [
            f for f in job.fetches if self.fetches[f].state in {FetchState.FAILED, FetchState.CANCELLED}
        ]
        if job.state is JobState.READY and (failed or job.unmet):
            self._move_job(job, JobState.WAITING)
        if failed:
            self._fail_for(job, self.fetches[failed[0]], now)
        elif job.state is JobState.WAITING:
            if not self._fails_by_size(job, now) and not job.unmet:
                self._make_ready(job, now)
        elif job.state is JobState.READY:
            self.line.add(job)

    # -- what users do --------------------------------------------------------------------------

    def check_new(self, job_id: str) -> None:
        """Raise `ConflictError` if the machine holds a job of that id."""
        if job_id in self.jobs:
            raise ConflictError(f"job {job_id} exists already")

    def submit(self, new: NewJob, *, now: float) -> JobRecord:
        """Take in a job; it is ready at once when all it waits for holds already."""
        self.check_new(new.id)
        fetches = tuple(
            self.flights.join(request, entry, new.priority, now, owner=new.owner).id
            for request, entry in new.inputs
        )
        job = JobRecord(id=new.id, fetches=fetches, after=new.after, priority=new.priority, submitted_at=now)
        self.jobs[job.id] = job
        self._dirty_jobs[job.id] = job
        self._wants.attach(job)
        if not self._fails_by_size(job, now) and not job.unmet:
            self._make_ready(job, now)
        return job

    def meet(self, name: str, *, now: float) -> bool:
        """Say that a precondition is met; False when it was already."""
        record = self._wants.meet(name, now)
        if record is None:
            return False
        if record.jobs:
            self.wakes.append((NAME + name, deque(record.jobs)))
        return True

    def unmeet(self, name: str) -> bool:
        """Say that a precondition holds no more; False when it did not.

        Jobs that are ready wait again; those handed over have passed it.
        """
        waiting = self._wants.unmeet(name, self.jobs)
        for job in waiting or ():
            if job.state is JobState.READY:
                self._move_job(job, JobState.WAITING)
        return waiting is not None

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
        """Take in a signal of a fetch; a stale one is ignored."""
        over = self.flights.signal(signal, now=now, jitter=jitter)
        if over is not None:
            self.wakes.append((over.id, deque(over.jobs)))

    def lose(self, fetch_id: str) -> None:
        """The object of a fetch is gone: fetch it again; jobs that were ready wait again."""
        fetch = self.flights.lose(fetch_id)
        if fetch is None:
            return
        for job in filter(None, map(self.jobs.get, fetch.jobs)):
            self._wants.lost(job, fetch)
            if job.state is JobState.READY:
                self._move_job(job, JobState.WAITING)

    # -- what the dispatcher tells --------------------------------------------------------------

    def job_signal(self, signal: JobSignal, *, now: float) -> None:
        """Take in a signal of the dispatcher; one of another epoch is ignored."""
        job = self.jobs.get(signal.job)
        if job is None or job.epoch != signal.epoch or not job.handed:
            self.stale_job_signals += 1
        elif isinstance(signal, JobRefused) and job.state is JobState.RUNNING:
            self.stale_job_signals += 1  # it was started, so this hand-over can't have been refused
        elif isinstance(signal, JobStarted):
            self._job_started(job, now - signal.seconds)
        elif isinstance(signal, JobRefused):
            self._job_refused(job, signal, now)
        else:
            self._job_ended(job, signal, now)

    def _job_started(self, job: JobRecord, now: float) -> None:
        if job.state is JobState.DISPATCHED:
            self._move_job(job, JobState.RUNNING)
            job.started_at = now
            self._instructions += self._wants.detach(job, now)

    def _job_refused(self, job: JobRecord, signal: JobRefused, now: float) -> None:
        self._over(job)
        for fetch_id in signal.lost:
            self.lose(fetch_id)
        if job.state is JobState.DISPATCHED and job.epoch >= MOST_HAND_OVERS:
            job.error = inputs_lost(job)
            self._finish(job, JobState.FAILED, now)
        elif job.state is JobState.DISPATCHED:
            self._move_job(job, JobState.WAITING)
            self.settle_anew(job, now)  # what was lost may have come back, or failed, meanwhile
        elif job.state.is_final:
            self._forget(job)

    def _job_ended(self, job: JobRecord, signal: JobEnded, now: float) -> None:
        self._over(job)
        if job.state.is_final:  # cancelled meanwhile
            self._dirty_jobs[job.id] = job
            job.exit_code, job.results = signal.exit_code, signal.results
            self._forget(job)
            return
        if signal.exit_code is not None:
            self._job_started(job, now - signal.seconds)
        job.exit_code, job.error, job.results = signal.exit_code, signal.error, signal.results
        self._finish(job, JobState.DONE if signal.error is None else JobState.FAILED, now)

    # -- moving on ------------------------------------------------------------------------------

    def advance(self, now: float, *, limit: int = 1000) -> list[Instruction]:
        """Do at most `limit` pieces of pending work and return what is to be carried out.

        Call it again, after writing the changes, while `pending` is True.
        """
        self._loaded = False
        self._hand_over_again()
        self._wake(now, limit)
        self._dispatch_ready(now, limit)
        self._instructions += self.stages.advance(now, limit)
        self._instructions += self.flights.start(now)
        instructions, self._instructions = self._instructions, []
        return instructions

    @property
    def pending(self) -> bool:
        """Whether `advance` has more to do right now."""
        work = self.wakes or self._instructions or self.line.again or self.stages.pending
        return bool(self._loaded or work or self.line.pending)

    def take_changes(self) -> Changes:
        """What changed since the last call; what is over and written is then forgotten."""
        changes = Changes(
            list(self._dirty_jobs.values()),
            self.flights.take_changes(),
            self._wants.take_changes(),
            staged=self.stages.take_changes(),
            besides=self.besides.take(),
            grants=self.flights.grants.take_changes(),
        )
        self._dirty_jobs = {}
        return changes

    def _wake(self, now: float, limit: int) -> None:
        while self.wakes and limit > 0:
            precondition, waiting = self.wakes[0]
            while waiting and limit > 0:
                limit -= 1
                job = self.jobs.get(holder := waiting.popleft())
                if job is None:
                    self.stages.look_at(holder, now)
                elif job.state is JobState.WAITING:
                    self._look_at(job, precondition, now)
            if not waiting:
                self.wakes.popleft()

    def _look_at(self, job: JobRecord, precondition: str, now: float) -> None:
        if not precondition.startswith(NAME):
            fetch = self.fetches[precondition]
            if fetch.state is FetchState.FAILED:
                self._fail_for(job, fetch, now)
                return
            if fetch.state is not FetchState.READY:  # lost again before this job was looked at
                return
        elif not self._wants.holds(precondition):
            return
        self._wants.met(job, precondition)
        if not self._fails_by_size(job, now) and not job.unmet:
            self._make_ready(job, now)

    def _hand_over_again(self) -> None:
        """What was told since the load counts: a hand-over that is over now must not be repeated."""
        for job_id in self.line.again:
            job = self.jobs.get(job_id)
            if job is not None and job.handed:
                again = StopJob if job.state.is_final else Dispatch
                self._instructions.append(again(job.id, job.epoch))
        self.line.again.clear()

    def _dispatch_ready(self, now: float, limit: int) -> None:
        while limit > 0 and self.line.pending:
            limit -= 1
            job = self.jobs.get(self.line.next())
            if job is None or job.state is not JobState.READY:
                continue
            for fetch in self.flights.ungranted(job.fetches, now, job.proving_since):
                self.lose(fetch)  # the origin is asked again, for its owner; this job waits
                job.proving_since = job.proving_since or now
            if job.unmet:
                continue
            self._move_job(job, JobState.DISPATCHED)
            job.epoch += 1
            job.handed, job.dispatched_at = True, now
            self.line.handed.add(job.id)
            self._instructions.append(Dispatch(job.id, job.epoch))

    # -- the parts of which the above is made ---------------------------------------------------

    def _fails_by_size(self, job: JobRecord, now: float) -> bool:
        job.error = job_too_large(job, self.fetches, self.job_bytes)
        if job.error is not None:
            self._finish(job, JobState.FAILED, now)
        return job.error is not None

    def _make_ready(self, job: JobRecord, now: float) -> None:
        self._move_job(job, JobState.READY)
        job.ready_at = now
        self.line.add(job)

    def _fail_for(self, job: JobRecord, fetch: FetchRecord, now: float) -> None:
        job.error = input_failed(fetch)
        self._finish(job, JobState.FAILED, now)

    def _finish(self, job: JobRecord, state: JobState, now: float) -> None:
        self._move_job(job, state)
        job.ended_at = now
        self._instructions += self._wants.detach(job, now)
        if not job.handed:
            self._forget(job)

    def _over(self, job: JobRecord) -> None:
        """The hand-over is over: no process of this job exists any more."""
        job.handed = False
        self.line.handed.discard(job.id)
        self._dirty_jobs[job.id] = job

    def _forget(self, job: JobRecord) -> None:
        """A job that is over stays with the database alone."""
        self.jobs.pop(job.id, None)

    def _move_job(self, job: JobRecord, state: JobState) -> None:
        check_job_transition(job.id, job.state, state)
        job.state = state
        self._dirty_jobs[job.id] = job
