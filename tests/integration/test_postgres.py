"""The state in a real PostgreSQL: all that holds of the store on SQLite, and a server that is killed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from stager.clock import SystemClock
from stager.errors import ConflictError, NotFoundError, ServerBusyError, StateError, SupersededError
from stager.model.accounts import Token
from stager.model.answered import Answered, Call
from stager.model.audit import AuditEntry
from stager.model.jobs import JobSpec, JobState
from stager.model.principals import Role
from stager.model.records import Changes, NameRecord, Position
from stager.model.stages import Stage
from stager.service.accounts import AccountService
from stager.service.audit import AuditLog
from stager.service.ids import IdMaker
from stager.state import leadership, schema
from stager.state.database import open_engine
from stager.state.leadership import Leadership
from stager.state.store import Store
from tests.integration import test_mapper_loop as loop
from tests.support.postgres import cluster, empty
from tests.support.processes import PATIENCE, ServerProcess
from tests.unit import test_store as on_sqlite
from tests.unit.test_store import (
    test_a_batch_that_fails_leaves_nothing_behind,
    test_a_job_is_found_by_name_and_by_the_end_of_its_id,
    test_a_search_takes_its_word_literally,
    test_a_start_reads_open_jobs_their_fetches_and_unfinished_fetches_only,
    test_an_update_changes_the_row_and_adds_none,
    test_grants_are_kept_replaced_and_ended,
    test_jobs_are_listed_newest_first_by_state_and_in_pages,
    test_more_ids_than_one_query_takes_are_all_found,
    test_what_a_job_runs_comes_back_as_it_was,
    test_what_is_written_is_what_a_new_start_reads,
)

__all__ = [  # collected here again, with this module's `store`
    "test_a_batch_that_fails_leaves_nothing_behind",
    "test_a_job_is_found_by_name_and_by_the_end_of_its_id",
    "test_a_search_takes_its_word_literally",
    "test_a_start_reads_open_jobs_their_fetches_and_unfinished_fetches_only",
    "test_an_update_changes_the_row_and_adds_none",
    "test_grants_are_kept_replaced_and_ended",
    "test_jobs_are_listed_newest_first_by_state_and_in_pages",
    "test_more_ids_than_one_query_takes_are_all_found",
    "test_what_a_job_runs_comes_back_as_it_was",
    "test_what_is_written_is_what_a_new_start_reads",
]

_numbers = count()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with cluster() as url:
        yield url


@pytest.fixture
def url(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database; the tests of SQLite are given it too."""
    made = empty(server, f"test{next(_numbers)}")
    monkeypatch.setattr(on_sqlite, "address", lambda _root: made)
    return made


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    made = Store(url)
    yield made
    made.close()


def test_the_place_in_the_stream_is_stored_with_the_change_it_caused(store: Store, url: str) -> None:
    store.save(Changes([], [on_sqlite.fetch()], [], Position("s", "1-0")), {})
    store.save(Changes([], [], [], Position("s", "2-0")), {})
    again = Store(url)
    assert again.position() == Position("s", "2-0")
    again.close()


def test_two_servers_of_one_database_agree_on_users_tokens_and_who_did_what(store: Store, url: str) -> None:
    clock, other = SystemClock(), Store(url)
    here, there = (AccountService(one.accounts, clock, IdMaker(clock)) for one in (store, other))
    here.add_user("ada", Role.USER)
    with pytest.raises(ConflictError):
        there.add_user("ada", Role.ADMIN)
    secret = here.create_token("ada", "laptop", scopes=["read"], seconds=60).secret
    there.tend()
    assert there.principal(secret) == here.principal(secret)
    assert there.principal(secret) is not None
    there.tend()
    assert next(iter(store.accounts.tokens().values())).last_used_at is not None
    there.change_user("ada", disabled=True)
    here.tend()
    assert here.principal(secret) is None
    here.remove_user("ada")
    with pytest.raises(NotFoundError):
        there.create_token("ada")
    with pytest.raises(ConflictError):
        other.accounts.add_token(Token("t", "ada", "", None, 0.0), "0" * 64)
    log = AuditLog(store.audit, clock, IdMaker(clock), days=1)
    log.note(AuditEntry("", clock.time(), "ada", "user", "t", "POST /v1/jobs", "job", 201, "r", "::1"))
    log.write()
    assert [entry.who for entry in other.audit.entries(limit=10)] == ["ada"]
    other.close()


def test_migrations_from_nothing_give_the_same_schema_as_a_new_database(server: str, url: str) -> None:
    from alembic import command
    from alembic.autogenerate import compare_metadata
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from sqlalchemy import create_engine

    from stager.state import migrations

    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    migrated = _definitions(url)
    engine.dispose()
    new = empty(server, f"test{next(_numbers)}")
    open_engine(new).dispose()
    assert _definitions(new) == migrated


def test_times_keep_their_microseconds_and_large_sizes_their_last_byte(store: Store) -> None:
    record = on_sqlite.fetch(created_at=1790000000.123456, size=2**53 + 1, received=2**53 - 1)
    store.save(Changes([], [record], []), {})
    found = store.fetches(["f1"])["f1"]
    assert (found.created_at, found.size, found.received) == (1790000000.123456, 2**53 + 1, 2**53 - 1)


def test_a_database_without_an_encoding_keeps_text_too(server: str) -> None:
    url = empty(server, f"test{next(_numbers)}", "ENCODING 'SQL_ASCII' TEMPLATE template0")
    store = Store(url)
    spec = replace(on_sqlite.SPEC, name="Übung ±")
    store.save(Changes([on_sqlite.job()], [on_sqlite.fetch()], []), {"j1": spec})
    assert store.specs(["j1"]) == {"j1": spec}
    store.close()


def test_a_database_that_does_not_answer_is_reported_in_one_line_without_its_password(tmp_path: Path) -> None:
    address = f"postgresql+psycopg://stager:s3cret-canary@/stager?host={tmp_path}"
    with pytest.raises(StateError) as caught:
        Store(address)
    assert "\n" not in str(caught.value)
    assert "s3cret-canary" not in str(caught.value)


def test_a_connection_that_the_database_closed_is_replaced(store: Store, url: str) -> None:
    store.save(Changes([], [on_sqlite.fetch()], []), {})
    _close_all_connections(url)
    store.save(Changes([], [on_sqlite.fetch("f2")], []), {})
    assert set(store.fetches(["f1", "f2"])) == {"f1", "f2"}


def test_the_loop_stages_and_hands_over(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "Store", lambda _sqlite: Store(url))
    world = loop.World(tmp_path)
    world.submit()
    world.places.wait_for(lambda p: p.started)
    world.ready(world.places.started[0])
    world.places.wait_for(lambda p: p.handed)
    assert world.places.handed[0].job == "job1"
    world.close()


def test_a_server_that_is_killed_goes_on_with_what_is_in_the_database(url: str, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, STAGER_DATABASE_URL=url) as first, first.client() as client:
        (job,) = client.jobs.submit([JobSpec(("true",), after=("go",))])
        first.kill()
    with ServerProcess(tmp_path, STAGER_DATABASE_URL=url) as second, second.client() as client:
        client.preconditions.meet("go")
        assert client.jobs.wait(job, PATIENCE).state is JobState.DONE
    assert not (tmp_path / "state" / "stager.db").exists()


def _definitions(url: str) -> set[tuple[str, ...]]:
    """Columns with types and defaults, and indexes, as the database itself describes them."""
    from sqlalchemy import create_engine, text

    columns = """
        SELECT table_name, column_name, data_type, character_maximum_length, is_nullable, column_default
        FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
    """
    indexes = """
        SELECT indexname, indexdef FROM pg_indexes
        WHERE schemaname = 'public' AND tablename <> 'alembic_version'
    """
    engine = create_engine(url)
    with engine.connect() as connection:
        found = {
            tuple(map(str, row)) for query in (columns, indexes) for row in connection.execute(text(query))
        }
    engine.dispose()
    return found


def _close_all_connections(url: str) -> None:
    """As a restart of the database does, but at once."""
    from sqlalchemy import create_engine, text

    engine = create_engine(url)
    with engine.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    engine.dispose()


def test_what_a_leader_writes_after_another_one_has_taken_over_is_refused_and_its_end_is_asked_for(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leadership, "LOOK_SECONDS", 3600.0)  # it does not notice by itself
    ended: list[str] = []
    old = Leadership(url, "one", ended.append)
    first = Store(url, old)
    first.save(Changes(names=[NameRecord("before", met_at=1.0)]), {})
    with pytest.raises(ServerBusyError):
        Leadership(url, "two", ended.append)
    assert old._session is not None
    old._session.close()  # as when its host was cut off
    new = Leadership(url, "two", ended.append)
    second = Store(url, new)
    try:
        for write in (
            partial(first.save, Changes(names=[NameRecord("after", met_at=2.0)]), {}),
            partial(first.stages.add, Stage("6h085m4kmqd43"), []),
            partial(first.answers.keep, Answered(Call.of("ada", "k", b"x"), "1", 2.0)),
            partial(first.answers.forget, 2.0),
            partial(first.audit.add, [AuditEntry("", 2.0, "ada", "user", "t", "GET /", "", 200, "r", "::1")]),
            partial(first.audit.sweep, 2.0),
        ):
            with pytest.raises(SupersededError):
                write()
        assert len(ended) == 6
        assert "two" in ended[0]
        assert [name.name for name in second.names()] == ["before"]
        second.save(Changes(names=[NameRecord("later", met_at=3.0)]), {})
    finally:
        for store, leads in ((second, new), (first, old)):
            store.close()
            leads.close()


def test_a_leader_whose_session_breaks_and_who_does_not_get_the_lock_again_asks_for_its_end(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leadership, "LOOK_SECONDS", 0.02)
    ended = threading.Event()
    leads = Leadership(url, "one", lambda _: ended.set())
    assert leads._session is not None
    pid = leads._session.execute(text("SELECT pg_backend_pid()")).scalar()
    monkeypatch.setattr(leads, "_lock", lambda: None)  # another one was quicker
    store, other = Store(url, leads), create_engine(url)
    try:
        with other.connect() as connection:
            connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        assert ended.wait(60)
    finally:
        other.dispose()
        store.close()
        leads.close()


def test_a_transaction_that_an_old_leader_never_ends_keeps_nobody_from_leading(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leadership, "LOOK_SECONDS", 3600.0)  # it does not notice by itself
    monkeypatch.setattr(leadership, "UNFINISHED_SECONDS", 1.0)
    old = Leadership(url, "one", lambda _: None)
    first = Store(url, old)
    unfinished = leadership.writing(first._engine)
    held = unfinished.__enter__()  # and its host is gone
    assert held.execute(text("SHOW idle_in_transaction_session_timeout")).scalar() == "1s"
    assert old._session is not None
    old._session.close()
    new = Leadership(url, "two", lambda _: None)
    watcher = create_engine(url, connect_args={"options": "-c lock_timeout=60s"})
    try:
        new.begin(watcher)
        with pytest.raises(DBAPIError):
            held.execute(text("SELECT 1"))
    finally:
        held.invalidate()
        held.close()
        watcher.dispose()
        first.close()
        new.close()
        old.close()


def test_both_sides_of_a_connection_notice_a_host_that_is_gone_and_what_the_site_has_set_holds(
    url: str,
) -> None:
    store = Store(f"{url}&options=-c%20search_path%3Dpublic%20-c%20statement_timeout%3D77s")
    with store._engine.connect() as connection:
        shown = connection.execute(text("SELECT current_setting('statement_timeout')")).scalar()
        assert shown == "77s"
        driver = connection.connection.driver_connection
        assert driver is not None
        parameters = driver.info.get_parameters()
        assert (parameters["keepalives_idle"], parameters["keepalives_count"]) == ("5", "3")
        assert "tcp_keepalives_idle=5" in parameters["options"]
    store.close()
