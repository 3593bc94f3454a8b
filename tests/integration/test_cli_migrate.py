from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from stager.cache.store import FileCache
from tests.support.commandline import Here, command
from tests.support.until import until


@pytest.fixture
def stager(capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(capsys)


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    cache = FileCache(tmp_path / "cache", remember=0)
    for number in range(5):
        cache.put(f"k{number}", b"%d" % number)
    return cache


def test_a_cache_is_moved_and_says_what_was_done(stager: Here, cache: FileCache) -> None:
    done = stager("cache", "migrate", "--shards", "4+4", "--grace", "0s", "--json", "--cache", cache.root)
    assert done.code == 0
    facts = json.loads(done.out)
    assert (facts["shards"], facts["previous"]) == ("4+4", ["2+2"])
    assert (facts["objects"], facts["entries"]) == (5, 5)
    assert {key: cache.path(key).read_bytes() for key in cache} == {f"k{n}": b"%d" % n for n in range(5)}
    done = stager("cache", "migrate", "--shards", "flat", "--grace", "0s", "--cache", cache.root)
    assert "has shards flat: 5 objects and 5 entries moved" in done.out
    assert cache.path("k1").parent.name == "objects"


def test_what_makes_no_sense_is_refused_before_anything_is_done(
    stager: Here, cache: FileCache, tmp_path: Path
) -> None:
    before = (cache.root / "layout.json").read_bytes()
    done = stager("cache", "migrate", "--shards", "2+x", "--cache", cache.root)
    assert done.code == 2
    assert "shard widths" in done.error
    assert stager("cache", "migrate", "--shards", "4", "--grace", "soon", "--cache", cache.root).code == 2
    assert (cache.root / "layout.json").read_bytes() == before
    done = stager("cache", "migrate", "--shards", "4+4", "--cache", tmp_path / "typo")
    assert done.code == 5
    assert "is not a cache" in done.error
    assert not (tmp_path / "typo").exists()


def test_an_interrupted_migration_says_how_far_it_got_and_goes_on(stager: Here, cache: FileCache) -> None:
    arguments = command("cache", "migrate", "--shards", "4+4", "--cache", cache.root)
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: cache.path("k0").parent.parent.name != cache.path("k0").name[:2], "objects are moved")
        until(lambda: not list((cache.root / "entries").glob("??/??/*.json")), "entries are moved")
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert "the same command goes on from there" in said
    assert all(cache.path(f"k{number}").read_bytes() == b"%d" % number for number in range(5))
    assert stager("cache", "migrate", "--grace", "0s", "--cache", cache.root).code == 0
    assert not [path for path in (cache.root / "objects").iterdir() if len(path.name) == 2]
