"""What is counted is what was written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stager import metrics as m
from stager.errors import StateError
from stager.metrics import Metrics
from stager.model.jobs import JobSpec, JobState
from stager.model.records import Changes, JobRecord
from stager.service import counted_store
from stager.service.counted_store import CountedStore
from stager.state.store import Store

SPEC = JobSpec(("true",))


def value(metrics: Metrics, name: str) -> float:
    found = {
        s.name: s.value for f in text_string_to_metric_families(metrics.text()[0].decode()) for s in f.samples
    }
    return found[name]


class Jobs:
    """Writes jobs as the mapper does."""

    def __init__(self, root: Path) -> None:
        self.inner = Store(f"sqlite:///{root / 'stager.db'}")
        self.metrics = Metrics()
        self.store = CountedStore(self.inner, self.metrics)
        self.known: dict[str, JobRecord] = {}

    def submit(self, *names: str, at: float = 0.0) -> None:
        new = [JobRecord(name, (), (), submitted_at=at) for name in names]
        self.known |= {job.id: job for job in new}
        self.store.save(Changes(jobs=new), {job.id: SPEC for job in new})

    def move(self, name: str, state: JobState) -> None:
        job = self.known[name]
        job.state = state
        self.store.save(Changes(jobs=[job]), {})

    def by_state(self) -> dict[str, float]:
        return {labels[0]: count for labels, count in dict(self.store.read())[m.JOBS].items() if count}

    def restart(self) -> None:
        self.known = {job.id: job for job in self.store.load()[0]}


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    made = Jobs(tmp_path)
    yield made
    made.inner.close()


def test_the_oldest_that_waits_is_the_first_submitted_one_that_does(jobs: Jobs) -> None:
    assert jobs.store.oldest_waiting() is None
    jobs.submit("a", at=1.0)
    jobs.submit("b", at=2.0)
    jobs.submit("c", at=3.0)
    jobs.move("b", JobState.CANCELLED)
    assert jobs.store.oldest_waiting() == 1.0
    jobs.move("a", JobState.READY)
    assert jobs.store.oldest_waiting() == 3.0
    jobs.move("a", JobState.WAITING)  # its input was lost
    assert jobs.store.oldest_waiting() == 1.0
    jobs.move("c", JobState.READY)
    jobs.move("a", JobState.READY)
    assert jobs.store.oldest_waiting() is None


def test_after_a_start_there_is_counted_what_was_written_before(jobs: Jobs) -> None:
    jobs.submit("a", at=1.0)
    jobs.submit("b", "c", at=2.0)
    jobs.move("a", JobState.FAILED)
    jobs.move("b", JobState.READY)
    for _ in range(2):  # also when the mapper reads again after an outage
        jobs.restart()
        assert jobs.by_state() == {"waiting": 1, "ready": 1}
        assert jobs.store.oldest_waiting() == 2.0
    assert value(jobs.metrics, "stager_jobs_submitted_total") == 3, "a start submits nothing"


def test_the_line_is_not_longer_than_there_are_who_wait_though_the_first_waits_on(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counted_store, "_SPARE", 10)
    jobs.submit("first", at=1.0)
    for n in range(100):
        jobs.submit(f"job{n}", at=2.0)
        jobs.move(f"job{n}", JobState.CANCELLED)
        assert len(jobs.store._line) <= 2 + 10
    assert jobs.store.oldest_waiting() == 1.0


def test_what_the_database_refused_is_not_counted_but_that_it_did(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.submit("a", at=1.0)

    def refuse(*_: object) -> None:
        raise StateError("state can't be written")

    monkeypatch.setattr(jobs.inner, "save", refuse)
    with pytest.raises(StateError):
        jobs.submit("b", at=2.0)
    assert jobs.by_state() == {"waiting": 1}
    assert value(jobs.metrics, "stager_state_errors_total") == 1


def test_a_label_with_too_many_values_is_cut_off_instead_of_filling_memory() -> None:
    metrics = Metrics()
    for n in range(2 * m.MOST_SERIES):
        metrics.add(m.FETCH_ERRORS, 1, f"error-{n}")
    text = metrics.text()[0].decode()
    assert (
        Counter(line.partition("{")[0] for line in text.splitlines())["stager_fetch_errors_total"]
        == m.MOST_SERIES
    )


def test_figures_that_cannot_be_read_leave_the_others_alone() -> None:
    metrics = Metrics()

    def broken() -> list[tuple[m.Metric, m.Values]]:
        raise OSError("the mount does not answer")

    metrics.reads("cache", broken)
    metrics.reads("event-loop", lambda: [(m.LOOP_LAG, {(): 0.5})])
    assert value(metrics, "stager_event_loop_lag_seconds") == 0.5
    assert value(metrics, "stager_metrics_unread_total") >= 1
