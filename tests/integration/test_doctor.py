"""``stager doctor`` on real installations: one machine, and a farm with a real Redis; and what is wrong with each."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from stager.cli import doctor_server
from stager.client.site import SiteCalls
from stager.model.checks import Checked, Health
from stager.signals import keys
from stager.signals.connection import RedisAddress
from stager.signals.health import redis_checks
from stager.signals.roster import Roster, WorkerCard
from stager.state.health import database_checks
from stager.state.store import Store
from tests.support.commandline import Ended, Here, on_terminal
from tests.support.farm import Farm
from tests.support.postgres import cluster
from tests.support.processes import ServerProcess, environment
from tests.support.valkey import PASSWORD, Valkey


@pytest.fixture
def stager(capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(capsys)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with Valkey(tmp_path_factory.mktemp("redis")) as valkey:
        yield valkey


def answers(done: Ended) -> dict[str, dict[str, Any]]:
    return {one["check"]: one for one in map(json.loads, done.lines)}


def wrong(done: Ended) -> dict[str, str]:
    return {
        name: one["finding"] for name, one in answers(done).items() if one["verdict"] in {"warning", "failed"}
    }


def test_before_anything_was_started_nothing_is_wrong_and_nothing_is_made(stager: Here, root: Path) -> None:
    done = stager("doctor", "--json")
    assert (done.code, wrong(done)) == (0, {}), done
    assert list(root.iterdir()) == []


def test_a_running_server_is_all_right(stager: Here, root: Path) -> None:
    with ServerProcess(root) as server:
        done = stager("doctor", "--json")
        found = answers(done)
        assert (done.code, wrong(done)) == (0, {}), done
        assert server.url in found["server"]["finding"]
        for name in ("server version", "server clock", "token file", "state directory", "database", "cache"):
            assert found[name]["verdict"] == "ok", found[name]
        assert found["setting state_dir"]["finding"] == f"{root / 'state'} (STAGER_STATE_DIR)"
        server.end()
    done = stager("doctor", "--json")
    assert done.code == 1
    assert set(wrong(done)) == {"server"}


def test_a_server_that_was_killed_is_found(stager: Here, root: Path) -> None:
    with ServerProcess(root) as server:
        server.kill()
    done = stager("doctor", "--json")
    assert done.code == 2
    assert "it was killed" in wrong(done)["server"]


def test_a_server_that_hangs_is_found_in_bounded_time(stager: Here, root: Path) -> None:
    with ServerProcess(root) as server:
        os.kill(server.pid, signal.SIGSTOP)
        try:
            done = stager("doctor", "--json", "--timeout", "3")
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert done.code == 2
        assert "no answer within 3 s" in wrong(done)["server"]
        server.end()


def test_a_configured_server_that_is_away_is_found(stager: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAGER_SERVER", "http://127.0.0.1:1")
    monkeypatch.setenv("STAGER_TOKEN", "x" * 40)
    done = stager("doctor", "--json")
    assert (done.code, set(wrong(done))) == (2, {"server"})


def test_a_wrong_token_is_found_and_not_shown(
    stager: Here, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ServerProcess(root) as server:
        monkeypatch.setenv("STAGER_TOKEN", "canary-of-the-token" * 3)
        done = stager("doctor", "--json")
        assert (done.code, set(wrong(done))) == (2, {"server"})
        assert "canary" not in done.out + done.err
        server.end()


def test_a_server_of_another_version_and_with_another_time_is_a_warning(
    stager: Here, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ServerProcess(root) as server:
        monkeypatch.setattr(doctor_server, "__version__", "999")
        monkeypatch.setattr(SiteCalls, "clock", lambda _: 0.0)
        done = stager("doctor", "--json")
        assert (done.code, set(wrong(done))) == (1, {"server version", "server clock"})
        server.end()


def test_settings_that_make_no_sense_are_the_answer(stager: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAGER_FETCH_THREADS", "none")
    done = stager("doctor", "--json")
    assert done.code == 2
    assert "fetch_threads" in wrong(done)["settings"]


def test_only_problems_are_shown_on_demand(stager: Here, root: Path) -> None:
    (root / "state").mkdir(mode=0o755)
    done = stager("doctor", "--problems")
    assert done.code == 1
    (line,) = done.lines
    assert line.split("\t")[:2] == ["warning", "state directory"]
    assert done.error.startswith("stager: 0 failed, 1 warning, ")


@pytest.mark.parametrize("colour", [True, False])
def test_a_terminal_sees_a_table_with_colours_unless_it_wants_none(*, colour: bool) -> None:
    code, drawn = on_terminal("doctor", environment={} if colour else {"NO_COLOR": "1"})
    assert code == 0
    assert "settings file" in drawn
    assert ("\x1b[32m" in drawn) is colour


# -- with Redis ----------------------------------------------------------------------------------


def checked(redis: Valkey, password: str = PASSWORD) -> dict[str, Checked]:
    url = f"redis://:{password}@{redis.host}:{redis.port}/0"
    return {one.name: one for one in redis_checks(RedisAddress(url))}


def test_a_good_redis_is_ok_in_every_respect(redis: Valkey) -> None:
    found = checked(redis)
    assert {one.verdict for one in found.values()} == {Health.OK}, found
    assert found.keys() == {"Redis", "Redis connection", "Redis clock", "Redis memory", "Redis persistence"}
    assert PASSWORD not in str(found)


@pytest.mark.parametrize(
    ("name", "value", "check", "verdict"),
    [
        ("maxmemory-policy", "allkeys-lru", "Redis memory", Health.FAILED),
        ("appendonly", "no", "Redis persistence", Health.WARNING),
        ("maxmemory", "100000", "Redis memory", Health.WARNING),
    ],
)
def test_a_redis_that_may_forget_is_found(
    redis: Valkey, name: str, value: str, check: str, verdict: Health
) -> None:
    with redis.client() as client:
        before = client.config_get(name)[name]
        client.config_set(name, value)
        try:
            assert checked(redis)[check].verdict is verdict
        finally:
            client.config_set(name, before)


def test_a_redis_whose_clock_differs_is_found(redis: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert checked(redis)["Redis clock"].verdict is Health.WARNING


def test_an_unencrypted_way_to_another_host_is_a_warning(redis: Valkey) -> None:
    from stager.signals.health import _version, _way

    assert _way(RedisAddress("redis://other.test/0")).verdict is Health.WARNING
    assert _way(RedisAddress("rediss://other.test/0")).verdict is Health.OK
    assert _version(RedisAddress(redis.url), {"redis_version": "5.0.7"}).verdict is Health.WARNING


@pytest.mark.parametrize("what", ["password", "port"])
def test_a_redis_that_lets_nobody_in_or_is_away_is_one_failure_without_its_password(
    stager: Here, redis: Valkey, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    port = redis.port if what == "password" else 1
    monkeypatch.setenv("STAGER_REDIS_URL", f"redis://:canary@127.0.0.1:{port}/0")
    monkeypatch.setenv("STAGER_DISPATCH", "celery")
    done = stager("doctor", "--json")
    assert done.code == 2
    assert set(wrong(done)) == {"Redis", "workers"}
    assert "canary" not in done.out + done.err


def test_workers_that_are_missing_old_or_late_are_found(
    stager: Here, redis: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in redis.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STAGER_FARM", "celery")
    assert wrong(stager("doctor", "--json")).keys() == {"fetch workers"}
    roster = Roster(RedisAddress(redis.url))
    roster.announce(WorkerCard("w1", "node7", ("fetch",), 1, 4, 0, "0.0.1", 0.0, said_at=1000.0))
    try:
        done = stager("doctor", "--json")
    finally:
        roster.leave("w1")
        roster.close()
    assert (done.code, set(wrong(done))) == (1, {"worker versions", "clock of node7"})


def test_a_farm_that_works_is_all_right(
    stager: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Farm(tmp_path) as farm:
        farm.start_worker()
        for name, value in farm.settings.items():
            if name.startswith("STAGER_"):
                monkeypatch.setenv(name, value)
        done = stager("doctor", "--json")
        found = answers(done)
        assert (done.code, wrong(done)) == (0, {}), done
        assert found["fetch workers"]["finding"] == "processes: 1"
        assert found["clock of " + os.uname().nodename]["verdict"] == "ok"
        assert PASSWORD not in done.out
        with farm.redis.client() as client:
            assert len(client.keys(keys.WORKER + "*")) == 1


def test_a_database_server_is_looked_at_before_and_after_its_first_use_and_when_it_can_only_be_read() -> None:
    with cluster() as url:

        def found(name: str) -> dict[str, Checked]:
            return {one.name: one for one in database_checks(name, url)}

        assert found("database")["database"].verdict is Health.SKIPPED
        Store(url).close()
        assert {one.verdict for one in found("database").values()} == {Health.OK}
        assert found("database").keys() == {"database", "database writable"}
        assert found("catalogue")["catalogue"].verdict is Health.SKIPPED
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
            connection.exec_driver_sql(
                f'ALTER DATABASE "{engine.url.database}" SET default_transaction_read_only = on'
            )
        engine.dispose()
        after = found("database")
        assert after["database"].verdict is Health.WARNING
        assert after["database writable"].verdict is Health.FAILED


@pytest.mark.usefixtures("root")
def test_where_fetches_may_reach_is_told_and_a_clouds_keys_are_worth_a_warning(
    stager: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGER_ALLOWED_ORIGINS", "*.portal.example 10.20.0.0/16 443")
    found = answers(stager("doctor", "--json"))
    assert found["fetches may reach networks"]["finding"] == "public ones, 127.0.0.0/8"
    assert found["fetches may reach ports"]["finding"] == "80, 443, 1024-65535"
    assert found["fetches may reach hosts"]["finding"] == "*.portal.example 10.20.0.0/16 443"
    monkeypatch.setenv("STAGER_ALLOWED_NETWORKS", "169.254.0.0/16")
    assert (
        "169.254.169.254 is allowed" in wrong(stager("doctor", "--json"))["fetches may reach a cloud's keys"]
    )
    monkeypatch.setenv("STAGER_ALLOWED_PORTS", "http")
    assert "'http' is neither a port nor a range" in wrong(stager("doctor", "--json"))["fetches"]
