"""A simulated world around the pure machine, and an oracle that knows with sets what must be true.

The `Simulation` plays everybody who talks to the machine: users, the place where fetches run, the
dispatcher, the database and the crash. The `Oracle` is told the same events and never looks at the
machine's reasoning; it is as simple as it can be, and slow.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import count
from pathlib import Path

from stager.errors import (
    CancelledError,
    CommandFailedError,
    ConnectionFailedError,
    CredentialError,
    CredentialRequiredError,
    HandedBackError,
    InputFailedError,
    OriginBusyError,
    OriginRefusedError,
    StagerError,
    WorkerLostError,
)
from stager.mapper.admission import Admission
from stager.mapper.instructions import (
    AdoptFetch,
    Dispatch,
    Instruction,
    NewJob,
    StartFetch,
    StopFetch,
    StopJob,
)
from stager.mapper.invariants import validate
from stager.mapper.machine import Machine
from stager.mapper.verdicts import MOST_HAND_OVERS
from stager.model.backoff import RetryPolicy
from stager.model.entries import Entry
from stager.model.events import JobEnded, JobRefused, JobSignal, JobStarted
from stager.model.fetches import (
    Failed,
    FetchOrder,
    FetchRequest,
    FetchResult,
    FetchState,
    Progress,
    Ready,
    Signal,
    Started,
)
from stager.model.idset import IdSet
from stager.model.jobs import JobState
from stager.model.records import Changes, FetchRecord, JobRecord, NameRecord
from stager.model.urls import parse_url

START = 1_000_000_000.0
"""The first instant of a simulation, seconds since 1970."""


class Database:
    """The columns that are written, and what a start reads of them."""

    def __init__(self) -> None:
        self.jobs: dict[str, JobRecord] = {}
        self.fetches: dict[str, FetchRecord] = {}
        self.names: dict[str, NameRecord] = {}

    def write(self, changes: Changes) -> None:
        """One transaction; what the machine does with its records afterwards changes nothing here."""
        self.jobs.update({j.id: replace(j, unmet=IdSet(), saved=None) for j in changes.jobs})
        self.fetches.update({f.id: replace(f, jobs=IdSet(), saved=None) for f in changes.fetches})
        self.names.update({n.name: replace(n, jobs=IdSet(), saved=False) for n in changes.names})

    def load_into(self, machine: Machine, *, now: float, keep_running: bool = False) -> None:
        """What a start does: open jobs, the fetches they refer to, all names."""
        jobs = [j for j in self.jobs.values() if j.handed or not j.state.is_final]
        wanted = {fetch for job in jobs for fetch in job.fetches}
        machine.load(
            [replace(j, unmet=IdSet(), saved=j.state) for j in jobs],
            [replace(f, jobs=IdSet(), saved=f.state) for f in self.fetches.values() if f.id in wanted],
            [replace(n, jobs=IdSet(), saved=True) for n in self.names.values()],
            now=now,
            keep_running=keep_running,
        )


def at_hand(request: FetchRequest, digest: str, fresh_until: float | None, now: float) -> bool:
    """Whether these bytes answer the request: by digest if it names one, else while they are fresh."""
    if request.refresh:
        return False
    if request.sha256 is not None:
        return request.sha256 == digest
    return fresh_until is None or fresh_until > now


@dataclass
class Oracle:
    """What must be true, in sets; copied at each commit and put back by a crash."""

    jobs: dict[str, NewJob] = field(default_factory=dict)
    fetches_of: dict[str, tuple[str, ...]] = field(default_factory=dict)
    requests: dict[str, FetchRequest] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    ready: dict[str, tuple[str, float | None]] = field(default_factory=dict)
    """Fetches whose bytes are there: digest and until when they are fresh."""
    failed: set[str] = field(default_factory=set)
    locked: dict[str, str] = field(default_factory=dict)
    """Fetches that wait for a credential, and whose they are."""
    given: dict[tuple[str, int], float] = field(default_factory=dict)
    """Tries that ran when their owner gave a credential, which they may have missed; when to try again."""
    lost_once: set[str] = field(default_factory=set)
    fruitless: Counter[str] = field(default_factory=Counter)
    not_before: dict[str, float] = field(default_factory=dict)
    met: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    handed: dict[str, int] = field(default_factory=dict)
    epochs: Counter[str] = field(default_factory=Counter)
    started: set[str] = field(default_factory=set)
    """Jobs of which the machine was told that they run."""
    ended: dict[str, JobEnded] = field(default_factory=dict)
    input_failed: set[str] = field(default_factory=set)
    given_up: set[str] = field(default_factory=set)
    """Jobs whose hand-over was refused too often."""

    def may_run(self, job: str) -> bool:
        """Whether all preconditions of the job hold."""
        return set(self.jobs[job].after) <= self.met and set(self.fetches_of[job]) <= set(self.ready)

    def is_over(self, job: str) -> bool:
        return job in self.cancelled or job in self.ended or job in self.input_failed or job in self.given_up

    def needs_fetches(self, job: str) -> bool:
        return not self.is_over(job) and job not in self.started

    def under_way(self, request: FetchRequest, owner: str) -> set[str]:
        """Fetches that some job of the owner needs and that are neither in nor failed, for the same bytes."""
        return {
            fetch
            for job in self.jobs
            if self.needs_fetches(job)
            for fetch in self.fetches_of[job]
            if fetch not in self.ready
            and fetch not in self.failed
            and self.owners[fetch] == owner
            and (self.requests[fetch].key, self.requests[fetch].sha256) == (request.key, request.sha256)
        }

    def submitted(self, new: NewJob, fetches: tuple[str, ...], now: float) -> None:
        """Judge which fetches the machine chose for the job's inputs."""
        assert len(fetches) == len(new.inputs)
        for (request, entry), fetch in zip(new.inputs, fetches, strict=True):
            good = entry is not None and at_hand(request, entry.object, entry.fresh_until, now)
            if fetch not in self.requests:
                self.requests[fetch] = request
                self.owners[fetch] = new.owner
                if good:
                    assert entry is not None
                    self.ready[fetch] = (entry.object, entry.fresh_until)
                else:
                    twins = (
                        set() if self._lost_twin(request, new.owner) else self.under_way(request, new.owner)
                    )
                    assert not twins, f"a second transfer of {request.url} beside {twins}"
            else:
                known = self.requests[fetch]
                assert (known.key, known.sha256) == (request.key, request.sha256)
                assert fetch not in self.failed, "a job joined a fetch that had failed"
                assert self.locked.get(fetch, new.owner) == new.owner, (
                    "a job waits for somebody else's credential"
                )
                assert not good or fetch in self.ready, "a job waits for bytes that are at hand"
                if fetch in self.ready:
                    assert at_hand(request, *self.ready[fetch], now) or self._is_new(fetch, request, new), (
                        "a job was given bytes that are not good for it"
                    )
        self.jobs[new.id] = new
        self.fetches_of[new.id] = fetches

    def _lost_twin(self, request: FetchRequest, owner: str) -> bool:
        """Whether such bytes were lost once: then two transfers may be under way, and a third begun when
        the one that jobs join is given up; the key lets them run one after the other."""
        same = (request.key, request.sha256, owner)
        lost = ((self.requests[f], self.owners[f]) for f in self.lost_once)
        return any((r.key, r.sha256, whose) == same for r, whose in lost)

    def _is_new(self, fetch: str, request: FetchRequest, new: NewJob) -> bool:
        """Whether the fetch was made for another input of the same job."""
        return all(fetch not in fetches for fetches in self.fetches_of.values()) and any(
            other == request for other, _ in new.inputs
        )

    def fetch_ended(self, signal: Ready | Failed, now: float, retry: RetryPolicy) -> None:
        if isinstance(signal, Ready):
            self.ready[signal.fetch] = (signal.result.sha256, signal.result.fresh_until)
            return
        if isinstance(signal.error, HandedBackError):
            return
        if isinstance(signal.error, CredentialError):
            self.fruitless[signal.fetch] = 0
            again = self.given.get((signal.fetch, signal.generation))
            if again is None:
                self.locked[signal.fetch] = self.owners[signal.fetch]
            else:
                self.not_before[signal.fetch] = again
            return
        self.fruitless[signal.fetch] += 1
        if signal.progressed or isinstance(signal.error, WorkerLostError):
            self.fruitless[signal.fetch] = 0
        if not signal.error.transient or self.fruitless[signal.fetch] >= retry.attempts:
            self.failed.add(signal.fetch)
        elif not isinstance(signal.error, WorkerLostError):
            wait = signal.error.details.get("retry_after", 0.5 * retry.first_seconds)
            self.not_before[signal.fetch] = now + wait

    def lost(self, fetch: str) -> None:
        if fetch in self.ready:
            del self.ready[fetch]
            self.lost_once.add(fetch)
            self.fruitless[fetch] = 0
            self.not_before.pop(fetch, None)


class Place(StrEnum):
    """What the dispatcher knows of one hand-over."""

    ORDERED = "ordered"
    RUNNING = "running"
    ENDED = "ended"
    REFUSED = "refused"


class World:
    """Tries of fetches, which die with the server unless they outlive it, and processes of jobs, which do not."""

    def __init__(self, slots: int, per_origin: int, *, batch: int = 1, outlives: bool = False) -> None:
        self.slots = slots
        self.per_origin = per_origin
        self.batch = batch
        self.outlives = outlives
        self.tries: dict[tuple[str, int], FetchRequest] = {}
        self.seats: dict[tuple[str, int], tuple[str, int]] = {}
        """Try → the first try in its seat."""
        self.orphans: set[tuple[str, int]] = set()
        """Tries that the server does not know any more."""
        self.tried: set[tuple[str, int]] = set()
        self.stopped: set[tuple[str, int]] = set()
        self.places: dict[tuple[str, int], Place] = {}
        self.ends: dict[tuple[str, int], JobEnded] = {}
        self.starts: Counter[str] = Counter()
        self.inbox: list[Signal | JobSignal] = []
        self.past: list[Signal | JobSignal] = []
        self.unrecorded: list[Ready | Failed] = []
        """Delivered since the last commit: a stream brings them again after a crash."""

    def start_seat(self, start: StartFetch) -> None:
        orders = (start.order, *start.then)
        assert len(orders) <= self.batch, "more tries in a seat than allowed"
        assert len({o.request.origin for o in orders}) == 1, "a seat of several origins"
        for order in orders:
            one = (order.fetch, order.generation)
            assert one not in self.tried, f"try {one} was ordered twice"
            others = {r.key for o, r in self.tries.items() if o not in self.orphans}
            assert order.request.key not in others, f"two tries of {order.request.key} at once"
            self.tries[one] = order.request
            self.seats[one] = (orders[0].fetch, orders[0].generation)
            self.tried.add(one)
        assert sum(self.seats_by_origin().values()) <= self.slots, "more seats than slots"
        seats = self.seats_by_origin()[start.order.request.origin]
        assert seats <= self.per_origin, "more seats of one origin than allowed"

    def seats_by_origin(self) -> Counter[str]:
        """Seats of which the server knows."""
        known = self.tries.keys() - self.orphans
        return Counter(
            parse_url(url).origin
            for _, url in {self.seats[one]: self.tries[one].url for one in known}.items()
        )

    def adopt(self, order: FetchOrder) -> None:
        """A try that was ordered and never begun is found out by those who look for signs of life."""
        one = (order.fetch, order.generation)
        if one not in self.tried:
            self.tried.add(one)
            url = parse_url(order.request.url).redacted
            self.inbox.append(Failed(*one, WorkerLostError("no sign of life", url=url), progressed=True))

    def hand_over(self, job: str, epoch: int) -> None:
        """A second hand-over of the same id repeats what is known; a refused one is tried again."""
        place = self.places.get((job, epoch))
        if place is Place.RUNNING:
            self.inbox.append(JobStarted(job, epoch))
        elif place is Place.ENDED:
            self.inbox.append(self.ends[job, epoch])
        else:
            self.places[job, epoch] = Place.ORDERED

    def stop_job(self, job: str, epoch: int) -> None:
        """A job that never ran ends at once; a running one ends when its process does."""
        place = self.places.get((job, epoch))
        if place is not Place.RUNNING and place is not Place.ENDED:
            self.places[job, epoch] = Place.ENDED
            self.ends[job, epoch] = JobEnded(job, epoch, None, CommandFailedError("stopped before its start"))
        if place is not Place.RUNNING:
            self.inbox.append(self.ends[job, epoch])

    def start_job(self, job: str, epoch: int) -> None:
        assert not self.starts[job], f"job {job} was started twice"
        self.starts[job] += 1
        self.places[job, epoch] = Place.RUNNING
        self.inbox.append(JobStarted(job, epoch))

    def refuse_job(self, job: str, epoch: int, lost: tuple[str, ...]) -> None:
        self.places[job, epoch] = Place.REFUSED
        self.inbox.append(JobRefused(job, epoch, lost))

    def end_job(self, job: str, epoch: int, exit_code: int) -> None:
        error = CommandFailedError(f"job {job} ended with {exit_code}") if exit_code else None
        self.places[job, epoch] = Place.ENDED
        self.ends[job, epoch] = JobEnded(job, epoch, exit_code, error, seconds=1.0)
        self.inbox.append(self.ends[job, epoch])

    def in_place(self, place: Place) -> list[tuple[str, int]]:
        return sorted(one for one, now in self.places.items() if now is place)

    def crash(self) -> None:
        """Processes live on; what was only in the server's memory is gone."""
        for one in self.in_place(Place.ORDERED):
            del self.places[one]
        if self.outlives:
            kept = [s for s in self.inbox if isinstance(s, Ready | Failed)]
            self.inbox[:] = [*self.unrecorded, *(s for s in kept if s not in self.unrecorded)]
            self.past[:] = [s for s in self.past if s not in self.unrecorded]
            self.seats = {one: one for one in self.tries}
        else:
            self.tries.clear()
            self.stopped.clear()
            self.inbox.clear()
        self.unrecorded.clear()

    def taken_over(self, running: set[tuple[str, int]]) -> None:
        """A new server knows of these tries only."""
        self.orphans = self.tries.keys() - running


class Simulation:
    """Drives the machine as the loop would, checks it after every step, and crashes it."""

    def __init__(
        self,
        *,
        slots: int = 3,
        per_origin: int = 2,
        job_slots: int | None = 2,
        batch: int = 1,
        outlives: bool = False,
    ) -> None:
        self.retry = RetryPolicy(attempts=3, first_seconds=1.0, longest_seconds=20.0)
        self.limits = (slots, per_origin, job_slots)
        self.world = World(slots, per_origin, batch=batch, outlives=outlives)
        self.database = Database()
        self.oracle = Oracle()
        self.committed = Oracle()
        self.acknowledged: set[str] = set()
        self.now = START
        self._numbers = count(1)
        self._fetch_ids: Iterator[str] = (f"f{n:05}" for n in count(1))
        self.machine = self._new_machine()

    def _new_machine(self) -> Machine:
        slots, per_origin, job_slots = self.limits
        admission = Admission(slots=slots, per_origin=per_origin, batch=self.world.batch)
        return Machine(admission, self.retry, job_slots=job_slots, fetch_ids=self._fetch_ids)

    # -- users ----------------------------------------------------------------------------------

    def submit(
        self,
        inputs: Iterable[tuple[FetchRequest, Entry | None]] = (),
        after: tuple[str, ...] = (),
        priority: int = 0,
        owner: str = "",
    ) -> str:
        new = NewJob(f"j{next(self._numbers):05}", tuple(inputs), after, priority, owner)
        record = self.machine.submit(new, now=self.now)
        for fetch in record.fetches:
            held = self.machine.fetches[fetch]
            assert held.owner == owner, "a fetch counts for somebody else"
            assert held.priority >= priority or held.state not in {FetchState.QUEUED, FetchState.RUNNING}
        self.oracle.submitted(new, record.fetches, self.now)
        if self.oracle.may_run(new.id):
            assert record.state is JobState.READY, f"job {new.id} waits although all holds already"
        else:
            assert record.state is JobState.WAITING
        return new.id

    def meet(self, name: str) -> None:
        assert self.machine.meet(name, now=self.now) == (name not in self.oracle.met)
        self.oracle.met.add(name)

    def unmeet(self, name: str) -> None:
        assert self.machine.unmeet(name) == (name in self.oracle.met)
        self.oracle.met.discard(name)

    def cancel(self, job: str) -> None:
        """Cancel a job that is not over, as far as the oracle knows."""
        assert self.machine.cancel(job, now=self.now)
        self.oracle.cancelled.add(job)

    def lose(self, fetch: str) -> None:
        self.machine.lose(fetch)
        self.oracle.lost(fetch)

    def give_credential(self, owner: str) -> None:
        """One that opens all that this owner's fetches wait for."""
        wanted = {f for f, whose in self.oracle.locked.items() if whose == owner and self._is_wanted(f)}
        assert self.machine.flights.unlock(lambda f: f.owner == owner, at=self.now + 1.0) == len(wanted)
        for fetch in wanted:
            del self.oracle.locked[fetch]
            self.oracle.not_before[fetch] = self.now + 1.0
        for one in self.machine.fetches.values():
            if one.state is FetchState.RUNNING and one.owner == owner:
                self.oracle.given[one.id, one.generation] = self.now + 1.0

    # -- signals --------------------------------------------------------------------------------

    def answer(self, one: tuple[str, int], outcome: str, *, fresh_for: float | None = None) -> None:
        """A live try ends: ``ready``, ``permanent``, or one of the transient failures."""
        request = self.world.tries.pop(one)
        self.world.seats.pop(one)
        self.world.orphans.discard(one)
        url = parse_url(request.url).redacted
        signal: Signal
        if outcome == "ready":
            digest = request.sha256 or "c" * 64
            until = None if fresh_for is None else self.now + fresh_for
            result = FetchResult(request.url, digest, 10, Path("object"), cached=False, fresh_until=until)
            signal = Ready(*one, result)
        elif outcome == "wants a credential" and one not in self.world.stopped:
            signal = Failed(*one, CredentialRequiredError("status 401", url=url, host="h"))
        elif outcome in {"permanent", "wants a credential"}:
            error: StagerError = (
                CancelledError("stopped", url=url)
                if one in self.world.stopped
                else OriginRefusedError("status 404", url=url)
            )
            signal = Failed(*one, error)
        else:
            error = {
                "busy": OriginBusyError("busy", status=429, retry_after=6.0, url=url),
                "handed back": HandedBackError("worker stops", url=url),
                "worker lost": WorkerLostError("no sign of life", url=url),
            }.get(outcome, ConnectionFailedError("reset", cause="by peer", url=url))
            signal = Failed(*one, error, progressed=outcome in {"progressed", "worker lost"})
        self.world.inbox.append(signal)

    def deliver(self, signal: Signal | JobSignal, *, jitter: float = 0.0) -> None:
        """The machine is told; the oracle too, unless the signal is of a try or hand-over that is over."""
        if isinstance(signal, JobStarted | JobRefused | JobEnded):
            self._tell_of_job(signal)
        elif isinstance(signal, Started | Progress):
            self.machine.fetch_signal(signal, now=self.now, jitter=jitter)
        else:
            first = signal in self.world.inbox
            if first and self._is_wanted(signal.fetch):
                self.oracle.fetch_ended(signal, self.now, self.retry)
            self.machine.fetch_signal(signal, now=self.now, jitter=jitter)
            if first:
                self.world.unrecorded.append(signal)
        if signal in self.world.inbox:
            self.world.inbox.remove(signal)
            self.world.past.append(signal)

    def _is_wanted(self, fetch: str) -> bool:
        return any(
            fetch in fetches and self.oracle.needs_fetches(job)
            for job, fetches in self.oracle.fetches_of.items()
        )

    def _tell_of_job(self, signal: JobSignal) -> None:
        oracle = self.oracle
        if oracle.handed.get(signal.job) == signal.epoch:
            if isinstance(signal, JobStarted):
                oracle.started.add(signal.job)
            elif isinstance(signal, JobRefused):
                del oracle.handed[signal.job]
                for fetch in signal.lost:
                    oracle.lost(fetch)
                if signal.epoch >= MOST_HAND_OVERS and not oracle.is_over(signal.job):
                    oracle.given_up.add(signal.job)
            else:
                del oracle.handed[signal.job]
                oracle.ended.setdefault(signal.job, signal)
        self.machine.job_signal(signal, now=self.now)
        self._note_failures()  # a refused job whose input failed meanwhile is over at once

    def repeatable(self) -> list[Signal | JobSignal]:
        """Signals that may come a second time; a refusal does not once its hand-over was repeated."""
        return [
            s
            for s in self.world.past
            if not isinstance(s, JobRefused) or self.world.places.get((s.job, s.epoch)) is Place.REFUSED
        ]

    # -- the loop -------------------------------------------------------------------------------

    def commit(self, *, limit: int = 1000, crash_after: int | None = None) -> None:
        """One round of the loop; `crash_after` instructions were carried out when the server died."""
        instructions = self.machine.advance(self.now, limit=limit)
        self._note(instructions)
        self.database.write(self.machine.take_changes())
        self.world.unrecorded.clear()
        self.committed = copy.deepcopy(self.oracle)
        self.acknowledged |= set(self.oracle.jobs)
        for instruction in instructions[:crash_after]:
            self._carry_out(instruction)
        if crash_after is not None:
            self.crash()

    def settle(self, *, limit: int = 1000) -> None:
        """Rounds until nothing is pending."""
        for _ in range(10_000):
            self.commit(limit=limit)
            if not self.machine.pending:
                return
        raise AssertionError("the machine is pending for ever")

    def crash(self) -> None:
        """The server dies; what was not committed never happened; a new one starts."""
        self.world.crash()
        self.oracle = copy.deepcopy(self.committed)
        self.machine = self._new_machine()
        self.database.load_into(self.machine, now=self.now, keep_running=self.world.outlives)
        running = (f for f in self.machine.fetches.values() if f.state is FetchState.RUNNING)
        self.world.taken_over({(f.id, f.generation) for f in running})
        self.oracle.locked.clear()  # all are tried: what was given meanwhile, nobody noticed
        self.oracle.given.clear()
        self._note_failures()

    def _note(self, instructions: Sequence[Instruction]) -> None:
        self._note_failures()
        new: list[int] = []
        for instruction in instructions:
            if isinstance(instruction, StartFetch):
                for order in (instruction.order, *instruction.then):
                    assert self.oracle.not_before.get(order.fetch, 0.0) <= self.now, "tried too soon"
                    assert not instruction.then or self.machine.fetches[order.fetch].error is None, (
                        "a fetch that failed shares a seat"
                    )
            if not isinstance(instruction, Dispatch):
                continue
            job, epoch = instruction.job, instruction.epoch
            if self.oracle.handed.get(job) == epoch:
                continue  # handed over again after a crash
            assert job not in self.oracle.handed, f"job {job} was handed over twice"
            assert not self.oracle.is_over(job), f"job {job} was handed over after its end"
            assert self.oracle.may_run(job), f"job {job} was handed over before its preconditions held"
            self.oracle.handed[job] = epoch
            self.oracle.epochs[job] += 1
            assert epoch == self.oracle.epochs[job], f"an id of job {job} is used for two hand-overs"
            new.append(self.oracle.jobs[job].priority)
        left = [j.priority for j in self.machine.jobs.values() if j.state is JobState.READY]
        assert not new or not left or min(new) >= max(left), "a job of lower priority went first"

    def _note_failures(self) -> None:
        """A job that waits for a failed input may be failed at any later step; the input must have failed."""
        for job in self.oracle.jobs:
            if job not in self.machine.jobs and not self.oracle.is_over(job):
                assert set(self.oracle.fetches_of[job]) & self.oracle.failed, f"job {job} vanished"
                self.oracle.input_failed.add(job)

    def _carry_out(self, instruction: Instruction) -> None:
        if isinstance(instruction, StartFetch):
            self.world.start_seat(instruction)
        elif isinstance(instruction, AdoptFetch):
            self.world.adopt(instruction.order)
        elif isinstance(instruction, StopFetch):
            one = (instruction.fetch, instruction.generation)
            if one in self.world.tries:
                self.world.stopped.add(one)
        elif isinstance(instruction, Dispatch):
            self.world.hand_over(instruction.job, instruction.epoch)
        else:
            assert isinstance(instruction, StopJob)
            self.world.stop_job(instruction.job, instruction.epoch)

    # -- what must hold -------------------------------------------------------------------------

    def check(self) -> None:
        """What must hold after every step."""
        validate(self.machine)
        if self.machine.pending:
            return
        room = self.limits[2] is None or len(self.oracle.handed) < self.limits[2]
        for job in self.oracle.jobs:
            if self.oracle.is_over(job) or job in self.oracle.handed:
                continue
            state = self.machine.jobs[job].state
            assert not set(self.oracle.fetches_of[job]) & self.oracle.failed, f"job {job} should have failed"
            if self.oracle.may_run(job):
                assert state is JobState.READY, f"job {job} may run but is {state}"
                assert not room, f"job {job} may run and there is a slot"
            else:
                assert state is JobState.WAITING, f"job {job} must wait but is {state}"

    def check_no_fetch_idles(self) -> None:
        """Right after a round of the loop no fetch waits that could run."""
        undelivered = [s for s in self.world.inbox if isinstance(s, Ready | Failed)]
        if undelivered:
            return  # their places are not free yet, as far as the machine can know
        seats = self.world.seats_by_origin()
        origins = {v.origin: v for v in self.machine.flights.admission.origins()}
        keys = {r.key for o, r in self.world.tries.items() if o not in self.world.orphans}
        for fetch in self.machine.fetches.values():
            if fetch.state is FetchState.QUEUED and fetch.not_before <= self.now:
                origin = origins[parse_url(fetch.request.url).origin]
                assert (
                    sum(seats.values()) >= self.limits[0]
                    or seats[origin.origin] >= origin.limit
                    or (origin.paused_until is not None and origin.paused_until > self.now)
                    or fetch.request.key in keys
                ), f"fetch {fetch.id} could run and does not"

    # -- the end --------------------------------------------------------------------------------

    def drive_to_the_end(self) -> None:
        """Everybody answers, all names are met; then every job must be over, as the oracle says."""
        for name in {name for job in self.oracle.jobs.values() for name in job.after} - self.oracle.met:
            self.meet(name)
        for turn in range(400):
            for owner in set(self.oracle.locked.values()):
                self.give_credential(owner)
            self.settle()
            if all(self.oracle.is_over(job) for job in self.oracle.jobs) and not self.oracle.handed:
                break
            for one in sorted(self.world.tries):
                self.answer(one, ("ready", "transient", "permanent", "ready")[(turn + len(one[0])) % 4])
            for job, epoch in self.world.in_place(Place.ORDERED):
                self.world.start_job(job, epoch)
            for job, epoch in self.world.in_place(Place.RUNNING):
                self.world.end_job(job, epoch, exit_code=turn % 2)
            for signal in list(self.world.inbox):
                self.deliver(signal)
                self.check()
            self.now = max(self.now, self.machine.next_time() or 0.0)
        else:
            stuck = {job for job in self.oracle.jobs if not self.oracle.is_over(job)}
            raise AssertionError(f"stuck: {stuck or self.oracle.handed}")
        self.settle()
        self.check_the_end()

    def check_the_end(self) -> None:
        assert set(self.oracle.jobs) == set(self.database.jobs) == self.acknowledged
        assert not self.machine.jobs
        assert not self.machine.fetches
        assert not self.machine.flights.joinable
        for job, record in self.database.jobs.items():
            assert not record.handed
            ended = self.oracle.ended.get(job)
            if job in self.oracle.cancelled:
                assert record.state is JobState.CANCELLED
            elif ended is not None:
                assert record.state is (JobState.DONE if ended.error is None else JobState.FAILED)
                assert record.exit_code == ended.exit_code
                assert record.error == ended.error
                assert self.world.starts[job] == 1
            elif job in self.oracle.given_up:
                assert record.state is JobState.FAILED
                assert record.error is not None
                assert "could not be handed over" in record.error.what
                assert not self.world.starts[job]
            else:
                assert record.state is JobState.FAILED
                assert isinstance(record.error, InputFailedError)
                assert record.error.details["fetch"] in self.oracle.failed
                assert not self.world.starts[job]
        for fetch in self.database.fetches.values():
            assert fetch.state in {FetchState.READY, FetchState.FAILED, FetchState.CANCELLED}
