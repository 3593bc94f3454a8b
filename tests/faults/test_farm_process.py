"""The process that fetches is killed, does not start, does not end, or loses its server."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

import stager.farm.process as process_module
from stager.cache.store import FileCache
from stager.errors import CancelledError, WorkerLostError
from stager.farm.process import ProcessFarm
from stager.model.fetches import Started
from stager.wiring.here import process_farm
from tests.support.farms import PATIENCE, Ear, cache_of, ordered, settings_for
from tests.support.origin import OVERLAP, Origin, content, silence

LARGE = Random(22).randbytes(6_000_000)
CUT = 5_000_000
DIES = (sys.executable, "-c", "raise SystemExit(3)")
STAYS = (sys.executable, "-c", "import time; time.sleep(1000)")


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def farm(tmp_path: Path, ear: Ear) -> Iterator[ProcessFarm]:
    farm = process_farm(settings_for(tmp_path), cache_of(tmp_path), ear)
    yield farm
    farm.close()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def in_place(cache: FileCache) -> int:
    return sum(path.stat().st_size for path in (cache.root / "partial").rglob("*.part"))


def is_over(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pid_of(farm: ProcessFarm) -> int:
    until(lambda: farm.pid)
    assert farm.pid is not None
    return farm.pid


def test_a_kill_ends_every_try_as_lost_and_the_next_one_goes_on_in_a_new_process(
    farm: ProcessFarm, ear: Ear, origin: Origin, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = origin.serve(
        "/run.nxs", content(LARGE, etag='"1"', cut=CUT, end="hold"), content(LARGE, etag='"1"')
    )
    farm.start(ordered("f1", url))
    farm.start(ordered("f2", origin.serve("/2", silence)))
    farm.start(ordered("f3", origin.serve("/3", content(b"third"))))
    until(lambda: in_place(cache_of(tmp_path)))
    origin.wait_for("/2")
    first = pid_of(farm)
    with caplog.at_level(logging.ERROR):
        os.kill(first, signal.SIGKILL)
        for fetch in ("f1", "f2", "f3"):
            failed = ear.failed(fetch)
            assert type(failed.error) is WorkerLostError
            assert failed.error.transient
            assert failed.progressed
            assert "signal 9" in failed.error.cause
            assert ear.of(fetch)[0] == Started(fetch, 1)
        farm.start(ordered("f1", url, 2))
        farm.start(ordered("f3", origin.url("/3"), 2))
        result = ear.ready("f1", 2).result
    assert 0 < result.resumed_from <= CUT
    assert result.received == len(LARGE) - result.resumed_from + OVERLAP
    assert ear.ready("f3", 2).result.size == 5
    assert pid_of(farm) != first
    assert len(ear.ends("f1")) == 2
    (line,) = [record.getMessage() for record in caplog.records]
    assert "signal 9), 3 fetches are to be tried again" in line


def test_ten_kills_in_mid_transfer_cost_no_byte_that_was_in_place(
    farm: ProcessFarm, ear: Ear, origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "SETTLED_SECONDS", 0.0)

    def more(number: int) -> int:
        return (number + 1) * 500_000 - number * OVERLAP

    stall = content(LARGE, etag='"1"', cut=500_000, end="hold")
    url = origin.serve("/run.nxs", *[stall] * 10, content(LARGE, etag='"1"'))
    cache = cache_of(tmp_path)
    for number in range(10):
        farm.start(ordered("f1", url, number + 1))
        until(lambda n=number: in_place(cache) == more(n))  # type: ignore[misc]
        os.kill(pid_of(farm), signal.SIGKILL)
        assert isinstance(ear.failed("f1", number + 1).error, WorkerLostError)
    farm.start(ordered("f1", url, 11))
    result = ear.ready("f1", 11).result
    assert result.resumed_from == more(9)
    assert cache.object_path(result.sha256).read_bytes() == LARGE
    assert origin.sent() == len(LARGE) + 10 * OVERLAP


def test_one_that_dies_at_once_is_started_less_and_less_often_and_orders_wait_for_it(
    ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    def waits() -> list[str]:
        return [
            r.getMessage().rpartition("in ")[2] for r in caplog.records if r.name == "stager.farm.process"
        ]

    with caplog.at_level(logging.ERROR):
        farm = ProcessFarm(DIES, {}, ear, locate=lambda sha256, **_: Path(sha256))
        until(lambda: len(waits()) == 3)
        farm.start(ordered("f1", "http://origin.test/a"))
        farm.start(ordered("f2", "http://origin.test/b"), [ordered("f3", "http://origin.test/c")])
        farm.cancel("f2", 1)
        assert isinstance(ear.failed("f2").error, CancelledError)
        assert {end.fetch for end in ear.ends()} == {"f2"}, "the others wait"
        farm.close()
    assert waits()[:3] == ["0.25 s", "0.5 s", "1 s"]
    assert {end.fetch for end in ear.ends()} == {"f1", "f2", "f3"}
    assert "status 3" in caplog.text


def test_one_that_can_not_be_started_is_told(ear: Ear, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        farm = ProcessFarm(("/nonexistent/python",), {}, ear, locate=lambda sha256, **_: Path(sha256))
        until(lambda: caplog.records)
        farm.close()
    assert "can't be started: No such file" in caplog.text


def test_one_that_does_not_end_is_killed(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "GRACE_SECONDS", 0.3)
    farm = ProcessFarm(STAYS, {}, ear, locate=lambda sha256, **_: Path(sha256))
    pid = pid_of(farm)
    farm.start(ordered("f1", "http://origin.test/a"))
    farm.close()
    assert is_over(pid)
    assert isinstance(ear.failed("f1").error, WorkerLostError)


def test_close_ends_the_process_in_order(farm: ProcessFarm, ear: Ear, origin: Origin) -> None:
    farm.start(ordered("f1", origin.serve("/run.nxs", content(b"data"))))
    ear.ready("f1")
    process = farm._process
    assert process is not None
    farm.close()
    assert process.returncode == 0


def test_signals_for_all_processes_of_the_service_do_not_end_it(
    farm: ProcessFarm, ear: Ear, origin: Origin
) -> None:
    farm.start(ordered("f1", origin.serve("/1", content(b"data"))))
    ear.ready("f1")
    pid = pid_of(farm)
    assert os.getpgid(pid) != os.getpgid(0)  # a Ctrl-C in the terminal goes to the group
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGINT)
    farm.start(ordered("f2", origin.serve("/2", content(b"data 2"))))
    ear.ready("f2")
    assert farm.pid == pid


def test_nobody_who_lists_processes_sees_a_setting(
    farm: ProcessFarm, ear: Ear, origin: Origin, tmp_path: Path
) -> None:
    farm.start(ordered("f1", origin.serve("/1", content(b"data"))))
    ear.ready("f1")
    shown = Path(f"/proc/{pid_of(farm)}/cmdline").read_bytes()
    assert shown.split(b"\0")[1:] == [b"-m", b"stager", b"fetch-process", b""]
    assert os.fsencode(tmp_path / "cache") not in Path(f"/proc/{pid_of(farm)}/environ").read_bytes()


def test_one_that_has_nothing_to_do_uses_no_processor_time(
    farm: ProcessFarm, ear: Ear, origin: Origin
) -> None:
    farm.start(ordered("f1", origin.serve("/1", content(b"data"))))
    ear.ready("f1")

    def is_idle() -> bool:
        before = cpu_seconds(pid_of(farm))
        time.sleep(2)
        return cpu_seconds(pid_of(farm)) - before <= 0.02

    until(is_idle)  # it has put down what it did


SERVER = """
import sys
from pathlib import Path
from tests.support.farms import cache_of, ordered, settings_for
from stager.wiring.here import process_farm
root = Path(sys.argv[1])
farm = process_farm(settings_for(root), cache_of(root), print)
farm.start(ordered("f1", sys.argv[2]))
while farm.pid is None:
    pass
print(farm.pid, flush=True)
sys.stdin.read()
"""


def test_it_does_not_outlive_a_server_that_is_killed_and_keeps_what_it_brought(
    tmp_path: Path, origin: Origin, ear: Ear
) -> None:
    url = origin.serve(
        "/run.nxs", content(LARGE, etag='"1"', cut=CUT, end="hold"), content(LARGE, etag='"1"')
    )
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(tmp_path), url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        pid = int(next(line for line in server.stdout if line.strip().isdigit()))
        until(lambda: in_place(cache_of(tmp_path)))
    finally:
        server.kill()
        server.communicate()
    until(lambda: is_over(pid))
    farm = process_farm(settings_for(tmp_path), cache_of(tmp_path), ear)
    try:
        farm.start(ordered("f1", url, 2))
        result = ear.ready("f1", 2).result
    finally:
        farm.close()
    assert 0 < result.resumed_from <= CUT
    assert origin.sent() == CUT + len(LARGE) - result.resumed_from + OVERLAP
