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

URL = "https://data.example.org/run/"


@pytest.fixture
def stager(capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(capsys)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    site = tmp_path / "site"
    (site / "sub dir").mkdir(parents=True)
    (site / "a.dat").write_bytes(b"aaa")
    (site / "sub dir" / "b.dat").write_bytes(b"b")
    return site


def test_files_are_imported_and_found_by_their_urls(stager: Here, site: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    done = stager("cache", "import", site, "--url-prefix", URL, "--owner", "beamline", "--cache", cache)
    assert done.code == 0
    assert "2 imported (4 B in the cache)" in done.err
    assert FileCache(cache).path(f"{URL}sub%20dir/b.dat").read_bytes() == b"b"
    entry = FileCache(cache).lookup(f"{URL}a.dat")
    assert entry is not None
    assert entry.owner == "beamline"
    again = stager("cache", "import", site, "--url-prefix", URL, "--cache", cache, "--json")
    assert [json.loads(line)["outcome"] for line in again.lines] == ["present"] * 2


def test_what_sha256sum_wrote_is_understood_and_a_wrong_file_fails(
    stager: Here, site: Path, tmp_path: Path
) -> None:
    odd = site / "odd\\name\n.dat"
    odd.write_bytes(b"odd")
    sums = subprocess.run(
        "find . -type f -exec sha256sum {} +", shell=True, cwd=site, capture_output=True, check=True
    ).stdout
    manifest = tmp_path / "sums.txt"
    manifest.write_bytes(sums)
    cache = tmp_path / "cache"
    arguments = ("cache", "import", site, "--keys", "--manifest", manifest, "--cache", cache)
    (site / "a.dat").write_bytes(b"AAA")
    done = stager(*arguments)
    assert done.code == 1
    (line,) = [line for line in done.err.splitlines() if "a.dat" in line]
    assert "mismatch: sha256 is" in line
    assert sorted(FileCache(cache)) == ["odd\\name\n.dat", "sub dir/b.dat"]
    (site / "a.dat").write_bytes(b"aaa")
    assert stager(*arguments).code == 0


def test_linked_files_become_read_only_and_that_is_said(stager: Here, site: Path, tmp_path: Path) -> None:
    done = stager("cache", "import", site, "--keys", "--link", "--cache", tmp_path / "cache")
    assert done.code == 0
    assert "must not be changed" in done.err
    assert (site / "a.dat").samefile(FileCache(tmp_path / "cache").path("a.dat"))
    assert (site / "a.dat").stat().st_mode & 0o777 == 0o444


def test_it_has_to_be_clear_what_keys_the_files_get(stager: Here, site: Path, tmp_path: Path) -> None:
    for options in ((), ("--keys", "--hashes"), ("--keys", "--url-prefix", URL)):
        done = stager("cache", "import", site, *options, "--cache", tmp_path / "cache")
        assert done.code == 2
        assert "--url-prefix" in done.error
    assert stager("cache", "import", tmp_path / "nowhere", "--keys", "--cache", tmp_path / "cache").code == 2


def test_an_interrupted_import_says_so_and_goes_on(stager: Here, site: Path, tmp_path: Path) -> None:
    for number in range(3000):
        (site / f"{number}.dat").write_bytes(b"%d" % number)
    arguments = ("cache", "import", site, "--keys", "--cache", tmp_path / "cache")
    with subprocess.Popen(command(*arguments), stderr=subprocess.PIPE, text=True) as process:
        until(lambda: list((tmp_path / "cache" / "entries").glob("*/*/*.json")), "files are imported")
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1]
    assert process.returncode == 130, said
    assert "the same command goes on from there" in said
    assert len(FileCache(tmp_path / "cache")) < 3002
    assert stager(*arguments).code == 0
    assert len(FileCache(tmp_path / "cache")) == 3002


def test_a_file_imported_by_its_digest_is_got_and_shown_by_it(stager: Here, tmp_path: Path) -> None:
    digest = sha256(b"known by its digest").hexdigest()
    site, cache = tmp_path / "site", tmp_path / "cache"
    site.mkdir()
    (site / digest).write_bytes(b"known by its digest")
    assert stager("cache", "import", site, "--hashes", "--owner", "beamline", "--cache", cache).code == 0
    got = tmp_path / "got"
    assert stager("cache", "get", f"sha256:{digest}", "-o", got, "--cache", cache).code == 0
    assert got.read_bytes() == b"known by its digest"
    shown = json.loads(stager("cache", "show", f"sha256:{digest}", "--cache", cache, "--json").out)
    assert shown["owner"] == "beamline"
    refused = stager("cache", "put", f"sha256:{digest}", got, "--cache", cache)
    assert refused.code != 0
    assert "nothing can be put under the key" in refused.err


def test_who_may_not_be_read_by_everybody_is_named_with_the_way_out(
    stager: Here, site: Path, tmp_path: Path
) -> None:
    (site / "a.dat").chmod(0o600)
    cache = tmp_path / "cache"
    done = stager("cache", "import", site, "--keys", "--cache", cache)
    assert done.code == 1
    assert "a.dat: unfit: its mode 0600 does not let everybody read it" in done.err
    assert stager("cache", "import", site, "--keys", "--readable", "--cache", cache).code == 0
