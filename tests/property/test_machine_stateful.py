"""The machine against an oracle: submit, meet, lose, cancel, late and repeated signals, and crashes.

``MACHINE_EXAMPLES=5000 pytest tests/property/test_machine_stateful.py`` is the long campaign, with
fresh random choices; without the variable the same examples run every time.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stager.model.entries import Entry
from stager.model.fetches import FetchRequest, Progress, Started
from tests.support.oracle import Place, Simulation

CAMPAIGN = os.environ.get("MACHINE_EXAMPLES")
NAMES = ("calibration", "beam", "operator")
URLS = tuple(f"http://{host}.example/{path}" for host in "ab" for path in ("x", "y"))
DIGESTS = ("a" * 64, "b" * 64)
T = TypeVar("T")

choice = st.integers(min_value=0, max_value=10_000)


def pick(items: Sequence[T], number: int) -> T:
    return items[number % len(items)]


@st.composite
def inputs(draw: st.DrawFn) -> tuple[FetchRequest, float | None, str | None]:
    """A request, and what the cache holds of it: for how long it is fresh (< 0: stale), which object."""
    request = FetchRequest(
        draw(st.sampled_from(URLS)),
        sha256=draw(st.sampled_from((None, None, *DIGESTS))),
        refresh=draw(st.sampled_from((False, False, False, True))),
    )
    held = draw(st.sampled_from((None, None, None, *DIGESTS)))
    return request, draw(st.sampled_from((None, -5.0, 30.0))), held


class MachineInTheWorld(RuleBasedStateMachine):
    """Rules in random order; the checks are in `Simulation`."""

    sim: Simulation

    @initialize(
        slots=st.integers(1, 3),
        per_origin=st.integers(1, 2),
        job_slots=st.sampled_from((None, 1, 2, 3)),
        batch=st.sampled_from((1, 3)),
        outlives=st.booleans(),
    )
    def begin(
        self,
        slots: int,
        per_origin: int,
        job_slots: int | None,
        batch: int,
        outlives: bool,
    ) -> None:
        self.sim = Simulation(
            slots=slots, per_origin=per_origin, job_slots=job_slots, batch=batch, outlives=outlives
        )

    # -- users ----------------------------------------------------------------------------------

    @rule(
        wanted=st.lists(inputs(), max_size=3),
        after=st.lists(st.sampled_from(NAMES), max_size=2),
        priority=st.integers(-1, 2),
        owner=st.sampled_from(("", "ann", "bob")),
    )
    def submit(
        self,
        wanted: list[tuple[FetchRequest, float | None, str | None]],
        after: list[str],
        priority: int,
        owner: str,
    ) -> None:
        self.sim.submit(
            [(request, self._entry(request, fresh, held)) for request, fresh, held in wanted],
            tuple(after),
            priority,
            owner,
        )

    def _entry(self, request: FetchRequest, fresh: float | None, held: str | None) -> Entry | None:
        now = self.sim.now
        if held is None:
            return None
        return Entry(request.key, held, 10, now, None if fresh is None else now + fresh)

    @rule(name=st.sampled_from(NAMES))
    def meet(self, name: str) -> None:
        self.sim.meet(name)

    @rule(name=st.sampled_from(NAMES))
    def unmeet(self, name: str) -> None:
        self.sim.unmeet(name)

    @precondition(lambda self: self._cancellable())
    @rule(number=choice)
    def cancel(self, number: int) -> None:
        self.sim.cancel(pick(self._cancellable(), number))

    def _cancellable(self) -> list[str]:
        oracle = self.sim.oracle
        return [
            job
            for job in oracle.jobs
            if not oracle.is_over(job) and not set(oracle.fetches_of[job]) & oracle.failed
        ]

    @precondition(lambda self: self.sim.oracle.requests)
    @rule(number=choice)
    def lose(self, number: int) -> None:
        """Also of fetches that are not ready, or forgotten: those must not mind."""
        all_of_them = sorted(self.sim.oracle.requests)
        self.sim.lose(
            pick((sorted(self.sim.oracle.ready) or all_of_them, all_of_them)[number % 2], number // 2)
        )

    @rule(owner=st.sampled_from(("", "ann", "bob")))
    def give_credential(self, owner: str) -> None:
        self.sim.give_credential(owner)

    # -- fetches --------------------------------------------------------------------------------

    @precondition(lambda self: self.sim.world.tries)
    @rule(
        number=choice,
        outcome=st.sampled_from(
            (
                *("ready", "ready", "ready", "ready"),
                *("transient", "progressed", "permanent", "busy", "handed back", "worker lost"),
                "wants a credential",
            )
        ),
        fresh_for=st.sampled_from((None, 0.0, 30.0)),
        tell=st.sampled_from((True, True, False)),
        jitter=st.floats(0, 0.99),
    )
    def answer(self, number: int, outcome: str, fresh_for: float | None, tell: bool, jitter: float) -> None:
        self.sim.answer(pick(sorted(self.sim.world.tries), number), outcome, fresh_for=fresh_for)
        if tell:
            self.sim.deliver(self.sim.world.inbox[-1], jitter=jitter)

    @precondition(lambda self: self.sim.world.tried)
    @rule(number=choice)
    def progress(self, number: int) -> None:
        one = pick(sorted(self.sim.world.tried), number)
        self.sim.deliver(Started(*one))
        self.sim.deliver(Progress(*one, received=5, total=10))

    # -- jobs -----------------------------------------------------------------------------------

    @precondition(lambda self: self.sim.world.in_place(Place.ORDERED))
    @rule(number=choice)
    def start_job(self, number: int) -> None:
        self.sim.world.start_job(*pick(self.sim.world.in_place(Place.ORDERED), number))

    @precondition(lambda self: self.sim.world.in_place(Place.ORDERED))
    @rule(number=choice, which=st.integers(0, 7))
    def refuse_job(self, number: int, which: int) -> None:
        job, epoch = pick(self.sim.world.in_place(Place.ORDERED), number)
        fetches = self.sim.oracle.fetches_of[job]
        self.sim.world.refuse_job(job, epoch, tuple(f for n, f in enumerate(fetches) if which >> n & 1))

    @precondition(lambda self: self.sim.world.in_place(Place.RUNNING))
    @rule(number=choice, exit_code=st.sampled_from((0, 0, 3)))
    def end_job(self, number: int, exit_code: int) -> None:
        self.sim.world.end_job(*pick(self.sim.world.in_place(Place.RUNNING), number), exit_code)

    # -- delivery, the loop, time, death --------------------------------------------------------

    @precondition(lambda self: self.sim.world.inbox)
    @rule(number=choice, jitter=st.floats(0, 0.99))
    def deliver(self, number: int, jitter: float) -> None:
        """In any order."""
        self.sim.deliver(pick(self.sim.world.inbox, number), jitter=jitter)

    @precondition(lambda self: self.sim.world.inbox)
    @rule()
    def deliver_all(self) -> None:
        for signal in list(self.sim.world.inbox):
            self.sim.deliver(signal)

    @precondition(lambda self: self.sim.world.past)
    @rule(number=choice)
    def deliver_again(self, number: int) -> None:
        repeatable = self.sim.repeatable()
        if repeatable:
            self.sim.deliver(pick(repeatable, number))

    @rule(limit=st.sampled_from((1, 2, 3, 1000)))
    def commit(self, limit: int) -> None:
        self.sim.commit(limit=limit)
        self.sim.check_no_fetch_idles()

    @rule()
    def settle(self) -> None:
        self.sim.settle(limit=2)
        self.sim.check_no_fetch_idles()

    @rule(seconds=st.sampled_from((0.3, 2.0, 40.0)))
    def time_passes(self, seconds: float) -> None:
        self.sim.now += seconds

    @rule(limit=st.sampled_from((1, 1000)), carried_out=st.sampled_from((None, None, 0, 1, 3)))
    def crash(self, limit: int, carried_out: int | None) -> None:
        """Before the batch is written, or after, with some of its instructions carried out."""
        if carried_out is None:
            self.sim.crash()
        else:
            self.sim.commit(limit=limit, crash_after=carried_out)

    # -- judgement ------------------------------------------------------------------------------

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "sim"):
            self.sim.check()

    def teardown(self) -> None:
        if hasattr(self, "sim"):
            self.sim.drive_to_the_end()


TestMachineInTheWorld = MachineInTheWorld.TestCase
TestMachineInTheWorld.settings = settings(
    max_examples=int(CAMPAIGN or 200),
    stateful_step_count=60,
    derandomize=CAMPAIGN is None,
    database=None,
    deadline=None,
    phases=(Phase.generate, Phase.shrink) if CAMPAIGN else (Phase.generate,),
    report_multiple_bugs=False,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
