"""The database: what is written is what is read, all or nothing, and versions are looked at first."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from stager.errors import CommandFailedError, ServerBusyError, StateError
from stager.model.events import JobResult
from stager.model.fetches import FetchState
from stager.model.grants import Access, Grant
from stager.model.jobs import JobInput, JobSpec, JobState
from stager.model.records import Changes, FetchRecord, JobRecord, NameRecord
from stager.state import schema
from stager.state.database import open_engine
from stager.state.lock import StateLock
from stager.state.store import READ_AT_ONCE, Store

SPEC = JobSpec(
    ("fit", "--fast"),
    (JobInput("https://h.example/a.dat"),),
    after=("go",),
    environment=(("MODE", "x"),),
    results=("r*",),
    priority=3,
    name="fit 1",
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(address(tmp_path))
    yield made
    made.close()


def address(root: Path) -> str:
    return f"sqlite:///{root / 'state' / 'stager.db'}"


def fetch(name: str = "f1", **fields: object) -> FetchRecord:
    return FetchRecord(id=name, url="https://h.example/a.dat", **fields)  # type: ignore[arg-type]


def job(name: str = "j1", **fields: object) -> JobRecord:
    return JobRecord(id=name, fetches=("f1",), after=SPEC.after, submitted_at=5.0, **fields)  # type: ignore[arg-type]


def test_what_is_written_is_what_a_new_start_reads(tmp_path: Path, store: Store) -> None:
    error = CommandFailedError("fetch failed", cause="reset", url="https://h.example/a.dat")
    written = fetch(generation=3, tries=2, not_before=9.5, error=error, received=7, resumed_from=4)
    store.save(
        Changes([job(priority=3)], [written], [NameRecord("go"), NameRecord("met", 4.0)]), {"j1": SPEC}
    )
    again = Store(address(tmp_path))
    jobs, fetches, names = again.load()
    again.close()
    assert [(j.id, j.fetches, j.after, j.priority, j.state, j.saved) for j in jobs] == [
        ("j1", ("f1",), ("go",), 3, JobState.WAITING, JobState.WAITING)
    ]
    assert [
        (f.id, f.generation, f.tries, f.not_before, f.error, f.received, f.resumed_from) for f in fetches
    ] == [("f1", 3, 2, 9.5, error, 7, 4)]
    assert {n.name: n.met_at for n in names} == {"go": None, "met": 4.0}


def test_what_a_job_runs_comes_back_as_it_was(store: Store) -> None:
    store.save(Changes([job()], [fetch()], []), {"j1": SPEC})
    assert store.specs(["j1", "unknown"]) == {"j1": SPEC}
    stored = store.job("j1")
    assert stored is not None
    assert stored.spec == SPEC
    assert store.job("unknown") is None


def test_an_update_changes_the_row_and_adds_none(store: Store) -> None:
    record, wanted, name = job(), fetch(), NameRecord("go")
    store.save(Changes([record], [wanted], [name]), {"j1": SPEC})
    record.state, record.exit_code, record.ended_at = JobState.DONE, 0, 8.0
    record.results = (JobResult("r1", "a" * 64, 3),)
    wanted.state, wanted.sha256, wanted.size = FetchState.READY, "b" * 64, 2**40
    name.met_at = 6.0
    store.save(Changes([record], [wanted], [name]), {})
    stored = store.job("j1")
    assert stored is not None
    assert (stored.record.state, stored.record.exit_code, stored.record.results) == (
        JobState.DONE,
        0,
        record.results,
    )
    assert store.fetches(["f1"])["f1"].size == 2**40
    assert [(n.name, n.met_at) for n in store.names()] == [("go", 6.0)]
    assert store.count_jobs() == {JobState.DONE: 1}


def test_a_start_reads_open_jobs_their_fetches_and_unfinished_fetches_only(store: Store) -> None:
    done = job("j0", state=JobState.DONE)
    stopping = job("j2", state=JobState.CANCELLED, handed=True)
    old = fetch("f0", state=FetchState.READY)
    orphan = fetch("f9", state=FetchState.RUNNING)
    needed = fetch("f1", state=FetchState.READY)
    specs = dict.fromkeys(("j0", "j1", "j2"), SPEC)
    store.save(Changes([done, job("j1"), stopping], [old, orphan, needed], []), specs)
    jobs, fetches, _ = store.load()
    assert [j.id for j in jobs] == ["j1", "j2"]
    assert sorted(f.id for f in fetches) == ["f1", "f9"]


def test_grants_are_kept_replaced_and_ended(tmp_path: Path, store: Store) -> None:
    key = "https://h.example/" + "a" * 5000  # longer than any index takes
    access = Access("ann", key, "a" * 64)
    first, second = Grant(access, 1.0, 2.0, ("c1",)), Grant(access, 3.0, 4.0, ("c1", "c2"))
    other = Grant(Access("", key, "a" * 64), 2.0, 5.0)
    store.save(Changes(grants={access: first, other.access: other}, fetches=[fetch(restricted=True)]), {})
    store.save(Changes(grants={access: second}), {})
    again = Store(address(tmp_path))
    assert again.grants() == [other, second]
    assert again.fetches(["f1"])["f1"].restricted
    again.save(Changes(grants={access: None, other.access: None}), {})
    assert again.grants() == []
    again.close()


def test_a_batch_that_fails_leaves_nothing_behind(store: Store) -> None:
    store.save(Changes([job()], [fetch()], []), {"j1": SPEC})
    with pytest.raises(StateError, match="can't be written"):
        store.save(Changes([job("j2"), job("j1")], [], [NameRecord("go")]), {"j1": SPEC, "j2": SPEC})
    assert store.job("j2") is None
    assert store.names() == []


def test_more_ids_than_one_query_takes_are_all_found(store: Store) -> None:
    count = READ_AT_ONCE * 2 + 1
    store.save(Changes([], [fetch(f"f{n:05}") for n in range(count)], []), {})
    assert len(store.fetches(f"f{n:05}" for n in range(count))) == count


def test_jobs_are_listed_newest_first_by_state_and_in_pages(store: Store) -> None:
    jobs = [job(f"j{n}", state=JobState.DONE if n % 2 else JobState.WAITING) for n in range(6)]
    store.save(Changes(jobs, [fetch()], []), {j.id: SPEC for j in jobs})
    assert [j.record.id for j in store.jobs(limit=2)] == ["j5", "j4"]
    assert [j.record.id for j in store.jobs(limit=2, before="j4")] == ["j3", "j2"]
    assert [j.record.id for j in store.jobs(states=[JobState.DONE])] == ["j5", "j3", "j1"]


@pytest.mark.parametrize("word", ["%", "_1", "'; DROP TABLE jobs; --"])
def test_a_search_takes_its_word_literally(store: Store, word: str) -> None:
    store.save(Changes([job("j1")], [fetch()], []), {"j1": SPEC})
    assert store.find_jobs(word) == []
    assert store.job("j1") is not None


def test_a_job_is_found_by_name_and_by_the_end_of_its_id(store: Store) -> None:
    store.save(Changes([job("abc1")], [fetch()], []), {"abc1": SPEC})
    assert store.find_jobs("fit 1") == ["abc1"]
    assert store.find_jobs("bc1") == ["abc1"]
    assert store.find_jobs("zzz") == []


def test_a_new_database_is_for_its_owner_alone(tmp_path: Path, store: Store) -> None:
    assert store.names() == []
    path = tmp_path / "state"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((path / "stager.db").stat().st_mode) == 0o600


def test_a_database_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path, store: Store) -> None:
    store.close()
    path = tmp_path / "state" / "stager.db"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StateError, match="9999") as caught:
        Store(address(tmp_path))
    assert "upgrade the program" in str(caught.value)
    assert path.read_bytes() == before


def test_a_database_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE accounts (id INTEGER)")
    connection.commit()
    connection.close()
    with pytest.raises(StateError, match="not stager's"):
        Store(f"sqlite:///{path}")


def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("this is not a database, and long enough to be looked at closely" * 20)
    with pytest.raises(StateError, match="not a database") as caught:
        Store(f"sqlite:///{path}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["nonsense", "nosuchdialect://host/db", "sqlite:////proc/none/such.db"])
def test_a_database_setting_that_makes_no_sense_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(StateError) as caught:
        Store(url)
    assert "\n" not in str(caught.value)


def test_migrations_from_nothing_give_the_same_schema_as_a_new_database(tmp_path: Path) -> None:
    from alembic import command
    from alembic.autogenerate import compare_metadata
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    from stager.state import migrations

    engine = create_engine(f"sqlite:///{tmp_path / 'migrated.db'}")
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    migrated = _definitions(tmp_path / "migrated.db")
    engine.dispose()
    open_engine(f"sqlite:///{tmp_path / 'new.db'}").dispose()
    assert _definitions(tmp_path / "new.db") == migrated
    assert ScriptDirectory.from_config(config).get_current_head() == schema.HEAD


def test_a_job_of_an_older_database_keeps_its_owner(tmp_path: Path) -> None:
    from alembic import command
    from alembic.config import Config

    from stager.state import migrations

    engine = create_engine(f"sqlite:///{tmp_path / 'old.db'}")
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0006")
        for number, spec in enumerate(('{"command": ["true"], "owner": "ada"}', '{"command": ["true"]}')):
            connection.exec_driver_sql(
                "INSERT INTO jobs (id, name, state, priority, epoch, handed, submitted_at, fetches, spec)"
                " VALUES (?, '', 'done', 0, 1, 0, 0.0, '[]', ?)",
                (f"job{number}", spec),
            )
    engine.dispose()
    store = Store(f"sqlite:///{tmp_path / 'old.db'}")
    assert [job.record.id for job in store.jobs(owner="ada")] == ["job0"]
    assert [job.record.id for job in store.jobs(owner="")] == ["job1"]
    store.close()


def _definitions(path: Path) -> set[tuple[str, str]]:
    connection = sqlite3.connect(path)
    query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> 'alembic_version'"
    found = {(name, "".join(sql.split()).replace('"', "").lower()) for name, sql in connection.execute(query)}
    connection.close()
    return found


def test_two_servers_can_not_share_a_state_directory(tmp_path: Path) -> None:
    first = StateLock(tmp_path / "state")
    with pytest.raises(ServerBusyError, match="already running"):
        StateLock(tmp_path / "state")
    first.close()
    StateLock(tmp_path / "state").close()


def test_a_state_directory_that_is_a_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.touch()
    with pytest.raises(StateError, match="state_dir"):
        StateLock(path)
