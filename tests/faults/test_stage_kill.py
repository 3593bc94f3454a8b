"""kill -9 at every step of a stage request: run again, every file is there and pinned once, or let go for good."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stager.cache.pin_files import PinFiles
from stager.cache.store import FileCache
from stager.cache.tree import open_tree
from stager.model.pins import Pin
from stager.wiring.server import JobServer
from tests.support import crashing
from tests.support.origin import Origin, content, status

FILES = 5
PATIENCE = 60.0

CHILD = """
import json, os, signal, sys
from pathlib import Path
from stager import steps
from stager.model.stages import StageItem
from stager.wiring.server import JobServer
from tests.support import crashing

root, urls, step, number = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3], int(sys.argv[4])
left = [number]

def observe(reached):
    if reached == step:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

steps.observe(observe)
with JobServer(crashing.settings(root)) as server:
    known = server.stages.stages()
    stage = known[0].id if known else server.stages.stage([StageItem(url) for url in urls], keep_seconds=3600.0)
    print(stage, flush=True)
    found = server.stages.wait(stage, 30.0)
    assert found.is_over, found
    server.stages.unstage(stage, urls[:2])
    server.stages.wait(stage, 30.0)
    while len(server.cache_site.pins.pins()) > 2:
        changed = __import__("threading").Event()
        changed.wait(0.01)
"""

CASES = [
    ("stage.files", 1),
    ("stage.recorded", 1),
    ("record.committed", 3),
    ("pin.linked", 2),
    ("pin.recorded", 3),
    ("stage.pinned", 4),
    ("unpin.removed", 1),
    ("unpin.aside", 2),
    ("stage.unpinned", 1),
]


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


def run(root: Path, urls: list[str], step: str = "", number: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(root), json.dumps(urls), step, str(number)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        threading.Event().wait(0.02)


@pytest.mark.parametrize(("step", "number"), CASES, ids=[f"{step}-{number}" for step, number in CASES])
def test_a_stage_request_goes_on_after_a_kill_at_any_step(
    step: str, number: int, tmp_path: Path, origin: Origin
) -> None:
    urls = [origin.serve(f"/{n}", content(b"data" * n, etag=f'"{n}"')) for n in range(1, FILES)]
    urls.append(origin.serve("/gone", status(404)))
    killed = run(tmp_path, urls, step, number)
    assert killed.returncode == -signal.SIGKILL, f"{step} was not reached {number} times: {killed.stderr}"
    again = run(tmp_path, urls)
    assert again.returncode == 0, again.stderr
    if killed.stdout:
        assert again.stdout == killed.stdout, "what was acknowledged is gone on with"

    with JobServer(crashing.settings(tmp_path)) as server:
        (stage,) = server.stages.stages()
        assert stage.states == {"ready": 2, "released": 2, "failed": 1}
        detail = server.stages.staged(stage.id)
        pins = server.cache_site.pins
        until(lambda: len(pins.pins()) == 2, "pins of released files are left")
        ready = {file.url: file.pinned_until for file in detail.all_files if file.state == "ready"}
        assert {pin.key: pin.until for pin in pins.pins()} == ready
        records = list((tmp_path / "cache" / "pins").rglob("*.json"))
        assert len([path for path in records if not path.name.startswith(".")]) == 2, "pinned exactly once"
        server.stages.delete(stage.id)
        until(lambda: not pins.pins(), "pins of a deleted request are left")
        until(lambda: not server._store.stages.files(stage.id), "rows of a deleted request are left")


def test_an_object_that_goes_before_it_is_pinned_is_fetched_again(
    tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stager.model.stages import StageItem

    url = origin.serve("/run", content(b"data", etag='"1"'))
    pin_for_good = PinFiles.pin
    evicted: list[Pin] = []

    def evict_first(self: PinFiles, pin: Pin, *, restricted: bool = False) -> None:
        if not evicted:
            evicted.append(pin)
            FileCache(tmp_path / "cache").object_path(pin.object).unlink()
        pin_for_good(self, pin, restricted=restricted)

    monkeypatch.setattr(PinFiles, "pin", evict_first)
    with JobServer(crashing.settings(tmp_path)) as server:
        stage = server.stages.stage([StageItem(url)])
        assert server.stages.wait(stage, PATIENCE).states == {"ready": 1}
        (pin,) = server.cache_site.pins.pins()
        assert server.cache.has_object(pin.object)
    assert len(origin.seen("/run")) == 2
    assert len(PinFiles(open_tree(tmp_path / "cache", "2+2")).of(pin.object)) == 1


def test_a_cache_that_refuses_for_a_while_delays_pins_and_fails_nothing(
    tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stager.errors import CacheIOError
    from stager.model.stages import StageItem
    from stager.service import stage_pins

    monkeypatch.setattr(stage_pins, "outage_wait", lambda *_: 0.01)
    pin_for_good = PinFiles.pin
    refused: list[Pin] = []

    def refuse_twice(self: PinFiles, pin: Pin, *, restricted: bool = False) -> None:
        if len(refused) < 2:
            refused.append(pin)
            raise CacheIOError("can't pin", cause="Input/output error")
        pin_for_good(self, pin, restricted=restricted)

    monkeypatch.setattr(PinFiles, "pin", refuse_twice)
    url = origin.serve("/run", content(b"data", etag='"1"'))
    with JobServer(crashing.settings(tmp_path)) as server:
        stage = server.stages.stage([StageItem(url)])
        assert server.stages.wait(stage, PATIENCE).states == {"ready": 1}
    assert len(refused) == 2


def test_a_cache_that_refuses_for_good_fails_the_file_with_the_reason(
    tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stager.errors import CachePermissionError
    from stager.model.stages import StageItem

    def refuse(*_: object, **__: object) -> None:
        raise CachePermissionError("can't pin", cause="Permission denied")

    monkeypatch.setattr(PinFiles, "pin", refuse)
    url = origin.serve("/run", content(b"data", etag='"1"'))
    with JobServer(crashing.settings(tmp_path)) as server:
        stage = server.stages.stage([StageItem(url)])
        found = server.stages.wait(stage, PATIENCE)
        assert found.states == {"failed": 1}
        error = found.all_files[0].error
        assert error is not None
        assert error["cause"] == "Permission denied"
