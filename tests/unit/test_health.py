"""Looks at cache, database, permissions, settings and versions, each in both outcomes."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from stager.cache import health, mounts
from stager.cache.health import cache_checks
from stager.cache.layout import PROBE, RESTRICTED
from stager.cache.owner import here
from stager.cache.probe import costs
from stager.cache.store import FileCache
from stager.errors import NotACacheError, StateError
from stager.model.checks import Checked, Health
from stager.settings import load_settings
from stager.state import health as state_health
from stager.state.health import database_checks, database_file, lock_holder
from stager.state.lock import StateLock
from stager.state.schema import HEAD
from stager.state.store import Store
from stager.wiring import versions
from stager.wiring.cache import build_cache_site, catalogue_url
from stager.wiring.doctor import checks, local, state_directory, token_file
from stager.wiring.provenance import file_check, setting_checks
from tests.support.needs import needs

NETWORK = "27 1 0:50 / / rw - nfs4 srv:/export rw,vers=4.1,hard\n"


def by_name(found: Any) -> dict[str, Checked]:
    return {one.name: one for one in found}


# -- the cache -----------------------------------------------------------------------------------


def checked_cache(root: Path, keep_free: int = 0) -> dict[str, Checked]:
    return by_name(cache_checks(str(root), shards="2+2", keep_free=keep_free))


def test_a_good_cache_is_ok_in_every_respect_and_left_as_it_is(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "c")
    cache.put("k", b"data")
    before = sorted(cache.root.rglob("*"))
    found = checked_cache(cache.root)
    names = {
        "cache",
        "cache file system",
        "cache free space",
        "cache free inodes",
        "cache permissions",
        "cache clock",
    }
    assert found.keys() == names
    assert {one.verdict for one in found.values()} == {Health.OK}, found
    assert sorted(cache.root.rglob("*")) == before


def test_a_cache_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    assert checked_cache(tmp_path / "c")["cache"].verdict is Health.SKIPPED
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["mine", f"{PROBE}{here()}-999999999-1-0"])
def test_a_directory_that_is_no_cache_is_not_made_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    if name == "mine":
        with pytest.raises(NotACacheError):
            checked_cache(tmp_path)
        with pytest.raises(NotACacheError):
            checked_cache(tmp_path / name)
    else:
        assert checked_cache(tmp_path)["cache"].verdict is Health.SKIPPED
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_system_that_is_slow_or_unfit_is_said_with_the_way_to_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "SLOW_WRITE_MS", 0.0)
    found = health.file_system(str(tmp_path))
    assert (found.verdict, "stager cache probe" in found.remedy) == (Health.WARNING, True)
    monkeypatch.setattr(os, "utime", lambda *_, **__: None)
    assert health.file_system(str(tmp_path)).verdict is Health.FAILED


def statvfs(monkeypatch: pytest.MonkeyPatch, **values: int) -> None:
    found = {
        "f_bavail": 50,
        "f_blocks": 100,
        "f_frsize": 1 << 30,
        "f_files": 100,
        "f_ffree": 50,
        "f_favail": 50,
    }
    answer = type("Answer", (), found | values)
    monkeypatch.setattr(os, "statvfs", lambda _: answer)


@pytest.mark.parametrize(
    ("free", "kept", "verdict"),
    [(50, 0, Health.OK), (3, 0, Health.WARNING), (0, 0, Health.FAILED), (50, 51, Health.FAILED)],
)
def test_little_room_is_a_warning_and_none_a_failure(
    monkeypatch: pytest.MonkeyPatch, free: int, kept: int, verdict: Health
) -> None:
    statvfs(monkeypatch, f_bavail=free)
    assert health.room("/", keep_free=kept << 30).verdict is verdict


@pytest.mark.parametrize(
    ("total", "free", "verdict"),
    [(100, 50, Health.OK), (0, 0, Health.OK), (100, 3, Health.WARNING), (100, 0, Health.FAILED)],
)
def test_few_inodes_are_a_warning_and_none_a_failure(
    monkeypatch: pytest.MonkeyPatch, total: int, free: int, verdict: Health
) -> None:
    statvfs(monkeypatch, f_files=total, f_ffree=free, f_favail=free)
    assert health.inodes("/").verdict is verdict


@pytest.mark.parametrize(("part", "mode"), [("", 0o777), (RESTRICTED, 0o750), ("objects", 0o757)])
def test_a_cache_that_others_can_write_to_is_a_failure_that_names_the_directory(
    tmp_path: Path, part: str, mode: int
) -> None:
    path = tmp_path / part
    path.mkdir(exist_ok=True)
    path.chmod(mode)
    found = health.modes(str(tmp_path))
    assert found.verdict is Health.FAILED
    assert str(path) in found.finding


@pytest.mark.parametrize(
    ("ahead", "verdict"), [(0.0, Health.OK), (30.0, Health.WARNING), (-30.0, Health.WARNING)]
)
def test_a_share_with_another_time_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float, verdict: Health
) -> None:
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - ahead)
    found = health.clock(str(tmp_path))
    assert found.verdict is verdict, found
    assert list(tmp_path.iterdir()) == []


# -- the database --------------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "stager.db"
    Store(f"sqlite:///{path}").close()
    return path


def checked_database(path: Path, name: str = "database") -> dict[str, Checked]:
    return by_name(database_checks(name, f"sqlite:///{path}"))


def test_a_good_database_is_ok_and_left_as_it_is(database: Path) -> None:
    before = database.read_bytes()
    found = checked_database(database)
    assert found.keys() == {"database", "database writable", "database integrity"}
    assert {one.verdict for one in found.values()} == {Health.OK}, found
    assert database.read_bytes() == before


def test_a_database_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    assert checked_database(tmp_path / "none.db")["database"].verdict is Health.SKIPPED
    assert list(tmp_path.iterdir()) == []


def test_a_database_of_another_version_is_a_warning_and_is_not_moved(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0000'")
        connection.commit()
    found = checked_database(database)["database"]
    assert (found.verdict, "0000" in found.finding, HEAD in found.finding) == (Health.WARNING, True, True)


def test_a_database_that_is_somebody_elses_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    found = checked_database(path)["database"]
    assert (found.verdict, "not stager's" in found.finding) == (Health.FAILED, True)


@pytest.mark.parametrize("how", ["header", "middle"])
def test_a_damaged_database_is_a_failure_with_a_way_out(database: Path, how: str) -> None:
    data = bytearray(database.read_bytes())
    start = 0 if how == "header" else 4096
    data[start : start + 4000] = b"\xff" * 4000
    database.write_bytes(data)
    found = checked_database(database)["database integrity"]
    assert found.verdict is Health.FAILED
    assert "backup" in found.remedy


def test_a_database_that_is_only_read_is_a_failure(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda name, **more: connect(name.replace("mode=rw", "mode=ro"), **more)
    )
    assert checked_database(database)["database writable"].verdict is Health.FAILED


def test_a_database_that_is_being_written_to_for_long_is_a_warning(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_health, "BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert checked_database(database)["database writable"].verdict is Health.WARNING


def test_a_database_that_is_too_large_to_read_through_is_said_so(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE more (x)")
        connection.executemany("INSERT INTO more VALUES (?)", ((f"{n:0200}",) for n in range(20_000)))
        connection.commit()
    monkeypatch.setattr(state_health, "LOOK_SECONDS", 0.0)
    assert checked_database(database)["database integrity"].verdict is Health.SKIPPED


def test_a_catalogue_is_looked_at_likewise(tmp_path: Path) -> None:
    settings = load_settings(cache_dir=tmp_path / "c", state_dir=tmp_path / "s")
    build_cache_site(settings).close()
    path = Path(catalogue_url(settings).removeprefix("sqlite:///"))
    assert {one.verdict for one in checked_database(path, "catalogue").values()} == {Health.OK}
    path.write_bytes(b"no database" * 1000)
    assert "read off the cache" in checked_database(path, "catalogue")["catalogue integrity"].remedy


def test_a_database_setting_that_is_no_url_is_refused_without_being_repeated() -> None:
    with pytest.raises(StateError) as caught:
        list(database_checks("database", "me:hush@host"))
    assert "hush" not in str(caught.value)


def test_a_database_server_that_does_not_answer_is_an_error_without_its_password() -> None:
    needs(find_spec("psycopg"), "psycopg")
    url = "postgresql+psycopg://me:hush@127.0.0.1:1/x"
    assert database_file(url) is None
    with pytest.raises(StateError) as caught:
        list(database_checks("database", url))
    assert "hush" not in str(caught.value)


def test_a_database_on_a_network_file_system_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert local("database", tmp_path / "x.db").verdict is Health.OK
    table = tmp_path / "mountinfo"
    table.write_text(NETWORK)
    monkeypatch.setattr(mounts, "MOUNTINFO", str(table))
    found = local("database", tmp_path / "x.db")
    assert (found.verdict, "nfs4" in found.finding) == (Health.FAILED, True)
    table.unlink()
    assert local("database", tmp_path / "x.db").verdict is Health.SKIPPED


def test_who_holds_the_state_directory_is_known_without_taking_its_lock(tmp_path: Path) -> None:
    assert lock_holder(tmp_path) is None
    lock = StateLock(tmp_path)
    assert lock_holder(tmp_path) == os.getpid()
    lock.close()
    assert lock_holder(tmp_path) is None


# -- permissions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "verdict"), [(0o700, Health.OK), (0o755, Health.WARNING), (0o777, Health.FAILED)]
)
def test_the_state_directory_is_for_its_owner(tmp_path: Path, mode: int, verdict: Health) -> None:
    tmp_path.chmod(mode)
    (found,) = state_directory(tmp_path)
    assert found.verdict is verdict
    (missing,) = state_directory(tmp_path / "none")
    assert missing.verdict is Health.SKIPPED


@pytest.mark.parametrize(("mode", "verdict"), [(0o600, Health.OK), (0o640, Health.FAILED)])
def test_the_token_is_for_its_owner(tmp_path: Path, mode: int, verdict: Health) -> None:
    path = tmp_path / "token"
    assert token_file(path).verdict is Health.SKIPPED
    path.touch()
    path.chmod(mode)
    assert token_file(path).verdict is verdict


# -- what is looked at ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({}, None),
        ({"farm": "celery"}, "workers"),
        ({"redis_url": "redis://h/0"}, "workers"),  # of a data node, which has no farm of its own
        ({"node_cache_dir": "/data"}, "node cache"),
    ],
)
def test_what_is_looked_at_is_what_the_settings_use(more: dict[str, Any], name: str | None) -> None:
    usual = {check.name for check in checks(load_settings(), {})}
    found = {check.name for check in checks(load_settings(**more), more)}
    assert found - usual == ({name} if name else set())


def test_the_cache_of_a_node_is_looked_at_under_its_own_name(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "node")
    given = {"node_cache_dir": str(cache.root), "cache_dir": tmp_path / "c"}
    (check,) = [check for check in checks(load_settings(**given), given) if check.name == "node cache"]
    found = list(check.look())
    assert all(one.name.startswith("node cache") and one.verdict is Health.OK for one in found), found


# -- settings and versions -----------------------------------------------------------------------


def test_each_setting_is_named_with_its_place_and_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.toml"
    file.write_text('fetch_threads = 3\nport = 1\nredis_url = "redis://me:hush@host/0"\n')
    monkeypatch.setenv("STAGER_CONFIG", str(file))
    monkeypatch.setenv("STAGER_PORT", "2")
    given = {"cache_dir": tmp_path / "c", "listen": None}
    found = {one.name: one.finding for one in setting_checks(load_settings(**given), given)}
    assert found.pop("setting redis_url").startswith("redis://***@host")
    assert found == {
        "setting cache_dir": f"{tmp_path}/c (command line)",
        "setting port": "2 (STAGER_PORT)",
        "setting allowed_networks": "127.0.0.0/8 (STAGER_ALLOWED_NETWORKS)",
        "setting fetch_threads": f"3 ({file})",
    }


def test_without_any_setting_all_have_their_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STAGER_ALLOWED_NETWORKS")
    (found,) = setting_checks(load_settings(), {})
    assert found.finding == "all have their defaults"


@pytest.mark.parametrize(
    ("text", "mode", "verdict"),
    [
        ('redis_url = "redis://me:hush@host/0"', 0o644, Health.WARNING),
        ('redis_url = "redis://me:hush@host/0"', 0o600, Health.OK),
        ("port = 1", 0o644, Health.OK),
    ],
)
def test_a_settings_file_with_a_password_is_for_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, mode: int, verdict: Health
) -> None:
    file = tmp_path / "config.toml"
    monkeypatch.setenv("STAGER_CONFIG", str(file))
    assert file_check().verdict is Health.SKIPPED
    file.write_text(text)
    file.chmod(mode)
    assert file_check().verdict is verdict


@pytest.mark.parametrize(
    ("requirement", "verdict"),
    [
        ("requests>=2.0", Health.OK),
        ("requests>=999.0", Health.WARNING),
        ("no-such-package>=1.0", Health.FAILED),
        ("no-such-package>=1.0; extra == 'farm'", Health.OK),
        ("celery[redis]>=1.0; extra == 'farm'", Health.OK),
    ],
)
def test_dependencies_are_as_new_as_those_tested(requirement: str, verdict: Health) -> None:
    assert versions.dependencies([requirement]).verdict is verdict


def test_a_version_with_a_suffix_is_compared_by_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "version", lambda _: "2.10.0rc1+local.7")
    assert versions.dependencies(["x>=2.9"]).verdict is Health.OK
