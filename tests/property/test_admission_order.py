"""The order of the queue against its rules, written down as plainly as they can be, and what they promise."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from stager.errors import ConnectionFailedError, OriginBusyError, StagerError
from stager.mapper.admission import Admission

AGEING = 8.0
"""Seconds for a point of priority; a power of two, so that sums are exact."""
OWNERS = ("ann", "bob", "eve")
ORIGINS = ("http://a", "http://b", "http://c")


@dataclass
class Fetch:
    name: str
    owner: str
    origin: str
    priority: int
    since: float
    not_before: float
    number: int

    @property
    def order(self) -> tuple[float, int]:
        return self.since / AGEING - self.priority, self.number


@dataclass
class Model:
    """Looks at everything each time."""

    waiting: dict[str, Fetch] = field(default_factory=dict)
    running: dict[str, Fetch] = field(default_factory=dict)
    served: dict[str, int] = field(default_factory=dict)
    number: int = 0

    def next(self) -> int:
        self.number += 1
        return self.number

    def choose(self, open_origins: set[str], now: float) -> str | None:
        lines: dict[tuple[str, str], Fetch] = {}
        for fetch in self.waiting.values():
            line = (fetch.owner, fetch.origin)
            if fetch.origin in open_origins and fetch.not_before <= now:
                lines[line] = min(fetch, lines.get(line, fetch), key=lambda f: f.order)
        if not lines:
            return None
        top = max(fetch.priority for fetch in lines.values())
        first = {
            o: min((f for f in lines.values() if f.owner == o), key=lambda f: f.order, default=None)
            for o in OWNERS
        }
        at_par = [o for o, f in first.items() if f is not None and now / AGEING - f.order[0] >= top]
        chosen = first[min(at_par, key=lambda o: (self.in_flight(o), self.served[o]))]
        assert chosen is not None
        return chosen.name

    def in_flight(self, owner: str) -> int:
        return sum(f.owner == owner for f in self.running.values())

    def begin(self, fetch: str) -> None:
        self.running[fetch] = self.waiting.pop(fetch)
        self.served[self.running[fetch].owner] = self.next()

    def forget(self) -> None:
        work = {f.owner for f in (*self.waiting.values(), *self.running.values())}
        self.served = {o: n for o, n in self.served.items() if o in work}


class QueueByItsRules(RuleBasedStateMachine):
    """Every fetch that is picked is the one that the rules name; none is left that could go."""

    @initialize(slots=st.integers(1, 6), per_origin=st.integers(1, 4))
    def begin(self, slots: int, per_origin: int) -> None:
        self.admission = Admission(slots=slots, per_origin=per_origin, ageing_seconds=AGEING)
        self.model = Model()
        self.now = 1024.0

    @rule(
        owner=st.sampled_from(OWNERS),
        origin=st.sampled_from(ORIGINS),
        priority=st.integers(-2, 3),
        waited=st.sampled_from((0.0, 0.0, 3.0, 24.0)),
        held=st.sampled_from((0.0, 0.0, 0.0, 8.0)),
        count=st.integers(1, 3),
    )
    def add(self, owner: str, origin: str, priority: int, waited: float, held: float, count: int) -> None:
        for _ in range(count):
            number = self.model.next()
            self.model.served.setdefault(owner, number)
            not_before = self.now + held if held else 0.0
            fetch = Fetch(f"f{number}", owner, origin, priority, self.now - waited, not_before, number)
            self.model.waiting[fetch.name] = fetch
            self.admission.add(
                fetch.name,
                origin=origin,
                key=fetch.name,
                priority=priority,
                owner=owner,
                since=fetch.since,
                not_before=not_before,
            )

    @precondition(lambda self: self.model.waiting)
    @rule(data=st.data(), by=st.integers(1, 3))
    def lift(self, data: st.DataObject, by: int) -> None:
        fetch = self.model.waiting[data.draw(st.sampled_from(sorted(self.model.waiting)))]
        fetch.priority += by
        self.admission.lift(fetch.name, fetch.priority)

    @precondition(lambda self: self.model.waiting)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        fetch = data.draw(st.sampled_from(sorted(self.model.waiting)))
        del self.model.waiting[fetch]
        self.admission.remove(fetch)
        self.model.forget()

    @precondition(lambda self: self.model.running)
    @rule(
        data=st.data(),
        error=st.sampled_from(
            (
                None,
                None,
                None,
                ConnectionFailedError("reset"),
                OriginBusyError("busy", status=429, retry_after=6.0),
            )
        ),
    )
    def end(self, data: st.DataObject, error: StagerError | None) -> None:
        fetch = data.draw(st.sampled_from(sorted(self.model.running)))
        del self.model.running[fetch]
        self.admission.ended(fetch, size=None if error else 10, error=error, now=self.now)
        self.model.forget()

    @rule(seconds=st.sampled_from((1.0, 8.0, 40.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def pick(self) -> None:
        views = {v.origin: v for v in self.admission.origins()}
        room = {o: v.limit - v.in_flight for o, v in views.items() if (v.paused_until or 0.0) <= self.now}
        for name, view in views.items():
            assert view.waiting == sum(f.origin == name for f in self.model.waiting.values())
            assert view.in_flight == sum(f.origin == name for f in self.model.running.values())
        picked = [fetch for seat in self.admission.pick(self.now) for fetch in seat]
        for fetch in picked:
            due = self.model.choose({o for o, left in room.items() if left > 0}, self.now)
            assert fetch == due
            room[self.model.waiting[fetch].origin] -= 1
            self.model.begin(fetch)
        if len(self.model.running) < self.admission.slots:
            assert self.model.choose({o for o, left in room.items() if left > 0}, self.now) is None


TestQueueByItsRules = QueueByItsRules.TestCase
TestQueueByItsRules.settings = settings(
    max_examples=150, stateful_step_count=60, derandomize=True, database=None, deadline=None
)


@settings(derandomize=True, database=None, deadline=None, max_examples=100)
@given(
    slots=st.integers(1, 7),
    sizes=st.lists(st.integers(20, 40), min_size=2, max_size=5),
    data=st.data(),
)
def test_owners_with_enough_to_fetch_have_as_many_seats_as_one_another(
    slots: int, sizes: list[int], data: st.DataObject
) -> None:
    admission = Admission(slots=slots, per_origin=100)
    of: dict[str, int] = {}
    for owner, size in enumerate(sizes):
        for number in range(size):
            of[f"{owner}-{number}"] = owner
            admission.add(
                f"{owner}-{number}", origin="http://a", key=f"{owner}-{number}", priority=0, owner=str(owner)
            )
    running: list[str] = []
    turns = [0] * len(sizes)
    for _ in range(15):
        for (fetch,) in admission.pick(0.0):
            running.append(fetch)
            turns[of[fetch]] += 1
        seats = [sum(of[f] == owner for f in running) for owner in range(len(sizes))]
        assert max(seats) - min(seats) <= 1
        if slots == 1:
            assert max(turns) - min(turns) <= 1
        admission.ended(running.pop(data.draw(st.integers(0, len(running) - 1))))


arrivals = st.lists(
    st.lists(st.tuples(st.sampled_from(OWNERS), st.integers(-3, 3)), max_size=3), min_size=60, max_size=120
)


@settings(derandomize=True, database=None, deadline=None, max_examples=60)
@given(arrivals=arrivals)
def test_no_fetch_starves_however_much_comes_after_it(arrivals: list[list[tuple[str, int]]]) -> None:
    """One fetch a second is done and more may come; who has waited for (3 - priority) points of age is due."""
    admission = Admission(slots=1, per_origin=1, ageing_seconds=2.0)
    waiting: dict[str, tuple[str, int, float]] = {}
    due: dict[str, int] = {}
    for second, new in enumerate(arrivals):
        now = float(second)
        for number, (owner, priority) in enumerate(new):
            fetch = f"{second}-{number}"
            waiting[fetch] = (owner, priority, now)
            admission.add(fetch, origin="http://a", key=fetch, priority=priority, owner=owner, since=now)
        for fetch, (owner, priority, since) in waiting.items():
            if fetch not in due and now >= since + (3 - priority) * 2.0:
                mine = (w for w in waiting.values() if w[0] == owner)
                ahead = sum(w[2] / 2.0 - w[1] <= since / 2.0 - priority for w in mine)
                due[fetch] = second + ahead * len(OWNERS)
        for (fetch,) in admission.pick(now):
            del waiting[fetch]
            admission.ended(fetch)
            assert due.get(fetch, second) >= second, f"{fetch} was picked too late"
        assert not [f for f in waiting if due.get(f, second) < second]
