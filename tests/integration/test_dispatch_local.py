"""Jobs as processes: claimed once, found again, ended on request, and never lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from stager.cache.store import FileCache
from stager.errors import CacheFullError, CommandFailedError, RunnerLostError
from stager.mapper.dispatch import local, runner
from stager.mapper.dispatch.local import LocalDispatcher
from stager.mapper.dispatch.results import result_key
from stager.mapper.dispatch.runs import RunsDirectory
from stager.model.events import DispatchInput, DispatchOrder, JobEnded, JobRefused, JobSignal, JobStarted

PATIENCE = 60.0


class Heard:
    """What the dispatcher told."""

    def __init__(self) -> None:
        self.signals: list[JobSignal] = []
        self._changed = threading.Condition()

    def __call__(self, signal_: JobSignal) -> None:
        with self._changed:
            self.signals.append(signal_)
            self._changed.notify_all()

    def wait_for(self, kind: type, count: int = 1) -> JobSignal:
        def found() -> list[JobSignal]:
            return [s for s in self.signals if isinstance(s, kind)]

        with self._changed:
            assert self._changed.wait_for(lambda: len(found()) >= count, PATIENCE), (
                f"heard only {self.signals}"
            )
            return found()[count - 1]

    def ended(self) -> JobEnded:
        signal_ = self.wait_for(JobEnded)
        assert isinstance(signal_, JobEnded)
        return signal_


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "cache")


Make = Callable[[], LocalDispatcher]


@pytest.fixture
def make(tmp_path: Path, cache: FileCache, heard: Heard) -> Iterator[Make]:
    made: list[LocalDispatcher] = []

    def new() -> LocalDispatcher:
        made.append(LocalDispatcher(cache, tmp_path / "runs", heard, grace_seconds=0.3))
        return made[-1]

    yield new
    for dispatcher in made:
        dispatcher.close()


def order(
    script: str, *inputs: DispatchInput, epoch: int = 1, results: tuple[str, ...] = ()
) -> DispatchOrder:
    return DispatchOrder("job1", epoch, "", ("/bin/sh", "-c", script), (("MODE", "fast"),), inputs, results)


def start_fifo(tmp_path: Path) -> Path:
    """A pipe that a job opens when it runs: opening it for reading waits for that."""
    path = tmp_path / "started"
    os.mkfifo(path)
    return path


def test_a_job_gets_its_own_environment_and_not_the_servers(
    make: Make, heard: Heard, cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    make().hand_over(order("env > results/env; pwd > results/where"))
    assert heard.ended().error is None
    lines = cache.path("result:job1/env").read_text().splitlines()
    environment = dict(line.split("=", 1) for line in lines)
    directory = str(cache.root / "jobs" / "job1")
    assert environment["MODE"] == "fast"
    assert environment["STAGER_JOB_ID"] == "job1"
    assert environment["STAGER_INPUTS"] == f"{directory}/inputs"
    assert "canary" not in environment.values()
    assert cache.path("result:job1/where").read_text().strip() == directory


def test_a_second_hand_over_of_the_same_id_starts_nothing(make: Make, heard: Heard, tmp_path: Path) -> None:
    dispatcher = make()
    again = order(f"echo ran >> {tmp_path}/ran")
    dispatcher.hand_over(again)
    dispatcher.hand_over(again)
    heard.ended()
    dispatcher.hand_over(again)  # it tells again what became of it
    heard.wait_for(JobEnded, 2)
    assert (tmp_path / "ran").read_text() == "ran\n"


def test_of_two_runners_of_one_run_only_one_starts_the_command(tmp_path: Path) -> None:
    base = tmp_path / "job1.1"
    command = [sys.executable, "-I", "-S", runner.__file__, str(base), "1", "--", "/bin/sh", "-c"]
    runners = [subprocess.Popen([*command, f"echo ran >> {tmp_path}/ran"]) for _ in range(6)]
    statuses = sorted(r.wait(PATIENCE) for r in runners)
    assert statuses == [0, *[runner.LOST_CLAIM] * 5]
    assert (tmp_path / "ran").read_text() == "ran\n"


def test_a_runner_that_comes_late_does_not_start_the_job_again(
    make: Make, heard: Heard, tmp_path: Path
) -> None:
    dispatcher = make()
    dispatcher.hand_over(order(f"echo ran >> {tmp_path}/ran"))
    heard.ended()
    dispatcher.clean_up("job1", 1)
    dispatcher.close()
    command = [
        sys.executable,
        "-I",
        "-S",
        runner.__file__,
        str(tmp_path / "runs" / "job1.1"),
        "1",
        "--",
        "/bin/sh",
        "-c",
    ]
    late = subprocess.run([*command, f"echo ran >> {tmp_path}/ran"], check=False, timeout=PATIENCE)
    assert late.returncode == runner.LOST_CLAIM
    assert (tmp_path / "ran").read_text() == "ran\n"


def test_a_job_lost_to_another_runner_is_watched_to_its_end(make: Make, heard: Heard, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    started, go = start_fifo(tmp_path), tmp_path / "go"
    os.mkfifo(go)
    script = f"echo > {started}; cat {go}; exit 7"
    base = str(tmp_path / "runs" / "job1.1")
    command = [sys.executable, "-I", "-S", runner.__file__, base, "1", "--", "/bin/sh", "-c", script]
    other = subprocess.Popen(command, start_new_session=True)
    started.read_text()
    make().hand_over(order("echo never"))
    heard.wait_for(JobStarted)
    go.write_text("go")
    assert heard.ended().exit_code == 7
    other.wait(PATIENCE)


def test_a_command_that_ignores_the_request_to_end_is_killed_after_the_grace(
    make: Make, heard: Heard, tmp_path: Path
) -> None:
    dispatcher, started = make(), start_fifo(tmp_path)
    dispatcher.hand_over(order(f"trap '' TERM; echo > {started}; while :; do sleep 1; done"))
    started.read_text()
    dispatcher.stop("job1", 1)
    assert heard.ended().exit_code == 128 + signal.SIGKILL


def test_a_command_may_end_in_its_own_way_when_asked(make: Make, heard: Heard, tmp_path: Path) -> None:
    dispatcher, started = make(), start_fifo(tmp_path)
    dispatcher.hand_over(
        order(f"trap 'echo bye > results/bye; exit 5' TERM; echo > {started}; while :; do sleep 0.05; done")
    )
    started.read_text()
    dispatcher.stop("job1", 1)
    assert heard.ended().exit_code == 5


def test_what_a_command_leaves_running_is_ended_with_it(make: Make, heard: Heard, tmp_path: Path) -> None:
    make().hand_over(order(f"sleep 1000 & echo $! > {tmp_path}/pid"))
    heard.ended()
    pid = int((tmp_path / "pid").read_text())
    try:
        state = Path(f"/proc/{pid}/stat").read_text().split()[2]
    except FileNotFoundError:
        state = "gone"
    assert state in {"gone", "Z"}


def test_a_job_whose_runner_was_killed_is_not_started_again(make: Make, heard: Heard, tmp_path: Path) -> None:
    dispatcher, started = make(), start_fifo(tmp_path)
    run = order(f"echo ran >> {tmp_path}/ran; echo > {started}; exec sleep 1000")
    dispatcher.hand_over(run)
    started.read_text()
    pid = RunsDirectory(tmp_path / "runs").files("job1", 1).living_runner()
    assert pid is not None
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(pid, signal.SIGKILL)
    assert isinstance(heard.ended().error, RunnerLostError)
    dispatcher.hand_over(run)
    heard.wait_for(JobEnded, 2)
    assert (tmp_path / "ran").read_text() == "ran\n"
    for child in children:
        os.kill(int(child), signal.SIGKILL)


def test_a_job_cancelled_before_it_was_started_never_starts(make: Make, heard: Heard, tmp_path: Path) -> None:
    dispatcher = make()
    dispatcher.stop(
        "job1", 1
    )  # as after a restart: the server before this one may or may not have started it
    heard.ended()
    late = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            runner.__file__,
            str(tmp_path / "runs" / "job1.1"),
            "1",
            "--",
            "/bin/true",
        ],
        check=False,
        timeout=PATIENCE,
    )
    assert late.returncode == runner.LOST_CLAIM


def test_a_missing_input_is_reported_with_its_fetch_and_nothing_starts(make: Make, heard: Heard) -> None:
    make().hand_over(order("echo never", DispatchInput("a.dat", "a" * 64, 3, "fetch9")))
    refused = heard.wait_for(JobRefused)
    assert refused == JobRefused("job1", 1, ("fetch9",))


def test_an_input_of_another_size_is_reported_as_lost(make: Make, heard: Heard, cache: FileCache) -> None:
    entry = cache.put("k", b"four")
    make().hand_over(order("echo never", DispatchInput("a.dat", entry.object, 5, "fetch9")))
    heard.wait_for(JobRefused)


def test_a_full_disk_at_the_hand_over_delays_the_job_and_does_not_fail_it(
    make: Make, heard: Heard, cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "AGAIN_SECONDS", 0.01)
    real, tries = cache.job_dir, 0

    def full_twice(job: str) -> Path:
        nonlocal tries
        tries += 1
        if tries <= 2:
            raise CacheFullError("no space")
        return real(job)

    monkeypatch.setattr(cache, "job_dir", full_twice)
    make().hand_over(order("true"))
    assert heard.ended().error is None
    assert tries >= 3


def test_a_full_disk_at_the_end_delays_the_results_and_loses_none(
    make: Make, heard: Heard, cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "AGAIN_SECONDS", 0.01)
    real, tries = cache.put, 0

    def full_once(key: str, source: Path, **more: Any) -> object:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise CacheFullError("no space")
        return real(key, source, **more)

    monkeypatch.setattr(cache, "put", full_once)
    make().hand_over(order("echo 1 > results/a; mkdir results/sub; echo 2 > results/sub/b"))
    ended = heard.ended()
    assert ended.error is None
    assert [r.name for r in ended.results] == ["a", "sub/b"]


def test_only_wanted_regular_files_are_kept_as_results(make: Make, heard: Heard) -> None:
    script = "echo 1 > results/a.json; echo 2 > results/b.tmp; ln -s /etc/passwd results/c.json; mkfifo results/d.json"
    make().hand_over(order(script, results=("*.json",)))
    assert [r.name for r in heard.ended().results] == ["a.json"]


def test_claims_of_jobs_that_are_over_are_kept_for_a_day(tmp_path: Path) -> None:
    runs = RunsDirectory(tmp_path / "runs")
    files = runs.files("old", 1)
    assert files.forbid()
    claim = tmp_path / "runs" / "old.1.claim"
    now = claim.stat().st_mtime
    runs.settle_all_but(set(), now=now + 3600)
    assert claim.exists()
    runs.settle_all_but({"old"}, now=now + 90_000)
    assert claim.exists()
    runs.settle_all_but(set(), now=now + 90_000)
    assert not claim.exists()


def test_the_runner_records_what_the_command_used(make: Make, heard: Heard, tmp_path: Path) -> None:
    make().hand_over(order("exit 3"))
    ended = heard.ended()
    assert isinstance(ended.error, CommandFailedError)
    usage = json.loads((tmp_path / "runs" / "job1.1.exit").read_text())
    assert usage["exit_code"] == 3
    assert usage["max_rss_bytes"] > 0


def test_a_refused_hand_over_stays_refused_though_its_input_came_back(
    make: Make, heard: Heard, cache: FileCache, tmp_path: Path
) -> None:
    dispatcher = make()
    again = order(f"echo ran >> {tmp_path}/ran", DispatchInput("a.dat", sha256(b"back").hexdigest(), 4, "f1"))
    dispatcher.hand_over(again)
    heard.wait_for(JobRefused)
    cache.put("key", b"back")
    dispatcher.hand_over(again)  # as after an outage of the database, with the refusal still on its way
    heard.wait_for(JobRefused, 2)
    dispatcher.hand_over(replace(again, epoch=2))
    heard.ended()
    assert (tmp_path / "ran").read_text() == "ran\n"


def test_a_result_is_the_owners_and_promised_to_stay(make: Make, heard: Heard, cache: FileCache) -> None:
    cache.promise_seconds = 1000.0
    make().hand_over(replace(order("echo 1 > results/a"), owner="ada"))
    (kept,) = heard.ended().results
    entry = cache.lookup(result_key(order("").job, kept.name))
    assert entry is not None
    assert entry.owner == "ada"
    assert entry.keep_until == pytest.approx(time.time() + 1000.0, abs=60)
