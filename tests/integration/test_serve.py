"""The server as a process: killed, stopped, started again, found."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stager.errors import ServerUnreachableError
from stager.model.jobs import JobInput, JobSpec, JobState
from stager.server.whereabouts import announced, announced_url
from tests.support import commandline
from tests.support.origin import Origin, content
from tests.support.ports import free_port
from tests.support.processes import PATIENCE, ServerProcess, environment
from tests.support.until import until


def shell(script: str, **more: object) -> JobSpec:
    return JobSpec(("/bin/sh", "-c", script), **more)  # type: ignore[arg-type]


def begun(fifo: Path) -> None:
    """Block until a job opens the fifo for writing."""
    with fifo.open("rb") as pipe:
        assert pipe.read() == b"begun\n"


def test_jobs_run_exactly_once_though_the_server_is_killed_twice(tmp_path: Path) -> None:
    """One runs when the server is killed, one waits, one is met by the server after it."""
    started, release, ran = tmp_path / "started", tmp_path / "release", tmp_path / "ran"
    os.mkfifo(started)
    os.mkfifo(release)
    with Origin() as origin:
        url = origin.serve("/run.dat", content(b"data"))
        long_job = shell(f"echo long >> {ran}; echo begun > {started}; cat {release} > results/end")
        fetching = shell(f"cat inputs/run.dat >> {ran}", inputs=(JobInput(url),), after=("go",))
        with ServerProcess(tmp_path) as server, server.client() as client:
            long, waiting = client.jobs.submit([long_job, fetching])
            begun(started)
            until(lambda: client.jobs.show(waiting).waits_for == ["go"], "its input is there")
            server.kill()
        with ServerProcess(tmp_path) as server, server.client() as client:
            assert client.jobs.show(long).state is JobState.RUNNING
            assert client.jobs.show(waiting).waits_for[-1] == "go"
            client.preconditions.meet("go")
            assert client.jobs.wait(waiting, PATIENCE).state is JobState.DONE
            server.kill()
        with release.open("w") as pipe:  # the job ends while no server is there
            pipe.write("the end")
        with ServerProcess(tmp_path) as server, server.client() as client:
            assert client.jobs.wait(long, PATIENCE).state is JobState.DONE
            assert client.jobs.show(waiting).state is JobState.DONE
            with closing(client.results.read(long, "end")) as blocks:
                assert b"".join(blocks) == b"the end"
            server.end()
        assert ran.read_text() == "long\ndata"
        assert len(origin.seen("/run.dat")) == 1


def test_one_who_waits_does_not_notice_that_the_server_was_killed_and_started_again(tmp_path: Path) -> None:
    port = str(free_port())
    states: list[JobState] = []
    with ServerProcess(tmp_path, "--port", port) as server, server.client() as client:
        (job,) = client.jobs.submit([shell("true", after=("go",))])
        asked = threading.Event()

        def wait() -> None:
            with server.client() as mine:
                request = mine._session.request

                def noted(*args: Any, **more: Any) -> Any:
                    asked.set()
                    return request(*args, **more)

                mine._session.request = noted  # type: ignore[method-assign]
                states.append(mine.jobs.wait(job, PATIENCE).state)

        thread = threading.Thread(target=wait)
        thread.start()
        assert asked.wait(PATIENCE)
        server.kill()
    with ServerProcess(tmp_path, "--port", port) as server, server.client() as client:
        client.preconditions.meet("go")
        thread.join(PATIENCE)
        server.end()
    assert states == [JobState.DONE]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_asked_to_stop_does_so_at_once_with_status_0_though_somebody_waits(
    tmp_path: Path, number: int
) -> None:
    answers: list[JobState] = []
    with ServerProcess(tmp_path) as server, server.client() as client:
        (job,) = client.jobs.submit([shell("true", after=("never",))])
        answered = threading.Event()

        def poll() -> None:
            with server.client() as mine:
                mine.jobs.show(job)
                answered.set()
                try:
                    answers.append(mine.jobs.show(job, wait=50).state)
                except ServerUnreachableError:  # the signal came before the question
                    answers.append(JobState.WAITING)

        thread = threading.Thread(target=poll)
        thread.start()
        assert answered.wait(PATIENCE)
        before = time.monotonic()
        assert server.end(number) == 0
        took = time.monotonic() - before
        thread.join(PATIENCE)
    assert answers == [JobState.WAITING]
    assert took < 40  # generous on a busy machine, and far from the 50 seconds of the poll
    assert not (tmp_path / "state" / "server.json").exists()


def test_a_second_signal_ends_the_server_at_once() -> None:
    from stager.cli.serve import _stopping

    before = signal.getsignal(signal.SIGTERM)
    asked: list[bool] = []
    with _stopping(lambda: asked.append(True)):
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked == [True]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # a second one is not ours to handle
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is before


def test_clients_find_a_server_on_any_port_and_only_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    stager = commandline.Here(capsys)
    with ServerProcess(tmp_path, "--json") as server:
        assert server.process.stdout is not None
        assert json.loads(server.process.stdout.readline()) == {"url": server.url, "pid": server.pid}
        assert stager("jobs").code == 0
        server.kill()
    assert (tmp_path / "state" / "server.json").exists()
    assert "start it with" in stager("jobs").error
    with ServerProcess(tmp_path) as server:
        assert stager("jobs").code == 0
        server.end()


def test_what_a_killed_server_announced_is_not_believed(tmp_path: Path) -> None:
    with announced(tmp_path, "http://127.0.0.1:1"):
        assert announced_url(tmp_path) == "http://127.0.0.1:1"
        assert (tmp_path / "server.json").stat().st_mode & 0o777 == 0o600
    assert announced_url(tmp_path) is None
    with commandline.running("--version") as process:
        process.wait(PATIENCE)
    for content_ in (
        json.dumps({"url": "http://127.0.0.1:1", "pid": process.pid}),
        "",
        "[]",
        "{}",
        '{"pid": "x"}',
    ):
        (tmp_path / "server.json").write_text(content_)
        assert announced_url(tmp_path) is None


def test_supervisor_and_log_are_told_what_they_need_and_no_token(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(path))
        channel.settimeout(PATIENCE)
        with ServerProcess(tmp_path, NOTIFY_SOCKET=str(path), STAGER_LOG_LEVEL="debug") as server:
            assert channel.recv(100) == b"READY=1"
            with server.client() as client:
                client.site.status()
            server.end()
        assert channel.recv(100) == b"STOPPING=1"
    logged = [json.loads(line) for line in server.said if not line.startswith("stager: ")]
    assert any(one["event"].startswith("GET /v1/status 200") for one in logged)
    token = (tmp_path / "state" / "token").read_text().strip()
    assert token not in "\n".join(server.said)
