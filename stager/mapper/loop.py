"""The loop around the machine: receive, decide, write, carry out.

One thread. Everything that happens reaches it through one inbox; it blocks on that inbox, or until
the next retry is due, and otherwise uses no CPU. Whatever arrived while a batch was being written is
the next batch, so that under load many events share one transaction.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from stager import steps
from stager.clock import Clock
from stager.errors import ConflictError, InputError, NotFoundError, StagerError, StateError
from stager.mapper.instructions import (
    AdoptFetch,
    Dispatch,
    Instruction,
    MakeRoom,
    StartFetch,
    StopFetch,
    StopJob,
)
from stager.mapper.machine import Machine
from stager.mapper.ports import FetchPlace, JobPlace, SignalSource, StateStore
from stager.mapper.taking import Submission, take_in
from stager.model.answered import Answered
from stager.model.backoff import outage_wait
from stager.model.events import DispatchInput, DispatchOrder, JobEnded, JobRefused, JobSignal, JobStarted
from stager.model.fetches import Failed, Progress, Ready, Signal, Started
from stager.model.jobs import JobSpec
from stager.model.records import Changes, JobRecord, Position

log = logging.getLogger(__name__)

BATCH_SECONDS = 0.005
"""Events are taken into one batch for at most this long."""
TURN_SECONDS = 0.01
"""What a turn may take: whoever asks the server something waits for one turn at most."""
FEWEST_PIECES, MOST_PIECES = 16, 2048
"""Jobs woken or handed over in one turn, at least and at most."""
LONGEST_OUTAGE_WAIT_SECONDS = 30.0
"""Between two attempts to write while the database refuses."""


@dataclass(frozen=True, slots=True)
class _Command:
    """Something a user asked for; answered when it is durable."""

    run: Callable[[Machine, float], Any]
    specs: dict[str, JobSpec]
    answer: Future[Any]


@dataclass(frozen=True, slots=True)
class _Batch:
    """What a stream delivered; of a session before the last load it counts no more."""

    signals: Sequence[Signal | JobSignal]
    position: Position
    session: int


class _Stop:
    """Ends the loop."""


_Item = Signal | JobSignal | _Batch | _Command | _Stop


class Mapper:
    """The thread that turns what completes into what may run.

    Args:
        new_machine: makes an empty machine (again after an outage of the database).
        store: where the truth is kept.
        clock: the time.
        jitter: random numbers in [0, 1) for back-off.
        on_change: called with each batch after it is durable; must be quick and must not raise.
        make_room: told what room fetches wait for; must be quick and must not raise.
    """

    def __init__(
        self,
        new_machine: Callable[[], Machine],
        store: StateStore,
        *,
        clock: Clock,
        jitter: Callable[[], float],
        on_change: Callable[[Changes], None] = lambda _: None,
        make_room: Callable[[MakeRoom], None] = lambda _: None,
    ) -> None:
        self._new_machine = new_machine
        self._machine = new_machine()
        self._store = store
        self._clock = clock
        self._jitter = jitter
        self._on_change, self._make_room = on_change, make_room
        self._fetch_place: FetchPlace | None = None
        self._job_place: JobPlace | None = None
        self._source: SignalSource | None = None
        self._position: Position | None = None
        self._inbox: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._progress: dict[str, Progress] = {}
        self._specs: dict[str, JobSpec] = {}
        self._failures, self._session = 0, 0
        self._pieces = MOST_PIECES // 8
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mapper", daemon=True)

    # -- from other threads ---------------------------------------------------------------------

    def start(self, fetch_place: FetchPlace, job_place: JobPlace, source: SignalSource | None = None) -> None:
        """Load what is not over, go on with it, and begin to listen (also to `source`, if there is one).

        Raises:
            StateError: the database can't be read.
        """
        self._fetch_place, self._job_place, self._source = fetch_place, job_place, source
        self._load()
        job_place.tidy(self._machine.jobs.keys())
        self._thread.start()

    def stop(self) -> None:
        """End the loop after the batch in hand; commands not yet taken up are refused."""
        if self._thread.is_alive():
            self._inbox.put(_Stop())
            self._thread.join()
        self._stopped.set()
        while not self._inbox.empty():
            self._refuse(self._inbox.get(), StateError("the server is stopping"))

    def fetch_signal(self, signal: Signal) -> None:
        """Take in what a fetch tells; returns at once."""
        if isinstance(signal, Progress):
            self._progress[signal.fetch] = signal  # lossy, for people to look at; decides nothing
            return
        self._inbox.put(signal)
        if isinstance(signal, Ready):
            steps.reached("fetch.signalled")

    def job_signal(self, signal: JobSignal) -> None:
        """Take in what the dispatcher tells; returns at once."""
        self._inbox.put(signal)

    def submit(self, jobs: Sequence[Submission], answered: Answered | None = None) -> Future[list[str]]:
        """Take in jobs, all or none; the answer (their ids) comes when they are durable, and `answered` with them."""
        return self._ask(partial(take_in, jobs, answered), {new.id: spec for new, spec in jobs})

    def meet(self, name: str) -> Future[bool]:
        """Say that a precondition is met; the answer is False when it was already."""
        return self._ask(lambda machine, now: machine.meet(name, now=now))

    def unmeet(self, name: str) -> Future[bool]:
        """Say that a precondition holds no more; the answer is False when it did not."""
        return self._ask(lambda machine, _: machine.unmeet(name))

    def cancel(self, job: str) -> Future[bool]:
        """Cancel a job; the answer is False when it was cancelled already."""
        return self._ask(lambda machine, now: machine.cancel(job, now=now))

    def inspect(self, look: Callable[[Machine], Any]) -> Future[Any]:
        """What `look` says of the machine, between two batches; it must not change anything."""
        return self._ask(lambda machine, _: look(machine))

    def repair(self, mend: Callable[[Machine, float], Any]) -> Future[Any]:
        """Change the machine, between two batches; the answer is what `mend` says, once it is durable."""
        return self._ask(mend)

    def progress(self, fetch: str) -> Progress | None:
        """How far a running fetch is."""
        return self._progress.get(fetch)

    def _ask(
        self, run: Callable[[Machine, float], Any], specs: dict[str, JobSpec] | None = None
    ) -> Future[Any]:
        answer: Future[Any] = Future()
        command = _Command(run, specs or {}, answer)
        self._inbox.put(command)
        if self._stopped.is_set():
            self._refuse(command, StateError("the server is stopping"))
        return answer

    # -- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        while self._turn():
            pass
        self._stopped.set()

    def _turn(self) -> bool:
        """Receive, decide, write, carry out. False when the loop is told to stop."""
        taken: list[tuple[_Command, Any]] = []
        began = self._clock.monotonic()
        try:
            first = self._next(self._patience())
            began = self._clock.monotonic()
            if not self._take_batch(first, began, taken):
                self._refuse_all(taken, StateError("the server is stopping"))
                return False
            instructions = self._machine.advance(self._clock.time(), limit=self._pieces)
            changes = self._machine.take_changes()
            changes.at, changes.position, self._position = self._clock.time(), self._position, None
            if changes:
                steps.reached("record.begin")
                self._store.save(changes, self._specs)
                steps.reached("record.committed")
                self._failures = 0
            for command, value in taken:
                if not command.answer.done():
                    command.answer.set_result(value)
            self._carry_out(instructions)
            self._after(changes)
        except StateError as error:
            return self._outage(error, taken)
        except Exception:  # a fault of ours must not end the server: what was written is still right
            log.exception("internal fault in the mapper; going back to what was written")
            return self._outage(StateError("internal fault in the mapper"), taken)
        self._adapt(self._clock.monotonic() - began)
        return True

    def _next(self, timeout: float | None) -> _Item | None:
        try:
            return self._inbox.get(timeout=timeout)
        except queue.Empty:
            return None

    def _patience(self) -> float | None:
        """Seconds to wait for the next event; None: as long as it takes."""
        if self._machine.pending:
            return 0.0
        at = self._machine.next_time()
        return None if at is None else max(0.0, at - self._clock.time())

    def _take_batch(self, item: _Item | None, began: float, taken: list[tuple[_Command, Any]]) -> bool:
        """Decide about `item` and what else is there, for a limited time; False on the word to stop."""
        while item is not None:
            if isinstance(item, _Stop):
                return False
            self._take(item, taken)
            if self._clock.monotonic() - began > BATCH_SECONDS:
                break
            item = self._next(0.0)
        return True

    def _take(self, item: _Item, taken: list[tuple[_Command, Any]]) -> None:
        now = self._clock.time()
        if isinstance(item, _Batch):
            if item.session == self._session:
                for signal in item.signals:
                    self._take(signal, taken)
                if not all(isinstance(signal, Started) for signal in item.signals):  # else nothing is written
                    self._position = item.position
        elif isinstance(item, _Command):
            taken.append((item, None))  # answered, one way or the other, even if deciding about it breaks
            try:
                taken[-1] = (item, item.run(self._machine, now))
                self._specs |= item.specs
            except (InputError, NotFoundError, ConflictError) as error:
                item.answer.set_exception(error)
        elif isinstance(item, Started | Ready | Failed | Progress):
            self._machine.fetch_signal(item, now=now, jitter=self._jitter())
            if not isinstance(item, Started):
                self._progress.pop(item.fetch, None)
        elif isinstance(item, JobStarted | JobRefused | JobEnded):
            self._machine.job_signal(item, now=now)

    def _adapt(self, seconds: float) -> None:
        """Size the pieces so that a turn takes about `TURN_SECONDS`, whatever the disk and the jobs are like."""
        if seconds > TURN_SECONDS:
            self._pieces = max(self._pieces // 2, FEWEST_PIECES)
        elif seconds < TURN_SECONDS / 2:
            self._pieces = min(self._pieces * 2, MOST_PIECES)

    def _after(self, changes: Changes) -> None:
        self._specs.clear()  # those handed over at once were spared a query; the rest would only fill memory
        assert self._job_place is not None
        for job in changes.jobs:
            if job.state.is_final and job.epoch and not job.handed:
                self._job_place.clean_up(job.id, job.epoch)
        if changes.position is not None and self._source is not None:
            self._source.recorded(changes.position)
        if changes:
            self._on_change(changes)

    def _carry_out(self, instructions: Sequence[Instruction]) -> None:
        assert self._fetch_place is not None
        assert self._job_place is not None
        unknown = [i.job for i in instructions if isinstance(i, Dispatch) and i.job not in self._specs]
        if unknown:
            self._specs |= self._store.specs(unknown)
        for instruction in instructions:
            match instruction:
                case StartFetch(order, then):
                    self._fetch_place.start(order, then)
                case AdoptFetch(order):
                    self._fetch_place.adopt(order)
                case StopFetch(fetch, generation):
                    self._fetch_place.cancel(fetch, generation)
                case MakeRoom():
                    self._make_room(instruction)
                case StopJob(job, epoch):
                    self._job_place.stop(job, epoch)
                case Dispatch(job, epoch):
                    if (record := self._machine.jobs.get(job)) is not None:
                        self._job_place.hand_over(self._order(record, epoch))

    def _order(self, job: JobRecord, epoch: int) -> DispatchOrder:
        spec = self._specs[job.id]
        known = self._machine.fetches
        missing = [f for f in job.fetches if f not in known]
        if missing:  # a job that runs already needs them no more, but its order is made whole
            known = known | self._store.fetches(missing)
        inputs = tuple(
            DispatchInput(i.name, f.sha256, f.size, f.id, f.restricted)
            for i, f in zip(spec.inputs, (known[f] for f in job.fetches), strict=True)
        )
        return DispatchOrder(
            job=job.id,
            epoch=epoch,
            name=spec.name,
            command=spec.command,
            environment=spec.environment,
            inputs=inputs,
            results=spec.results,
            owner=spec.owner,
            request_id=spec.request_id,
        )

    # -- when things go wrong -------------------------------------------------------------------

    def _load(self) -> None:
        assert self._fetch_place is not None
        machine = self._new_machine()
        outlives = self._fetch_place.outlives
        machine.load(*self._store.load(), self._store.staged(), now=self._clock.time(), keep_running=outlives)
        self._machine = machine
        self._session += 1
        self._position = None
        if self._source is not None:
            session = self._session
            self._source.start(
                self._store.position(),
                lambda signals, position: self._inbox.put(_Batch(signals, position, session)),
            )

    def _outage(self, error: StateError, taken: Iterable[tuple[_Command, Any]]) -> bool:
        """A batch could not be decided or written: nothing of it happened. Wait, load again, go on.

        Commands are refused with the reason. What fetches and jobs told need not be kept: fetches
        start anew and find their bytes in the cache, and jobs handed over are handed over again
        under the same id, upon which their place tells again what became of them.
        """
        assert self._fetch_place is not None
        self._refuse_all(taken, error)
        self._specs.clear()
        if not self._fetch_place.outlives:
            for fetch in self._machine.fetches.values():
                self._fetch_place.cancel(fetch.id, fetch.generation)
        while True:
            self._failures += 1
            wait = outage_wait(self._failures, 1.0, LONGEST_OUTAGE_WAIT_SECONDS)
            log.error("%s; trying again in %.0f s", error, wait)
            if not self._wait_out(wait, error):
                return False
            try:
                self._load()
            except StateError as again:
                error = again
                continue
            return True

    def _wait_out(self, seconds: float, error: StateError) -> bool:
        """Refuse what is asked for `seconds`; False when the loop is told to stop."""
        until = self._clock.monotonic() + seconds
        while (left := until - self._clock.monotonic()) > 0:
            item = self._next(left)
            if item is None:
                break
            if isinstance(item, _Stop):
                return False
            self._refuse(item, error)
        return True

    def _refuse_all(self, taken: Iterable[tuple[_Command, Any]], error: StagerError) -> None:
        for command, _ in taken:
            self._refuse(command, error)

    @staticmethod
    def _refuse(item: _Item, error: StagerError) -> None:
        if isinstance(item, _Command) and not item.answer.done():
            item.answer.set_exception(error)
