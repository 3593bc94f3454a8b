"""`stager worker`: processes of a farm that are started again when they end, and that all end together."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.commandline import Here, command
from tests.support.farm import until
from tests.support.ports import free_port
from tests.support.valkey import Valkey

PATIENCE = 60.0


class Supervised:
    """``stager worker`` with two processes, and what it says."""

    def __init__(self, root: Path, environment: dict[str, str], *arguments: str) -> None:
        settings = {
            "STAGER_CACHE_DIR": str(root / "cache"),
            "STAGER_STATE_DIR": str(root / "state"),
            "STAGER_LOG_FORMAT": "text",
        }
        self.process = subprocess.Popen(
            command("worker", "--processes", "2", "--threads", "1", *arguments),
            env=os.environ | settings | environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)

    def ready(self) -> int:
        return sum("ready." in line for line in self.said)

    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(PATIENCE)
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()
        return status


@contextmanager
def supervised(root: Path, environment: dict[str, str], *arguments: str) -> Iterator[Supervised]:
    running = Supervised(root, environment, *arguments)
    try:
        yield running
    finally:
        running.end()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Valkey]:
    with Valkey(tmp_path / "redis") as running:
        yield running


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_process_that_is_killed_is_started_again_and_all_end_together(
    tmp_path: Path, redis: Valkey
) -> None:
    with supervised(tmp_path, redis.environment()) as workers:
        until(lambda: workers.ready() == 2, "both are up")
        first, second = workers.children()
        os.kill(first, signal.SIGKILL)
        until(lambda: workers.ready() == 3, "another one came")
        assert second in workers.children()
        assert any("ended with status -9; another one starts in 1 s" in line for line in workers.said)
        pids = workers.children()
        assert workers.end() == 0
        assert all(is_gone(pid) for pid in pids)


def test_what_follows_the_dashes_is_celerys(tmp_path: Path, redis: Valkey) -> None:
    with supervised(tmp_path, redis.environment(), "--", "--hostname", "mine@here") as workers:
        until(lambda: any("mine@here ready" in line for line in workers.said), "it has that name")


def test_workers_of_a_supervisor_that_is_killed_end_too(tmp_path: Path, redis: Valkey) -> None:
    with supervised(tmp_path, redis.environment()) as workers:
        until(lambda: workers.ready() == 2, "both are up")
        pids = workers.children()
        workers.end(signal.SIGKILL)
        until(lambda: all(is_gone(pid) for pid in pids), "they are gone")


def test_without_redis_workers_wait_for_it_and_say_so_without_a_traceback(tmp_path: Path) -> None:
    address = {"STAGER_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    with supervised(tmp_path, address) as workers:
        until(lambda: any("Cannot connect to redis" in line for line in workers.said), "it says so")
        assert workers.end() == 0
    assert not [line for line in workers.said if "Traceback" in line]


def test_a_setting_that_makes_no_sense_is_one_line_and_nothing_starts(tmp_path: Path) -> None:
    with supervised(tmp_path, {"STAGER_REDIS_URL": "http://redis"}) as workers:
        assert workers.process.wait(PATIENCE) == 2
    assert len(workers.said) == 1
    assert "redis_url has the scheme 'http'" in workers.said[0]


def test_the_processes_are_told_where_fetches_may_reach(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    class Told:
        def __init__(self, _commands: object) -> None:
            told.append(os.environ["STAGER_ALLOWED_NETWORKS"])

        def run(self) -> int:
            return 0

    monkeypatch.setattr("stager.cli.supervise.Supervisor", Told)
    stager = Here(capsys)
    assert stager("worker", "--allowed-networks", "10.20.0.0/16").code == 0
    assert told == ["10.20.0.0/16"]
    monkeypatch.setenv("STAGER_ALLOWED_PORTS", "http")
    refused = stager("worker")
    assert (refused.code, "allowed_ports" in refused.error) == (2, True)
    assert len(told) == 1
