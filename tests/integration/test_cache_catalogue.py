"""A server's catalogue follows what happens, and the same can be asked over HTTP, from Python and by command."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from stager.cache.store import FileCache
from stager.client import Client
from stager.errors import InputError, NotFoundError
from stager.model.cache_views import Holder
from stager.model.catalogue import CachedFile, Kind, Selection, Sort
from stager.model.jobs import JobInput, JobSpec
from tests.support.commandline import Here, on_terminal
from tests.support.origin import Origin, content
from tests.support.processes import PATIENCE, ServerProcess, environment
from tests.support.until import until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path, STAGER_KEEPER_SECONDS="0.2", STAGER_FRESH_MIN_SECONDS="0") as running:
        yield running
        running.end()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with server.client() as made:
        until(lambda: made.cache.ls().walked_at is not None, "the new catalogue is filled at once")
        yield made


@pytest.fixture
def stager(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Here:
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    return Here(capsys)


def job(*urls: str, script: str = "true", **more: object) -> JobSpec:
    return JobSpec(("/bin/sh", "-c", script), tuple(JobInput(url) for url in urls), **more)  # type: ignore[arg-type]


def listed(client: Client, key: str) -> CachedFile:
    """The file of that key, as soon as the catalogue has it."""
    found: list[CachedFile] = []

    def there() -> bool:
        found[:] = [one for one in client.cache.ls(limit=None).files if one.key == key]
        return bool(found)

    until(there, f"{key} is listed", PATIENCE)
    return found[0]


def test_what_is_fetched_and_kept_is_listed_at_once_with_whom_it_was_for(client: Client) -> None:
    with Origin() as origin:
        url = origin.serve("/run.dat", content(b"data"))
        (ran,) = client.jobs.submit([job(url, script="echo fit > results/fit", owner="ada")])
        client.jobs.wait(ran, PATIENCE)
        fetched, kept = listed(client, url), listed(client, f"result:{ran}/fit")
    assert (fetched.owner, fetched.size, fetched.kind) == ("ada", 4, Kind.INPUT)
    assert fetched.host == url.split("/")[2]
    assert (kept.kind, kept.size) == (Kind.RESULT, 4)
    totals = client.cache.totals()
    assert (totals.totals.files, totals.totals.bytes) == (2, 8)
    assert totals.space.free > 0
    assert client.cache.totals(Selection(kind=Kind.RESULT)).totals.bytes == 4
    assert client.cache.ls(Selection(owner="ada", unused_since=fetched.last_access)).files == []
    later = Selection(owner="ada", stored_before=fetched.stored_at + 1, kind=Kind.INPUT)
    assert client.cache.ls(later).files == [fetched]


def test_what_a_url_had_before_is_a_version_of_it(client: Client) -> None:
    with Origin() as origin:
        url = origin.serve("/run.dat", content(b"old", etag='"1"'), content(b"newer", etag='"2"'))
        for _ in range(2):
            (ran,) = client.jobs.submit([job(url)])
            client.jobs.wait(ran, PATIENCE)
        until(lambda: client.cache.show(url).versions, "the older object is listed as a version")
    found = client.cache.show(url)
    assert (found.file.object, found.etag) == (sha256(b"newer").hexdigest(), '"2"')
    assert [one.object for one in found.versions] == [sha256(b"old").hexdigest()]
    assert client.cache.ls(Selection(kind=Kind.UNNAMED)).files == list(found.versions)


def test_who_holds_a_file_is_said_as_long_as_he_does(client: Client, tmp_path: Path) -> None:
    release = tmp_path / "release"
    os.mkfifo(release)
    with Origin() as origin:
        url = origin.serve("/run.dat", content(b"data"))
        (ran,) = client.jobs.submit([job(url, script=f"cat {release}")])
        until((tmp_path / "cache/jobs" / ran / "inputs/run.dat").exists, "the job has its input")
        listed(client, url)
        client.cache.pin(url, 600.0, reason="demo", owner="ada")
        found = client.cache.show(sha256(b"data").hexdigest()[:10])
        assert found.file.key == url
        assert found.holders[0] == Holder("job", ran, reason="run.dat")
        assert (found.holders[1].kind, found.holders[1].reason) == ("pin", "demo")
        assert client.cache.totals().space.evictable == 0
        client.cache.unpin(url)
        release.open("w").close()
        client.jobs.wait(ran, PATIENCE)
        until(lambda: not client.cache.show(url).holders, "the job has let go")


def test_what_other_processes_put_and_remove_is_noticed(client: Client, tmp_path: Path) -> None:
    other = FileCache(tmp_path / "cache")
    other.put("by hand", b"bytes")
    assert listed(client, "by hand").size == 5
    other.remove("by hand")
    until(lambda: not client.cache.ls().files, "what is gone is listed no more")


def test_files_are_removed_and_read_anew_through_the_server(client: Client, tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "cache")
    for n in range(3):
        cache.put(f"k{n}", b"x" * n)
    steps = list(client.cache.rebuild())
    assert steps[-1].files == 3
    assert [one.key for one in client.cache.ls(sort=Sort.URL).files] == ["k0", "k1", "k2"]
    assert client.cache.remove(["k0", "k9"]) == ["k9"]
    assert [one.key for one in client.cache.ls(sort=Sort.URL).files] == ["k1", "k2"]
    assert client.cache.ls(limit=1).total == 2
    with pytest.raises(NotFoundError, match="k0 is not in the cache"):
        client.cache.show("k0")


def test_a_beginning_that_several_files_share_is_refused_with_their_names(
    client: Client, tmp_path: Path
) -> None:
    cache = FileCache(tmp_path / "cache")
    contents: dict[str, bytes] = {}
    number = 0
    while True:  # six digits: some thousand contents until two agree
        data = str(number).encode()
        first = sha256(data).hexdigest()[:6]
        if first in contents:
            break
        contents[first] = data
        number += 1
    cache.put("a", data)
    cache.put("b", contents[first])
    with pytest.raises(InputError, match=f"several objects begin with {first}"):
        client.cache.show(first)
    assert client.cache.show(sha256(data).hexdigest()[:20]).file.object == sha256(data).hexdigest()


@pytest.mark.usefixtures("client")
def test_the_commands_ask_the_server_that_looks_after_this_cache(stager: Here, tmp_path: Path) -> None:
    FileCache(tmp_path / "cache").put("k", b"bytes")
    assert stager("cache", "rebuild").out.startswith("1 files read")
    assert stager("cache", "ls").lines[0].endswith("\tk")
    assert json.loads(stager("cache", "show", "k", "--json").out)["size"] == 5
    assert "all\t\t1\t5" in stager("cache", "du").lines
    assert stager("cache", "rm", "k").code == 0
    assert stager("cache", "ls").out == ""


@pytest.mark.usefixtures("client")
def test_another_cache_than_the_servers_is_not_asked_of_it(stager: Here, tmp_path: Path) -> None:
    FileCache(tmp_path / "other").put("theirs", b"bytes")
    FileCache(tmp_path / "cache").put("ours", b"bytes")
    stager("cache", "rebuild")
    assert stager("cache", "du", "--cache", tmp_path / "other").lines[0] == "all\t\t1\t5"
    assert stager("cache", "ls", "--cache", tmp_path / "other").lines[0].endswith("\ttheirs")
    assert stager("cache", "ls").lines[0].endswith("\tours")


def test_a_rebuild_that_is_interrupted_leaves_the_catalogue_as_it_was(
    stager: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FileCache(tmp_path / "cache")
    cache.put("first", b"1")
    stager("cache", "rebuild")
    cache.put("second", b"2")

    def interrupted(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("stager.state.catalogue.Catalogue.merge", interrupted)
    assert stager("cache", "rebuild").code == 130
    assert [line.split("\t")[-1] for line in stager("cache", "ls").lines] == ["first"]
    monkeypatch.undo()
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    assert stager("cache", "rebuild").code == 0
    assert len(stager("cache", "ls").lines) == 2


class TestWithoutAServer:
    """The commands read the catalogue of the state directory, or the cache itself."""

    @pytest.fixture
    def cache(self, tmp_path: Path) -> FileCache:
        made = FileCache(tmp_path / "cache")
        made.put("https://a.org/x?token=s3cret", b"12345")
        made.put("https://b.org/y", b"123")
        made.put("result:job1/fit", b"1")
        return made

    def test_without_a_catalogue_the_cache_is_read_and_it_is_said_so(
        self, stager: Here, cache: FileCache
    ) -> None:
        done = stager("cache", "ls")
        assert [line.split("\t")[0] for line in done.lines] == ["5 B", "3 B", "1 B"]
        assert "the cache itself is read" in done.error
        assert cache.root.exists()
        assert not (cache.root.parent / "state").exists()

    @pytest.mark.usefixtures("cache")
    def test_secrets_in_urls_are_not_shown(self, stager: Here) -> None:
        for _ in range(2):
            for form in ((), ("--json",), ("--csv",)):
                done = stager("cache", "ls", *form)
                assert "s3cret" not in done.out
                assert "https://a.org/x?token=***" in done.out
            stager("cache", "rebuild")
        assert "s3cret" not in stager("cache", "show", "https://a.org/x?token=s3cret").out

    @pytest.mark.usefixtures("cache")
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            (("--sort", "url", "--limit", "1"), ["https://a.org/x?token=***"]),
            (("--host", "b.org"), ["https://b.org/y"]),
            (("--kind=result",), ["result:job1/fit"]),
            (("--older-than", "1h"), []),
            (("--owner", "ada"), []),
            (
                ("--limit", "0", "--sort=size"),
                ["https://a.org/x?token=***", "https://b.org/y", "result:job1/fit"],
            ),
        ],
    )
    def test_the_quick_way_and_the_command_give_the_same(
        self, stager: Here, options: tuple[str, ...], expected: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stager("cache", "rebuild")
        quick = stager("cache", "ls", "--json", *options)
        monkeypatch.setattr("stager.cli.quick.quick_ls", lambda _: None)
        slow = stager("cache", "ls", "--json", *options)
        walked = stager("cache", "ls", "--json", "--walk", *options)
        assert quick == slow
        assert walked.out == quick.out
        assert walked.code == 0
        assert [json.loads(line)["key"] for line in quick.lines] == expected

    def test_how_the_catalogue_differs_from_the_cache_is_said_and_is_the_exit_code(
        self, stager: Here, cache: FileCache
    ) -> None:
        stager("cache", "rebuild")
        assert stager("cache", "ls", "--walk").error == "stager: the catalogue agrees with the cache: 3 files"
        cache.remove("https://b.org/y")
        cache.put("new", b"1")
        cache.put("result:job1/fit", b"another")
        done = stager("cache", "ls", "--walk")
        assert done.code == 1
        notes = done.err.splitlines()
        assert "stager: 1 in the catalogue alone: https://b.org/y" in notes
        assert any(
            note.startswith("stager: 1 of another size or content") and "result:job1/fit" in note
            for note in notes
        )
        assert any(note.startswith("stager: 1 not in the catalogue: new") for note in notes)
        assert stager("cache", "ls").err == ""
        stager("cache", "rebuild")
        assert stager("cache", "ls", "--walk").code == 0

    def test_more_than_are_shown_are_counted(self, stager: Here, cache: FileCache) -> None:
        for n in range(120):
            cache.put(f"k{n}", b"")
        stager("cache", "rebuild")
        done = stager("cache", "ls")
        assert len(done.lines) == 100
        assert done.error == "stager: 23 more; --limit 123 lists all"

    @pytest.mark.usefixtures("cache")
    def test_totals_are_given_to_programs_and_drawn_for_people(self, stager: Here, tmp_path: Path) -> None:
        found = json.loads(stager("cache", "du", "--json").out)
        assert found["totals"]["bytes"] == 9
        assert found["space"]["free"] > 0
        code, drawn = on_terminal("cache", "du", environment=environment(tmp_path))
        assert code == 0
        assert "b.org" in drawn
        assert "█" in drawn
        assert "an eviction could free" in drawn

    @pytest.mark.parametrize(
        "wrong", [("--sort", "colour"), ("--limit", "-1"), ("--older-than", "soon"), ("--json", "--csv")]
    )
    def test_what_makes_no_sense_is_refused(self, stager: Here, wrong: tuple[str, ...]) -> None:
        assert stager("cache", "ls", *wrong).code == 2

    def test_a_file_that_was_removed_is_listed_no_more(self, stager: Here, cache: FileCache) -> None:
        stager("cache", "rebuild")
        assert stager("cache", "rm", "https://b.org/y", "no such key").code == 3
        assert "b.org" not in stager("cache", "ls").out
        assert not cache.contains("https://b.org/y")

    @pytest.mark.usefixtures("cache")
    def test_a_catalogue_in_a_damaged_file_is_no_obstacle_to_a_list(
        self, stager: Here, tmp_path: Path
    ) -> None:
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "catalogue.db").write_bytes(b"no database " * 1000)
        done = stager("cache", "ls")
        assert done.code == 5
        assert "a damaged catalogue.db may be deleted" in done.error
