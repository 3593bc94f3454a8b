"""Stage requests beside jobs, with crashes at any time: what is said to be ready is pinned, and nothing else is."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from itertools import count
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stager.errors import ConnectionFailedError, OriginRefusedError, StagerError
from stager.mapper.admission import Admission
from stager.mapper.instructions import NewJob, StartFetch, StopFetch
from stager.mapper.invariants import validate
from stager.mapper.machine import Machine
from stager.mapper.stages import PinOrder, order_of
from stager.model.backoff import RetryPolicy
from stager.model.fetches import Failed, FetchOrder, FetchRequest, FetchResult, Ready
from stager.model.idset import IdSet
from stager.model.records import FetchRecord, JobRecord, NameRecord
from stager.model.stages import Stage, StagedFile, StagedState

URLS = tuple(f"http://h.test/{name}" for name in "abcd")
READY, QUEUED = StagedState.READY, StagedState.QUEUED
choice = st.integers(0, 10_000)
MOST_QUEUED = 4


class World(RuleBasedStateMachine):
    """Users, fetches, the thread that pins, the database, and crashes of all but the database and the tree."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.ids = count(1)
        self.jobs: dict[str, JobRecord] = {}
        self.fetches: dict[str, FetchRecord] = {}
        self.names: dict[str, NameRecord] = {}
        self.files: dict[str, StagedFile] = {}
        """As they are in the database."""
        self.pins: set[str] = set()
        """Files whose pin is in the tree."""
        self.begin(keep=10.0)

    @initialize(keep=st.sampled_from((None, 10.0)))
    def begin(self, keep: float | None) -> None:
        self.keep = keep
        self.restart()

    def restart(self) -> None:
        """What a start does."""
        self.orders: deque[PinOrder] = deque()
        self.running: dict[str, FetchOrder] = {}
        self.machine = Machine(
            Admission(slots=2, per_origin=2),
            RetryPolicy(attempts=3, first_seconds=1.0),
            job_slots=None,
            fetch_ids=(f"f{n}" for n in self.ids),
        )
        open_files = [
            f for f in self.files.values() if f.state is QUEUED or (f.pinned and f.state is not READY)
        ]
        wanted = {f.fetch for f in open_files} | {f for job in self.jobs.values() for f in job.fetches}
        self.machine.load(
            [replace(job, unmet=IdSet(), saved=job.state) for job in self.jobs.values()],
            [replace(f, jobs=IdSet(), saved=f.state) for f in self.fetches.values() if f.id in wanted],
            [],
            [replace(file, refusals=0) for file in open_files],
            now=self.now,
        )
        self.turn()

    def turn(self) -> None:
        """Decide, write, carry out."""
        while True:
            instructions = self.machine.advance(self.now, limit=2)
            changes = self.machine.take_changes()
            validate(self.machine)
            for job in changes.jobs:
                if job.state.is_final:
                    self.jobs.pop(job.id, None)
                else:
                    self.jobs[job.id] = replace(job, unmet=IdSet())
            self.fetches |= {f.id: replace(f, jobs=IdSet()) for f in changes.fetches}
            for file in changes.staged:
                old = self.files[file.id].state
                assert old is not READY or file.state in {READY, StagedState.RELEASED}
                self.files[file.id] = replace(file)
                order = order_of(file)
                if order is not None:
                    self.orders.append(order)
            for instruction in instructions:
                if isinstance(instruction, StartFetch):
                    order_ = instruction.order
                    urls = [other.request.url for other in self.running.values()]
                    assert order_.request.url not in urls, "two transfers of one URL"
                    self.running[order_.fetch] = order_
                elif isinstance(instruction, StopFetch) and instruction.fetch in self.running:
                    self.end(instruction.fetch, OriginRefusedError("stopped"))
            if not self.machine.pending:
                return

    def end(self, fetch: str, error: StagerError | None, *, progressed: bool = False) -> None:
        order = self.running.pop(fetch)
        if error is None:
            digest = ("a" if self.now % 2 else "b") * 64
            result = FetchResult(order.request.url, digest, 10, Path("x"), cached=False)
            self.machine.fetch_signal(Ready(fetch, order.generation, result), now=self.now)
        else:
            self.machine.fetch_signal(
                Failed(fetch, order.generation, error, progressed=progressed), now=self.now
            )

    def of(self, state: StagedState) -> list[str]:
        """Files in that state."""
        return [name for name, file in self.files.items() if file.state is state]

    # -- what may happen --------------------------------------------------------------------------

    @precondition(lambda self: len(self.of(QUEUED)) < MOST_QUEUED)
    @rule(urls=st.lists(st.sampled_from(URLS), min_size=1, max_size=2, unique=True), told=st.booleans())
    def stage(self, urls: list[str], told: bool) -> None:
        stage = Stage(f"s{next(self.ids)}", "ann", 1, self.keep, self.now)
        files = [StagedFile(stage, number, url) for number, url in enumerate(urls)]
        self.files |= {file.id: replace(file) for file in files}
        if told:
            self.machine.stages.add(files)
            self.machine.stages.add(files)
            self.turn()
        else:
            self.restart()  # killed between the database and the mapper

    @rule(url=st.sampled_from(URLS))
    def submit(self, url: str) -> None:
        self.machine.submit(NewJob(f"j{next(self.ids)}", ((FetchRequest(url), None),), ("go",)), now=self.now)
        self.turn()

    @rule(number=choice)
    def cancel_job(self, number: int) -> None:
        if self.machine.jobs:
            jobs = list(self.machine.jobs)
            self.machine.cancel(jobs[number % len(jobs)], now=self.now)
            self.turn()

    @rule(number=choice)
    def cancel(self, number: int) -> None:
        """A file that is not there yet, or any."""
        names = (self.of(QUEUED) if number % 4 else None) or list(self.files)
        if names:
            name = names[number // 4 % len(names)]
            was = self.files[name].state
            done = self.machine.stages.cancel([name], self.now)
            assert bool(done) == (was is QUEUED)
            self.turn()

    @rule(number=choice)
    def release(self, number: int) -> None:
        """A file that is there, or any."""
        names = (self.of(READY) if number % 4 else None) or list(self.files)
        if names:
            file = self.files[names[number // 4 % len(names)]]
            done = self.machine.stages.release([replace(file)], self.now)
            assert bool(done) == (file.state is READY)
            self.turn()

    @rule(number=choice, how=st.sampled_from(("ready", "ready", "refused", "broken")))
    def fetch_ends(self, number: int, how: str) -> None:
        if self.running:
            error = {"refused": OriginRefusedError("no"), "broken": ConnectionFailedError("lost")}.get(how)
            self.end(list(self.running)[number % len(self.running)], error)
            self.turn()

    @rule(how=st.sampled_from(("done", "done", "lost", "failed", "killed")))
    def pin(self, how: str) -> None:
        if not self.orders:
            return
        order = self.orders.popleft()
        stages = self.machine.stages
        if not order.take:
            self.pins.discard(order.file)
            if how != "killed":
                stages.unpinned(order.file)
        elif how == "lost":
            self.pins.discard(
                order.file
            )  # left by one that was killed: its record is taken back, or its time ends it
            fetch = stages.lost(order.file, self.now)
            if fetch is not None:
                self.machine.lose(fetch)
        elif how == "failed":
            stages.failed(order.file, ConnectionFailedError("no permission"), self.now)
        else:
            self.pins.add(order.file)
            if how != "killed":
                stages.pinned(order.file, order.sha256, self.now)
        if how == "killed":
            self.restart()
        else:
            self.turn()

    @rule()
    def crash(self) -> None:
        self.restart()

    @rule(seconds=st.sampled_from((1.0, 100.0)))
    def time_goes_by(self, seconds: float) -> None:
        self.now += seconds
        self.turn()

    # -- what must hold ---------------------------------------------------------------------------

    @invariant()
    def what_is_said_to_be_ready_is_pinned(self) -> None:
        ready = {name for name, file in self.files.items() if file.state is READY}
        assert ready <= self.pins

    @invariant()
    def a_time_is_fixed_once_the_file_is_there(self) -> None:
        for file in self.files.values():
            if file.state is READY:
                assert (file.pinned_until is None) == (self.keep is None) == (file.stage.keep_seconds is None)

    def teardown(self) -> None:
        """Let everything come to its end: then nothing is under way, and nothing is pinned that is not ready."""
        for _ in range(1000):
            if self.orders:
                self.pin("done")
            elif self.running:
                self.fetch_ends(0, "ready")
            elif self.machine.flights.admission.next_time() is not None:
                self.time_goes_by(1000.0)
            else:
                break
        assert not [file for file in self.files.values() if file.state is QUEUED]
        assert self.machine.stages.files == {}
        assert self.pins == {name for name, file in self.files.items() if file.state is READY}


World.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestStages = World.TestCase
