"""What is told of a batch of changes, and that its numbers are those of what was written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from stager.errors import CacheFullError, CommandFailedError, CredentialRequiredError, StateError
from stager.model.chronicle import KINDS, Choice, Event, check_kind
from stager.model.events import JobResult
from stager.model.fetches import FetchState
from stager.model.jobs import JobInput, JobSpec, JobState
from stager.model.records import Besides, Changes, FetchRecord, JobRecord, NameRecord
from stager.model.stages import Stage, StagedFile, StagedState
from stager.model.telling import events_of
from stager.state.chronicle import Chronicle
from stager.state.store import Store

URL = "https://h.example/a.dat"
SPEC = JobSpec(("true",), (JobInput(URL),), owner="ada")


def job(state: JobState, saved: JobState | None, **more: object) -> JobRecord:
    return JobRecord("j", ("f",), (), owner="ada", state=state, saved=saved, **more)  # type: ignore[arg-type]


def kinds(*jobs: JobRecord) -> list[str]:
    return [event.kind for event in events_of(Changes(jobs=list(jobs)))]


@pytest.mark.parametrize(
    ("state", "saved", "told"),
    [
        ("waiting", None, ["submitted"]),
        ("dispatched", None, ["submitted", "ready", "dispatched"]),
        ("ready", "waiting", ["ready"]),
        ("running", "ready", ["dispatched", "running"]),
        ("waiting", "dispatched", ["waiting"]),
        ("waiting", "ready", ["waiting"]),
        ("running", "running", []),
        ("cancelled", "waiting", ["cancelled"]),
        ("failed", "dispatched", ["failed"]),
    ],
)
def test_each_state_on_the_way_is_told_also_one_that_was_left_before_it_was_written(
    state: str, saved: str | None, told: list[str]
) -> None:
    record = job(JobState(state), None if saved is None else JobState(saved))
    assert kinds(record) == [f"job.{one}" for one in told]


def test_a_job_that_ran_and_ended_in_one_batch_is_told_whole() -> None:
    record = job(JobState.DONE, JobState.READY, epoch=1, started_at=5.0, exit_code=0)
    events = events_of(Changes(jobs=[record]))
    assert [(e.kind, e.user, e.job, e.details) for e in events] == [
        ("job.dispatched", "ada", "j", {"epoch": 1}),
        ("job.running", "ada", "j", {}),
        ("job.done", "ada", "j", {"exit_code": 0}),
    ]


def test_why_a_job_failed_is_told_with_it() -> None:
    error = CommandFailedError("job j failed", cause="status 3")
    (event,) = events_of(Changes(jobs=[job(JobState.FAILED, JobState.RUNNING, error=error, exit_code=3)]))
    assert event.details == {"exit_code": 3, "error": error.to_dict()}


def test_of_fetches_only_what_somebody_waited_for_is_told() -> None:
    def fetch(state: FetchState, saved: FetchState | None, **more: object) -> FetchRecord:
        return FetchRecord("f", URL, owner="ada", state=state, saved=saved, **more)  # type: ignore[arg-type]

    locked = CredentialRequiredError("a password is wanted", host="h.example")
    full = CacheFullError("there is no room")
    events = events_of(
        Changes(
            fetches=[
                fetch(FetchState.READY, None, cached=True),
                fetch(FetchState.RUNNING, FetchState.QUEUED),
                fetch(FetchState.QUEUED, FetchState.RUNNING, error=CommandFailedError("reset")),
                fetch(FetchState.READY, FetchState.RUNNING, sha256="aa", size=5),
                fetch(FetchState.FAILED, FetchState.RUNNING, error=locked),
                fetch(FetchState.LOCKED, FetchState.RUNNING, error=locked),
                fetch(FetchState.LOCKED, FetchState.LOCKED, error=locked),
                fetch(FetchState.QUEUED, FetchState.RUNNING, error=full),
            ]
        )
    )
    assert [(e.kind, e.fetch, e.details["url"]) for e in events] == [
        (kind, "f", URL) for kind in ("fetch.ready", "fetch.failed", "credential.missing", "space.waiting")
    ]
    assert events[0].details == {"url": URL, "sha256": "aa", "size": 5, "cached": False}
    assert events[2].details["error"]["details"]["host"] == "h.example"


def test_files_of_stage_requests_and_preconditions_are_told_once() -> None:
    stage = Stage("s", "ada")
    there = StagedFile(stage, 0, URL, state=StagedState.READY, sha256="aa", size=5)
    again = StagedFile(stage, 1, URL, state=StagedState.RELEASED, saved=StagedState.RELEASED)
    done = Event("stage.done", "ada", stage="s")
    names = [NameRecord("a", 4.0, saved=True), NameRecord("b"), NameRecord("c", saved=True)]
    events = events_of(Changes(staged=[there, again], names=names, besides=Besides([done])))
    assert [e.kind for e in events] == [
        "stage.done",
        "precondition.met",
        "precondition.unmet",
        "staged.ready",
    ]
    assert [e.details["name"] for e in events[1:3]] == ["a", "c"]
    assert {e.kind for e in events} <= set(KINDS)


def test_every_state_of_a_job_has_a_kind() -> None:
    assert {f"job.{state.value}" for state in JobState} <= set(KINDS)
    assert {f"staged.{s.value}" for s in StagedState} - set(KINDS) == {"staged.queued", "staged.running"}


def test_a_choice_is_about_jobs_with_all_they_need_or_users_or_kinds() -> None:
    ready = Event("fetch.ready", "ada", fetch="f", details={"url": URL})
    met = Event("precondition.met", details={"name": "go"})
    done = Event("job.done", "ada", "j")
    other = Event("job.done", "bob", "k")
    all_of = [ready, met, done, other]

    def chosen(choice: Choice) -> list[Event]:
        return [event for event in all_of if choice.takes(event)]

    assert Choice().is_all
    assert chosen(Choice()) == all_of
    one = Choice(jobs=frozenset("j"), fetches=frozenset("f"), names=frozenset({"go"}))
    assert chosen(one) == [ready, met, done]
    assert chosen(Choice(jobs=frozenset("k"))) == [other]
    assert chosen(Choice(kinds=frozenset({"job"}))) == [done, other]
    assert chosen(Choice(kinds=frozenset({"job.done", "fetch"}), users=frozenset({"ada"}))) == [ready, done]
    assert chosen(Choice(only="bob")) == [met, other]
    assert check_kind("job") == "job"


def test_secrets_of_a_url_are_shown_to_nobody() -> None:
    event = Event("fetch.ready", details={"url": "https://h.example/a?X-Amz-Signature=secret", "size": 1})
    assert "secret" not in str(event.redacted.to_dict())
    assert event.redacted.details["size"] == 1


# -- as it is written ---------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(address(tmp_path))
    yield made
    made.close()


def address(root: Path) -> str:
    return f"sqlite:///{root / 'stager.db'}"


def submitted(name: str) -> tuple[Changes, dict[str, JobSpec]]:
    return Changes([JobRecord(name, (), (), submitted_at=1.0)], at=7.0), {name: SPEC}


def test_numbers_go_on_where_they_were_after_a_restart(store: Store, tmp_path: Path) -> None:
    assert (store.chronicle.newest(), store.chronicle.oldest()) == (0, 1)
    changes, specs = submitted("a")
    store.save(changes, specs)
    (event,) = changes.events
    assert (event.id, event.at, event.kind, event.job, event.user) == (1, 7.0, "job.submitted", "a", "ada")
    again = Store(address(tmp_path))
    more, specs = submitted("b")
    again.save(more, specs)
    assert [event.id for event in more.events] == [2]
    assert again.chronicle.read(0, 10) == [event, *more.events]
    assert again.chronicle.read(1, 10) == more.events
    assert again.chronicle.read(0, 1) == [event]
    again.close()


def test_what_was_not_written_is_not_told_and_its_numbers_are_the_next_ones(store: Store) -> None:
    changes, specs = submitted("a")
    store.save(changes, specs)
    twice, specs = submitted("b")
    twice.jobs[0].results = (JobResult("r", "aa", 1), JobResult("r", "aa", 1))
    with pytest.raises(StateError):
        store.save(twice, specs)
    assert twice.events == []
    assert twice.jobs[0].saved is None
    assert [event.job for event in store.chronicle.read(0, 10)] == ["a"]
    twice.jobs[0].results = ()
    store.save(twice, specs)
    assert [event.id for event in twice.events] == [2]


def test_a_record_that_was_loaded_is_told_of_only_when_it_changes(store: Store, tmp_path: Path) -> None:
    changes, specs = submitted("a")
    store.save(changes, specs)
    again = Store(address(tmp_path))
    (loaded,), _, _ = again.load()
    assert loaded.owner == "ada"
    unchanged = Changes([loaded])
    again.save(unchanged, {})
    assert unchanged.events == []
    loaded.state = JobState.READY
    again.save(ready := Changes([loaded]), {})
    assert [(event.id, event.kind, event.user) for event in ready.events] == [(2, "job.ready", "ada")]
    again.close()


def test_so_many_events_are_kept_and_no_more(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'stager.db'}")
    Store(address(tmp_path)).close()
    chronicle = Chronicle(engine, kept=1500)
    for _ in range(40):
        told = [Event("job.done", job="j") for _ in range(100)]
        with engine.begin() as connection:
            chronicle.write(connection, told, 1.0)
        chronicle.written(told)
    assert chronicle.newest() == 4000
    oldest = chronicle.oldest()
    assert 4000 - 2500 <= oldest <= 4000 - 1500 + 1
    found = chronicle.read(0, 10_000)
    assert [event.id for event in found] == list(range(oldest, 4001))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM events")).scalar() == len(found) / 100
    engine.dispose()
