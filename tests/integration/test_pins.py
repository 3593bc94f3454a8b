"""Pins from the command line, over HTTP and from Python, with and without a server."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from stager.cache.store import FileCache
from stager.errors import ConflictError, InputError, NotFoundError
from tests.support.commandline import Here
from tests.support.processes import ServerProcess, environment

DAY = 86_400


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def cache(server: ServerProcess) -> FileCache:
    return FileCache(server.root / "cache")


def here(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    for name, value in environment(root).items():
        monkeypatch.setenv(name, value)
    return Here(capsys)


@pytest.fixture(params=["with a server", "without a server"])
def stager(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Here:
    """The command line, of the running server's root or of one that no server looks after."""
    with_server = request.param == "with a server"
    root = request.getfixturevalue("server").root if with_server else tmp_path
    return here(root, monkeypatch, capsys)


def put(key: str, data: bytes) -> str:
    return FileCache(os.environ["STAGER_CACHE_DIR"]).put(key, data).object


def test_a_file_is_pinned_listed_and_unpinned(stager: Here) -> None:
    sha256 = put("model/1", b"weights")
    pinned = stager("cache", "pin", "model/1", "--for", "7d", "--reason", "for the paper", "--owner", "ada")
    assert (pinned.code, pinned.err) == (0, "")
    (found,) = [json.loads(line) for line in stager("cache", "pins", "model/1", "--json").lines]
    assert (found["object"], found["holder"], found["reason"]) == (sha256, "user:ada", "for the paper")
    assert found["until"] - time.time() == pytest.approx(7 * DAY, abs=60)
    assert pinned.lines == [found["id"]]
    assert found["id"] in stager("cache", "pins").out
    assert stager("cache", "unpin", "model/1").lines == [found["id"]]
    assert stager("cache", "pins", "model/1").out == ""


def test_an_unknown_key_and_a_bad_time_are_refused_with_a_reason(stager: Here) -> None:
    ended = stager("cache", "pin", "no such key")
    assert ended.code == 3
    assert "no such key is not in the cache" in ended.error
    put("model/2", b"other weights")
    ended = stager("cache", "pin", "model/2", "--for", "soon")
    assert ended.code == 2
    assert "'soon' is no length of time" in ended.error
    ended = stager("cache", "unpin", "model/2")
    assert ended.code == 3
    assert "model/2 is not pinned" in ended.error


def test_the_python_client_says_the_same_words(server: ServerProcess, cache: FileCache) -> None:
    entry = cache.put("python", b"from python")
    with server.client() as client:
        pin = client.cache.pin("python", 60.0, reason="a test", owner="ada")
        assert (pin.object, pin.key, pin.holder) == (entry.object, "python", "user:ada")
        assert client.cache.pins("python") == [pin]
        longer = client.cache.pin("python", owner="ada")
        assert (longer.id, longer.until) == (pin.id, None)
        with pytest.raises(NotFoundError, match="not in the cache"):
            client.cache.pin("https://h.test/never")
        with pytest.raises(InputError):
            client.cache.pin("python", -1.0)
        assert client.cache.unpin(pin.id) == [longer]
        assert client.cache.pins("python") == []


def test_http_problems_have_their_type(server: ServerProcess, cache: FileCache) -> None:
    cache.put("http", b"over http")
    token = (server.root / "state" / "token").read_text().strip()
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {token}"
        session.trust_env = False

        def ask(method: str, path: str, **more: object) -> requests.Response:
            return session.request(method, f"{server.url}/v1/cache/pins{path}", timeout=60, **more)  # type: ignore[arg-type]

        made = ask("POST", "", json={"file": "http", "seconds": 60})
        assert made.status_code == 201
        assert ask("GET", "", params={"file": "http"}).json()["pins"] == [made.json()]
        assert ask("POST", "", json={"file": "nothing"}).json()["type"] == "urn:stager:error:not-found"
        assert ask("POST", "", json={"file": "http", "secnds": 1}).status_code == 422
        assert ask("DELETE", "/http").json()["pins"] == [made.json()]
        assert ask("DELETE", "/http").status_code == 404


def test_pins_outlive_the_state_directory_and_hold_on_every_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stager = here(tmp_path, monkeypatch, capsys)
    sha256 = put("model", b"weights")
    pinned = stager("cache", "pin", "model", "--reason", "the only copy").lines
    shutil.rmtree(tmp_path / "state")
    monkeypatch.setenv("STAGER_STATE_DIR", str(tmp_path / "another host"))
    assert pinned[0] in stager("cache", "pins").out
    assert stager("cache", "rm", "model").code in {0, 6}
    other = FileCache(tmp_path / "cache")
    assert other.has_object(sha256)
    assert stager("cache", "unpin", pinned[0]).lines == pinned


def test_what_a_stage_request_holds_is_not_unpinned_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from stager.clock import SystemClock
    from stager.service.cache_pins import PinService

    stager = here(tmp_path, monkeypatch, capsys)
    put("staged", b"staged")
    pins = PinService(FileCache(tmp_path / "cache"), SystemClock())
    pins.hold("staged", "stage:1abc", "staged", None)
    ended = stager("cache", "unpin", "staged")
    assert ended.code == 6
    assert "stage request 1abc" in ended.error
    with pytest.raises(ConflictError):
        pins.unpin("staged")
