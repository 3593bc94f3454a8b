from __future__ import annotations

import json
import signal
import subprocess
from hashlib import sha256
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


# -- another cache's tree ------------------------------------------------------------------------

URL = "https://data.example.org/run%207.nxs?part=1"
QUOTED = "https%3A%2F%2Fdata.example.org%2Frun%25207.nxs%3Fpart%3D1"


@pytest.fixture
def hashes(tmp_path: Path) -> Path:
    """A flat directory of files named by their hash."""
    flat = tmp_path / "hashes"
    flat.mkdir()
    for number in range(3):
        (flat / sha256(b"%d" % number).hexdigest()).write_bytes(b"%d" % number)
    return flat


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """A flat tree of key and file."""
    flat = tmp_path / "named"
    flat.mkdir()
    (flat / QUOTED).write_bytes(b"seven")
    (flat / "calibration").write_bytes(b"c")
    return flat


@pytest.mark.parametrize("link", [(), ("--link",)])
def test_a_directory_of_files_named_by_their_hash_is_taken_over(
    stager: Here, hashes: Path, tmp_path: Path, link: tuple[str, ...]
) -> None:
    arguments = ("cache", "migrate", "--from", hashes, *link, "--cache", tmp_path / "cache")
    done = stager(*arguments)
    assert done.code == 0, done.err
    assert "3 imported" in done.err
    cache = FileCache(tmp_path / "cache")
    assert {key: cache.path(key).read_bytes() for key in cache} == {
        f"sha256:{sha256(b'%d' % n).hexdigest()}": b"%d" % n for n in range(3)
    }
    for path in hashes.iterdir():  # who reads them there goes on
        assert sha256(path.read_bytes()).hexdigest() == path.name
        assert path.stat().st_nlink == (2 if link else 1)
    assert "3 present" in stager(*arguments).err


def test_a_tree_of_keys_is_taken_over_and_a_quoted_url_is_that_url(
    stager: Here, named: Path, tmp_path: Path
) -> None:
    done = stager("cache", "migrate", "--from", named, "--owner", "ada", "--cache", tmp_path / "cache")
    assert done.code == 0, done.err
    cache = FileCache(tmp_path / "cache")
    assert {key: cache.path(key).read_bytes() for key in cache} == {URL: b"seven", "calibration": b"c"}
    entry = cache.lookup(URL)
    assert entry is not None
    assert (entry.url, entry.owner) == (URL, "ada")


def test_what_is_not_named_alike_has_to_be_said(stager: Here, hashes: Path, tmp_path: Path) -> None:
    (hashes / "README").write_text("what this is")
    cache = tmp_path / "cache"
    done = stager("cache", "migrate", "--from", hashes, "--cache", cache)
    assert done.code == 2
    assert "--hashes" in done.error
    assert not cache.exists()
    done = stager("cache", "migrate", "--from", hashes, "--hashes", "--cache", cache)
    assert done.code == 1
    assert "README: unfit: it is not named by a SHA-256" in done.err
    assert len(FileCache(cache)) == 3
    assert stager("cache", "migrate", "--from", hashes, "--keys", "--cache", cache).code == 0
    assert FileCache(cache).path("README").read_text() == "what this is"


def test_a_file_that_is_not_what_its_name_says_is_not_taken_over(
    stager: Here, hashes: Path, tmp_path: Path
) -> None:
    wrong = min(hashes.iterdir())
    wrong.write_bytes(b"damaged")
    done = stager("cache", "migrate", "--from", hashes, "--cache", tmp_path / "cache")
    assert done.code == 1
    assert f"{wrong.name}: mismatch" in done.err
    assert FileCache(tmp_path / "cache").lookup(f"sha256:{wrong.name}") is None


@pytest.mark.parametrize(
    "words", [("--from", "x", "--shards", "4"), ("--from", "x", "--grace", "1h"), ("--keys",), ("--link",)]
)
def test_moving_and_taking_over_are_told_apart(
    stager: Here, cache: FileCache, words: tuple[str, ...]
) -> None:
    done = stager("cache", "migrate", *words, "--cache", cache.root)
    assert done.code == 2
    assert "says nothing here" in done.error
    both = stager("cache", "migrate", "--from", cache.root, "--keys", "--hashes", "--cache", cache.root)
    assert "exclude each other" in both.error
