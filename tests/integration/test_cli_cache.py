from __future__ import annotations

import json
from pathlib import Path

import pytest

from stager.cache.store import FileCache
from tests.support.commandline import Here

URL = "http://origin.test/run.nxs"


@pytest.fixture
def stager(capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(capsys)


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    cache = FileCache(tmp_path / "cache")
    cache.put(URL, b"data")
    cache.put("my own key", b"other data")
    return cache


def test_ls_names_every_file_in_columns_for_programs(stager: Here, cache: FileCache) -> None:
    done = stager("cache", "ls", "--cache", cache.root)
    assert done.code == 0
    rows = [line.split("\t") for line in done.lines]
    assert [(row[0], row[6]) for row in rows] == [("10 B", "my own key"), ("4 B", URL)]


def test_ls_as_json_is_one_object_per_file(stager: Here, cache: FileCache) -> None:
    done = stager("cache", "ls", "--json", "--cache", cache.root)
    facts = {fact["key"]: fact for fact in map(json.loads, done.lines)}
    assert {key: fact["size"] for key, fact in facts.items()} == {URL: 4, "my own key": 10}


def test_show_finds_a_url_in_any_spelling(stager: Here, cache: FileCache) -> None:
    done = stager("cache", "show", "--json", "HTTP://Origin.TEST:80/run.nxs", "--cache", cache.root)
    fact = json.loads(done.out)
    assert Path(fact["path"]).read_bytes() == b"data"
    assert "size\t4 (4 B)" in stager("cache", "show", URL, "--cache", cache.root).lines


def test_path_prints_where_the_file_is(stager: Here, cache: FileCache) -> None:
    done = stager("cache", "path", "my own key", "--cache", cache.root)
    assert Path(done.lines[0]).read_bytes() == b"other data"


def test_rm_removes_what_is_there_and_names_what_is_not(stager: Here, cache: FileCache) -> None:
    done = stager("cache", "rm", URL, "nothing", "--cache", cache.root)
    assert done.code == 3
    assert done.error == "stager: nothing is not in the cache"
    assert not FileCache(cache.root).contains(URL)
    assert FileCache(cache.root).contains("my own key")


@pytest.mark.parametrize("command", ["show", "path"])
def test_what_is_not_there_is_an_error_of_one_line(stager: Here, cache: FileCache, command: str) -> None:
    done = stager("cache", command, "nothing", "--cache", cache.root)
    assert (done.code, done.out) == (3, "")
    assert "nothing" in done.error


@pytest.mark.parametrize("command", [("ls", "--walk"), ("du",), ("show", URL), ("purge", "--to-free", "1M")])
def test_no_cache_is_made_where_the_server_s_own_has_vanished(
    stager: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    mount, state = tmp_path / "mount", tmp_path / "state"
    mount.mkdir()
    state.mkdir()
    (state / "cache.json").write_text(json.dumps({"root": str(mount), "id": "0123456789abcdef"}))
    monkeypatch.setenv("STAGER_STATE_DIR", str(state))
    done = stager("cache", *command, "--cache", mount)
    assert done.code != 0
    assert "is the file system mounted?" in done.err
    assert list(mount.iterdir()) == []
