"""A node's own cache: filled from the server, the share or the origin, once per node, and gone on with after a kill."""

from __future__ import annotations

import os
import random
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from stager.cache.store import FileCache
from stager.errors import CancelledError, DigestMismatchError, FetchError, SettingsError
from stager.model.events import DispatchInput
from stager.service.near import NearCache
from stager.settings import Settings
from stager.wiring.near import build_near
from tests.support.commandline import command
from tests.support.origin import Exchange, Origin, content, silence
from tests.support.processes import ServerProcess, environment
from tests.support.until import until

DATA = random.Random(11).randbytes(3 << 20)
DIGEST = sha256(DATA).hexdigest()
PATH = f"/v1/objects/{DIGEST}"
TOKEN = "t" * 43


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


def never() -> bool:
    return False


@contextmanager
def near_cache(root: Path, monkeypatch: pytest.MonkeyPatch, **given: Any) -> Iterator[NearCache]:
    """A node's cache below `root`, beside the share `root`/share."""
    monkeypatch.setenv("STAGER_TOKEN", TOKEN)
    usual: dict[str, Any] = {
        "cache_dir": root / "share",
        "state_dir": root / "state",
        "node_cache_dir": str(root / "near"),
        "retry_attempts": 2,
        "retry_first_seconds": 0.01,
    }
    with ExitStack() as made:
        yield build_near(Settings(**usual | given), made)


def test_an_object_comes_from_the_server_with_the_token_and_is_verified(
    tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin.serve(PATH, content(DATA, etag=f'"{DIGEST}"'))
    told: list[str] = []
    with near_cache(tmp_path, monkeypatch, server=origin.base, node_sources=("server",)) as near:
        near._told = told.extend
        path = near.bring(DIGEST, len(DATA), never)
        assert path.read_bytes() == DATA
        assert near.bring(DIGEST, len(DATA), never) == path
        assert (len(origin.seen(PATH)), told) == (1, [DIGEST])
        assert origin.seen(PATH)[0].headers["authorization"] == f"Bearer {TOKEN}"
        assert [file.object for file in near._site.catalogue.of_object(DIGEST)] == [DIGEST]


def test_what_is_not_the_object_is_not_taken(
    tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin.serve(PATH, content(DATA[::-1]))
    with near_cache(tmp_path, monkeypatch, server=origin.base, node_sources=("server",)) as near:
        with pytest.raises(DigestMismatchError):
            near.bring(DIGEST, len(DATA), never)
        assert not near.cache.has_object(DIGEST)


def test_it_comes_from_the_share_and_from_the_server_if_that_does_not_have_it(
    tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = FileCache(tmp_path / "share")
    share.put("k", DATA)
    other = b"only the server has it"
    name = sha256(other).hexdigest()
    origin.serve(f"/v1/objects/{name}", content(other))
    with near_cache(tmp_path, monkeypatch, server=origin.base, node_sources=("share", "server")) as near:
        assert near.bring(DIGEST, len(DATA), never).read_bytes() == DATA
        assert origin.seen() == []
        assert near.bring(name, len(other), never).read_bytes() == other
    assert share.object_path(DIGEST).stat().st_nlink == 1, "a copy, not a link"


def test_it_comes_from_the_origin_where_that_is_known_and_nobody_there_sees_the_token(
    tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Origin() as elsewhere:
        url = elsewhere.serve("/run.nxs", content(DATA))
        origin.serve(f"/v1/cache/files/{DIGEST}", _detail(url))
        origin.serve(PATH, content(DATA))
        networks = ("127.0.0.0/8",)
        with near_cache(
            tmp_path,
            monkeypatch,
            server=origin.base,
            node_sources=("origin", "server"),
            allowed_networks=",".join(networks),
        ) as near:
            assert near.bring(DIGEST, len(DATA), never).read_bytes() == DATA
        (asked,) = elsewhere.seen("/run.nxs")
        assert "authorization" not in asked.headers
        assert origin.seen(PATH) == []


def _detail(url: str) -> Any:
    import json

    file = {
        "digest": "d" * 64, "key": url, "object": DIGEST, "size": len(DATA), "stored_at": 1.0, "last_access": 1.0,
        "owner": "", "host": "h", "hits": 0, "fresh_until": None, "keep_until": None, "restricted": False,
    }  # fmt: skip
    return content(json.dumps({"file": file, "path": "/x", "url": url}).encode())


def test_many_who_ask_for_one_object_wait_for_one_transfer(tmp_path: Path, origin: Origin) -> None:
    going, go = threading.Event(), threading.Event()

    def slow(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Length": str(len(DATA))})
        exchange.body(DATA[:1000])
        going.set()
        assert go.wait(60)
        exchange.body(DATA[1000:])

    origin.serve(PATH, slow)
    variables = os.environ | environment(tmp_path) | node_environment(tmp_path, origin)
    origin.serve(f"/v1/cache/files/{DIGEST}", _detail("https://h.test/x"))
    processes = [
        subprocess.Popen(command("node", "get", DIGEST), env=variables, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert going.wait(60)
    until(lambda: len(origin.seen(f"/v1/cache/files/{DIGEST}")) == 2, "both want it")
    go.set()
    printed = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    (path,) = printed
    assert Path(path).read_bytes() == DATA
    assert len(origin.seen(PATH)) == 1


def node_environment(root: Path, origin: Origin) -> dict[str, str]:
    return {
        "STAGER_NODE_CACHE_DIR": str(root / "near"),
        "STAGER_NODE_SOURCES": "server",
        "STAGER_SERVER": origin.base,
        "STAGER_TOKEN": TOKEN,
    }


def test_a_node_that_is_killed_in_mid_pull_goes_on_where_it_ended(tmp_path: Path, origin: Origin) -> None:
    def half(exchange: Exchange) -> None:
        exchange.head(
            200, {"Content-Length": str(len(DATA)), "ETag": f'"{DIGEST}"', "Accept-Ranges": "bytes"}
        )
        exchange.body(DATA[: 2 << 20])
        exchange.hold()

    origin.serve(PATH, half, content(DATA, etag=f'"{DIGEST}"'))
    origin.serve(f"/v1/cache/files/{DIGEST}", _detail("https://h.test/x"))
    variables = os.environ | environment(tmp_path) | node_environment(tmp_path, origin)
    process = subprocess.Popen(command("node", "get", DIGEST), env=variables, stdout=subprocess.DEVNULL)
    partial = tmp_path / "near" / "partial"
    until(
        lambda: any(path.stat().st_size >= 1 << 20 for path in partial.rglob("*.part")),
        "half of it is on the node's disk",
    )
    process.kill()
    process.wait(60)
    done = subprocess.run(
        command("node", "get", DIGEST), env=variables, capture_output=True, text=True, check=True, timeout=60
    )
    assert Path(done.stdout.strip()).read_bytes() == DATA
    went_on = re.fullmatch(r"bytes=(\d+)-", origin.seen(PATH)[1].headers["range"])
    assert went_on is not None
    assert int(went_on[1]) > 0


def test_inputs_that_can_not_be_brought_are_left_to_the_share(
    tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    origin.serve(PATH, content(DATA))
    missing = DispatchInput("gone", "0" * 64, 5, "f1")
    there = DispatchInput("there", DIGEST, len(DATA), "f2")
    secret = DispatchInput("secret", "1" * 64, 5, "f3", restricted=True)
    with near_cache(tmp_path, monkeypatch, server=origin.base, node_sources=("server",)) as near:
        assert near.fill([secret, missing, there], never) == {missing.sha256}
        assert near.cache.has_object(DIGEST)
    assert "input gone is not brought to this node" in caplog.text
    assert [seen.target for seen in origin.seen()] == [f"/v1/objects/{'0' * 64}", PATH], (
        "nobody asks for the secret"
    )


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_an_input_is_not_lost_because_the_server_is_not_well(
    tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    def unwell(exchange: Exchange) -> None:
        exchange.head(status, {"Content-Length": "0"})

    origin.serve(PATH, unwell)
    with near_cache(tmp_path, monkeypatch, server=origin.base, node_sources=("server",)) as near:
        assert near.fill([DispatchInput("a", DIGEST, len(DATA), "f")], never) == set()
        assert origin.seen(PATH)


def test_an_input_that_the_server_has_is_not_lost_because_its_origin_does_not_have_it_any_more(
    tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwell(exchange: Exchange) -> None:
        exchange.head(503, {"Content-Length": "0"})

    with Origin() as elsewhere:
        origin.serve(f"/v1/cache/files/{DIGEST}", _detail(f"{elsewhere.base}/gone"))
        origin.serve(PATH, unwell)
        with near_cache(
            tmp_path,
            monkeypatch,
            server=origin.base,
            node_sources=("server", "origin"),
            allowed_networks="127.0.0.0/8",
        ) as near:
            assert near.fill([DispatchInput("a", DIGEST, len(DATA), "f")], never) == set()


def test_it_is_given_up_when_the_job_is_cancelled(
    tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin.serve(PATH, silence)
    with near_cache(tmp_path, monkeypatch, server=origin.base, node_sources=("server",)) as near:
        with pytest.raises(CancelledError):
            near.bring(DIGEST, len(DATA), lambda: bool(origin.seen(PATH)))
        near.fill([DispatchInput("a", DIGEST, len(DATA), "f")], lambda: True)


def test_the_longest_unused_goes_when_there_is_too_much(
    tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = [random.Random(number).randbytes(100_000) for number in range(4)]
    names = [sha256(body).hexdigest() for body in bodies]
    for name, body in zip(names, bodies, strict=True):
        origin.serve(f"/v1/objects/{name}", content(body))
    with near_cache(
        tmp_path, monkeypatch, server=origin.base, node_sources=("server",), node_cache_bytes=250_000
    ) as near:
        for name in names[:2]:
            near.bring(name, 100_000, never)
        near.tidy()
        assert [near.cache.has_object(name) for name in names[:2]] == [True, True]
        near._site.catalogue.accessed({file.digest: 1.0 for file in near._site.catalogue.of_object(names[1])})
        near.bring(names[2], 100_000, never)
        near.tidy()
        assert sum(near.cache.has_object(name) for name in names) == 2
        assert near.bring(names[3], 100_000, never).read_bytes() == bodies[3]


@pytest.mark.parametrize(
    "given", [{"node_sources": ("server",)}, {"node_sources": ("origin",), "server": ""}]
)
def test_a_source_that_lacks_its_server_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]
) -> None:
    with pytest.raises(SettingsError, match="set server"), near_cache(tmp_path, monkeypatch, **given):
        pass


def test_a_server_that_does_not_have_it_is_an_error(
    tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        near_cache(tmp_path, monkeypatch, server=origin.base, node_sources=("server",)) as near,
        pytest.raises(FetchError),
    ):
        near.bring(DIGEST, len(DATA), never)


def test_a_real_server_fills_a_node(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        FileCache(tmp_path / "cache").put("https://h.test/run 7", DATA)
        token = (tmp_path / "state" / "token").read_text().strip()
        variables = os.environ | {
            "STAGER_STATE_DIR": str(tmp_path / "node-state"),
            "STAGER_CACHE_DIR": str(tmp_path / "nowhere"),
            "STAGER_NODE_CACHE_DIR": str(tmp_path / "near"),
            "STAGER_NODE_SOURCES": "server",
            "STAGER_SERVER": server.url,
            "STAGER_TOKEN": token,
        }
        done = subprocess.run(
            command("node", "get", "https://h.test/run 7"),
            env=variables,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    assert Path(done.stdout.strip()).read_bytes() == DATA
    assert not (tmp_path / "nowhere").exists(), "without a share"
