"""Stage requests with a real server: over HTTP, from Python and from the command line, and across kills."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from hashlib import sha512
from pathlib import Path

import pytest

from stager.cache.pinned import is_pinned, pinned
from stager.cache.store import FileCache
from stager.cache.tree import open_tree
from stager.errors import ConflictError, InputError, NotFoundError
from stager.model.jobs import JobInput, JobSpec, JobState
from stager.model.stages import StagedState, StageItem
from tests.support.api import ask
from tests.support.commandline import Here
from tests.support.origin import Exchange, Origin, content, status
from tests.support.processes import PATIENCE, ServerProcess, environment

R, F, C, X = StagedState.READY, StagedState.FAILED, StagedState.CANCELLED, StagedState.RELEASED


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


@pytest.fixture
def cache(server: ServerProcess) -> FileCache:
    return FileCache(server.root / "cache")


def items(*urls: str) -> list[StageItem]:
    return [StageItem(url) for url in urls]


def until(condition: object, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        threading.Event().wait(0.02)


def is_free(cache: FileCache, sha256: str) -> bool:
    return not is_pinned(open_tree(cache.root, "2+2"), sha256)


def test_files_are_staged_pinned_for_a_while_and_released(
    server: ServerProcess, origin: Origin, cache: FileCache
) -> None:
    one = origin.serve("/one", content(b"one", etag='"1"'))
    two = origin.serve("/two", content(b"two two", etag='"2"'))
    gone = origin.serve("/gone", status(404))
    with server.client() as client:
        stage = client.stage.submit(items(one, two, gone, one), keep_seconds=3600.0, owner="ada", priority=5)
        found = client.stage.wait(stage, PATIENCE)
        assert [file.state for file in found.all_files] == [R, R, F]
        assert (found.files, found.bytes, found.states) == (3, 10, {"ready": 2, "failed": 1})
        assert (found.owner, found.priority, found.is_over) == ("ada", 5, True)
        error = found.all_files[2].error
        assert error is not None
        assert "404" in error["cause"]
        first = found.all_files[0]
        assert first.sha256 is not None
        (pin,) = pinned(open_tree(cache.root, "2+2"), first.sha256)
        assert (pin.holder, pin.key, pin.until) == (f"stage:{stage}", one, first.pinned_until)
        assert first.pinned_until == pytest.approx(time.time() + 3600, abs=60)
        assert client.stage.list(limit=1)[0].id == stage

        assert client.stage.release(stage, [one]) == 1
        assert client.stage.release(stage, [one]) == 0
        until(lambda: is_free(cache, first.sha256 or ""), "the pin of a released file is still there")
        assert [file.state for file in client.stage.show(stage).all_files] == [X, R, F]
        assert len(client.cache.pins(two)) == 1
        assert cache.contains(one)

        client.stage.unstage(stage)
        assert client.stage.show(stage).states == {"released": 2, "failed": 1}
        client.stage.delete(stage)
        with pytest.raises(NotFoundError, match="no stage request"):
            client.stage.show(stage)
        assert stage not in [one.id for one in client.stage.list()]
    assert len(origin.seen("/one")) == 1


def test_where_files_are_is_told_in_the_shape_of_the_tape_api(server: ServerProcess, origin: Origin) -> None:
    there, away = origin.serve("/at-hand", content(b"x")), origin.serve("/away", content(b"y"))
    with server.client() as client:
        client.stage.wait(client.stage.submit(items(there)), PATIENCE)
        asked = len(origin.requests)
        found = client.stage.archive_info([there, away, "no URL", "http://h.test/a b"])
        assert len(origin.requests) == asked, "no origin is asked"
        assert [(one.path, one.locality) for one in found] == [
            (there, "DISK_AND_TAPE"),
            (away, "TAPE"),
            ("no URL", None),
            ("http://h.test/a b", None),
        ]
        assert "malformed URL" in str(found[3].error)
        raw = ask(client, "POST", "archiveinfo", json={"paths": [there, "no URL"]}, kind=list)
        assert list(map(sorted, raw)) == [["locality", "path"], ["error", "path"]]
        (odd,) = ask(client, "POST", "archiveinfo", json={"paths": ["\ud800"]}, kind=list)
        assert odd == {"path": "\\ud800", "error": "it is not valid UTF-8"}


def test_a_stage_request_and_a_job_share_one_transfer(server: ServerProcess, origin: Origin) -> None:
    gate = threading.Event()

    def held(exchange: Exchange) -> None:
        gate.wait(PATIENCE)
        content(b"shared", etag='"s"')(exchange)

    url = origin.serve("/shared", held)
    with server.client() as client:
        stage = client.stage.submit(items(url))
        (job,) = client.jobs.submit([JobSpec(("/bin/cat", "inputs/shared"), (JobInput(url),))])
        origin.wait_for("/shared")
        until(lambda: client.stage.show(stage).all_files[0].state is StagedState.RUNNING, "it does not run")
        assert client.stage.cancel(stage) == 1  # the job still wants it
        again = client.stage.submit(items(url))
        gate.set()
        assert client.jobs.wait(job, PATIENCE).state is JobState.DONE
        assert client.stage.wait(again, PATIENCE).states == {"ready": 1}
        assert client.stage.show(stage).states == {"cancelled": 1}
    assert len(origin.seen("/shared")) == 1


def test_cancelling_some_files_ends_their_transfers_and_no_others(
    server: ServerProcess, origin: Origin
) -> None:
    gate = threading.Event()

    def held(exchange: Exchange) -> None:
        gate.wait(PATIENCE)
        content(b"late")(exchange)

    slow, quick = origin.serve("/slow", held), origin.serve("/quick", content(b"quick"))
    try:
        with server.client() as client:
            stage = client.stage.submit(items(slow, quick))
            origin.wait_for("/slow")
            with pytest.raises(NotFoundError, match="no file"):
                client.stage.cancel(stage, [slow + "er"])
            assert client.stage.cancel(stage, [slow]) == 1
            found = client.stage.wait(stage, PATIENCE)
            assert [file.state for file in found.all_files] == [C, R]
    finally:
        gate.set()


def test_what_is_there_already_is_ready_without_a_request(
    server: ServerProcess, origin: Origin, cache: FileCache
) -> None:
    url = origin.serve("/there", status(500))
    entry = cache.put(url, b"there")
    with server.client() as client:
        stage = client.stage.submit(items(url))
        found = client.stage.wait(stage, PATIENCE)
        assert [(file.state, file.sha256) for file in found.all_files] == [(R, entry.object)]
        assert found.all_files[0].pinned_until is None
    assert origin.seen("/there") == []


def test_nonsense_is_refused_with_a_reason(server: ServerProcess) -> None:
    with server.client() as client:
        with pytest.raises(InputError, match="files in one stage request"):
            client.stage.submit([])
        with pytest.raises(InputError, match="scheme"):
            client.stage.submit(items("gopher://h/x"))
        with pytest.raises(InputError, match="kept"):
            client.stage.submit(items("http://h.test/x"), keep_seconds=-1.0)
        with pytest.raises(InputError, match="priority"):
            client.stage.submit(items("http://h.test/x"), priority=5000)
        with pytest.raises(NotFoundError, match="no stage request"):
            client.stage.show("nothing")
        with pytest.raises((NotFoundError, ConflictError)):
            client.stage.show("")


def test_300_files_are_staged_once_though_the_server_is_killed_in_the_middle(tmp_path: Path) -> None:
    names = [f"/f{number}" for number in range(300)]
    with Origin() as origin:
        urls = [origin.serve(name, content(name.encode(), etag='"x"')) for name in names]
        with ServerProcess(tmp_path) as server, server.client() as client:
            stage = client.stage.submit(items(*urls), keep_seconds=3600.0, owner="ada")
            origin.wait_for(names[100], timeout=PATIENCE)
            server.kill()
        with ServerProcess(tmp_path) as server, server.client() as client:
            found = client.stage.wait(stage, PATIENCE)
            assert found.states == {"ready": 300}
            pins = client.cache.pins()
            assert len(pins) == 300
            assert {pin.holder for pin in pins} == {f"stage:{stage}"}
            assert sorted(pin.key for pin in pins) == sorted(urls)
            assert {pin.key: pin.until for pin in pins} == {f.url: f.pinned_until for f in found.all_files}
            records = list((tmp_path / "cache" / "pins").rglob("*.json"))
            assert len(records) == 300, "pinned exactly once"
            assert client.stage.unstage(stage) == 300
            until(lambda: client.cache.pins() == [], "pins are left")
            server.end()
        repeated = [name for name in names if len(origin.seen(name)) > 1]
        assert len(repeated) <= 8, "only what was under way is asked for again"
    assert not [p for p in (tmp_path / "cache" / "pins").rglob("*") if p.is_file()]


@pytest.fixture
def stager(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Here:
    for name, value in environment(server.root).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return Here(capsys)


def test_files_are_staged_and_let_go_from_the_command_line(stager: Here, origin: Origin) -> None:
    urls = [origin.serve(f"/cli-{n}", content(b"x" * n, etag=f'"{n}"')) for n in (1, 2, 3)]
    Path("list.txt").write_text("\n".join(urls[1:]) + "\n")
    made = stager("stage", urls[0], "--from", "list.txt", "--keep", "7d", "--owner", "ada", "--priority", 3)
    assert (made.code, made.err) == (0, "")
    (stage,) = made.lines
    shown = stager("staged", stage, "--wait", "--json")
    assert shown.code == 0
    found = json.loads(shown.out)
    assert [file["url"] for file in found["all_files"]] == urls
    assert (found["owner"], found["priority"], found["keep_seconds"]) == ("ada", 3, 604_800.0)
    assert "3 ready" in stager("staged").out
    page = stager("staged", stage)
    assert page.code == 0
    told = [line.split() for line in page.lines[4:]]
    assert [line[:4] for line in told] == [["ready", str(n), "B", url] for n, url in enumerate(urls, 1)]

    assert stager("unstage", stage, urls[0]).code == 0
    assert json.loads(stager("staged", stage, "--json").out)["states"] == {"ready": 2, "released": 1}
    assert "nothing of" in stager("unstage", stage, "--cancel").error
    assert json.loads(stager("unstage", stage, "--release", "--json").out)["changed"] == 2
    assert stager("unstage", stage, "--forget").code == 0
    ended = stager("staged", stage)
    assert ended.code == 3
    assert "no stage request" in ended.error


def test_files_of_a_list_are_staged_from_the_url_that_has_them_and_jobs_find_them_under_the_first(
    stager: Here, origin: Origin, server: ServerProcess
) -> None:
    lacking, having = origin.serve("/lacking", status(404)), origin.serve("/having", content(b"mirrored"))
    digest = f"sha-512={sha512(b'mirrored').hexdigest()}"
    Path("list.aria2").write_text(f"{lacking}\t{having}\n  checksum={digest}\n")
    (stage,) = stager("stage", "--from", "list.aria2").lines
    (file,) = json.loads(stager("staged", stage, "--wait", "--json").out)["all_files"]
    assert (file["url"], file["state"], file["error"]) == (lacking, "ready", None)
    item = JobInput(lacking, "x", digest=digest.replace("sha-512=", "sha512:"), mirrors=(having,))
    with server.client() as client:
        (job,) = client.jobs.submit([JobSpec(("true",), (item,))])
        assert client.jobs.wait(job, PATIENCE).inputs[0].cached
    assert len(origin.seen("/having")) == 1


def test_a_stage_request_with_a_file_that_is_not_there_ends_with_status_1(
    stager: Here, origin: Origin
) -> None:
    stage = stager("stage", origin.serve("/cli-gone", status(410)), "--json").out
    shown = stager("staged", json.loads(stage)["id"], "--wait")
    assert shown.code == 1
    assert "410" in shown.out


def test_time_is_up_for_a_stage_request_that_waits(stager: Here, origin: Origin) -> None:
    gate = threading.Event()

    def held(exchange: Exchange) -> None:
        gate.wait(PATIENCE)
        exchange.close()

    url = origin.serve("/cli-slow", held)
    try:
        (stage,) = stager("stage", url).lines
        ended = stager("staged", stage, "--timeout", "0.1")
        assert (ended.code, ended.error) == (7, "stager: time is up")
        assert stager("unstage", stage, "--cancel").code == 0
    finally:
        gate.set()


def test_nothing_to_stage_and_a_bad_time_are_refused(stager: Here) -> None:
    assert "nothing to stage" in stager("stage").error
    assert "no length of time" in stager("stage", "http://h.test/x", "--keep", "long").error
    assert stager("unstage", "x", "--forget", "--cancel").code == 2
