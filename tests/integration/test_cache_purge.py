"""Purging by command, over HTTP and from Python: the same words, the same answers."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from stager.cache.store import FileCache
from stager.client import Client
from stager.errors import InputError
from stager.model.eviction import Purge, Purged
from stager.model.keys import key_digest
from stager.server.app import create_app
from stager.server.listen import ApiServer, open_socket, url_of
from stager.settings import Settings
from stager.wiring.cache import build_cache_site
from tests.support.api import PATIENCE, TOKEN, ask
from tests.support.commandline import Here
from tests.support.jobserver import SmallServer

DAY = 86_400.0
URL = "http://origin.test/run.nxs"


@pytest.fixture
def stager(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    (tmp_path / "state").mkdir()
    monkeypatch.setenv("STAGER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("STAGER_CACHE_DIR", str(tmp_path / "cache"))
    return Here(capsys)


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    """Three files: one used now, one not for ten days, one not for a hundred."""
    cache = FileCache(tmp_path / "cache", remember=0)
    now = cache.root.stat().st_mtime
    for key, age in ((URL, 0.0), ("ten", 10 * DAY), ("hundred", 100 * DAY)):
        cache.put(key, key.encode())
        (entry,) = (cache.root / "entries").rglob(f"{key_digest(key)}.json")
        os.utime(entry, (now - age, now - age))
    return cache


def test_a_dry_run_prints_what_would_go_and_removes_nothing(stager: Here, cache: FileCache) -> None:
    done = stager("cache", "purge", "--older-than", "30d", "--dry-run")
    assert done.code == 0
    assert "not used for so long\t1\t7 B" in done.lines
    assert any(line.startswith("hundred\t7 B\t") for line in done.lines)
    assert len(list(cache)) == 3


def test_a_purge_removes_the_longest_unused(stager: Here, cache: FileCache) -> None:
    assert stager("cache", "purge", "--older-than", "30d").code == 0
    assert set(cache) == {URL, "ten"}
    done = stager("cache", "purge", "--to-size", "26B", "--json")
    assert json.loads(done.out)["gone"] == [{"reason": "room", "files": 1, "bytes": 3}]
    assert set(cache) == {URL}


def test_a_url_in_any_spelling_is_purged_and_an_unknown_one_is_named(stager: Here, cache: FileCache) -> None:
    assert stager("cache", "purge", "--url", "HTTP://Origin.TEST:80/run.nxs").code == 0
    assert set(cache) == {"ten", "hundred"}
    done = stager("cache", "purge", "--url", "http://user:secret@nowhere.test/x")
    assert done.code == 3
    assert "nowhere.test/x is not in the cache" in done.error
    assert "secret" not in done.error


def test_a_purge_that_can_not_free_enough_says_so_by_its_exit_status(stager: Here, cache: FileCache) -> None:
    cache.pin("job", "input", cache.path("ten").name, 3)
    done = stager("cache", "purge", "--to-size", "0")
    assert done.code == 1
    assert "3 B less than was asked for" in done.err
    assert "a job has it as an input\t1\t3 B" in done.lines
    assert set(cache) == {"ten"}


def test_a_forced_purge_of_what_a_job_holds_says_which_job(stager: Here, cache: FileCache) -> None:
    held = cache.pin("job-7", "input", cache.path("ten").name, 3)
    done = stager("cache", "purge", "--url", "ten", "--force")
    assert any("job job-7, as input; its key is forgotten" in line for line in done.lines)
    assert cache.lookup("ten") is None
    assert held.read_bytes() == b"ten"


def test_a_purge_of_nothing_in_particular_is_refused(stager: Here, cache: FileCache) -> None:
    done = stager("cache", "purge", "--cache", cache.root)
    assert done.code == 2
    assert "nothing is chosen to be purged" in done.error


def test_limits_shows_what_the_cache_may_hold(
    stager: Here, cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGER_MAX_CACHE_BYTES", "2048")
    done = stager("cache", "limits")
    assert f"the cache holds\t{len(URL) + 10} B of at most 2.0 KiB" in done.lines
    assert json.loads(stager("cache", "limits", "--json").out)["limits"]["max_cache_bytes"] == 2048
    assert len(list(cache)) == 3


# -- over HTTP -----------------------------------------------------------------------------------


@pytest.fixture
def client(tmp_path: Path, cache: FileCache) -> Iterator[Client]:
    settings = Settings(cache_dir=cache.root, state_dir=tmp_path / "server")
    (tmp_path / "server").mkdir()
    (tmp_path / "jobs").mkdir()
    with closing(build_cache_site(settings)) as site:
        for _ in site.files.rebuild():
            pass
        with SmallServer(tmp_path / "jobs") as jobs, open_socket("127.0.0.1", 0) as listening:
            ready = threading.Event()
            api = ApiServer(create_app(jobs.jobs, TOKEN, cache=site), ready.set)
            thread = threading.Thread(target=api.run, kwargs={"sockets": [listening]})
            thread.start()
            try:
                assert ready.wait(PATIENCE)
                with Client(url_of(listening), TOKEN) as client:
                    yield client
            finally:
                api.stop()
                thread.join(PATIENCE)


def purge(client: Client, wanted: Purge) -> Purged:
    work = client.cache.purge(wanted)
    while True:
        try:
            assert next(work).bytes >= 0
        except StopIteration as end:
            purged: Purged = end.value
            return purged


def test_a_server_purges_the_same_way(client: Client, cache: FileCache) -> None:
    would = purge(client, Purge(older_than=30 * DAY, dry_run=True))
    assert [one.key for one in would.went] == ["hundred"]
    assert len(list(cache)) == 3
    purged = purge(client, Purge(older_than=30 * DAY))
    assert (purged.gone, purged.files, purged.bytes) == (would.gone, 1, 7)
    assert set(cache) == {URL, "ten"}
    assert client.cache.limits().size == len(URL) + 3


def test_a_purge_that_makes_no_sense_is_refused_before_anything_happens(
    client: Client, cache: FileCache
) -> None:
    with pytest.raises(InputError, match="nothing is chosen"):
        ask(client, "POST", "cache/purge", json={})
    assert len(list(cache)) == 3
