"""Stopping and beginning anew as regular practice: nothing is lost, nobody is refused."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Self

import pytest
import requests

from stager.cli import main
from stager.model.jobs import JobInput, JobSpec, JobState
from stager.server.supervision import OURS
from stager.state.lock import StateLock
from tests.support.commandline import command
from tests.support.farm import until
from tests.support.origin import Origin, content
from tests.support.processes import PATIENCE, ServerProcess, environment

AS_SYSTEMD = """
import os, sys
given = int(sys.argv[1])
os.set_inheritable(given, False)
os.dup2(given, 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES=os.environ.get("NAMED", ""))
os.execv(sys.argv[2], sys.argv[2:])
"""


def starts(server: ServerProcess) -> int:
    return sum("ready at" in line for line in server.said)


class Callers:
    """Connects again and again, as clients that know nothing of restarts; counts what comes of it."""

    def __init__(self, url: str) -> None:
        self.answered = 0
        self.broken = 0
        self.refused: list[str] = []
        self._url = url
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                with requests.Session() as session:
                    session.trust_env = False
                    assert session.get(self._url + "/healthz", timeout=PATIENCE).status_code == 200
                self.answered += 1
            except requests.ConnectionError as error:  # one that was open already may be closed unanswered
                if "refused" in str(error):
                    self.refused.append(str(error))
                self.broken += 1


def test_a_planned_restart_refuses_nobody_and_goes_on_with_what_there_was(tmp_path: Path) -> None:
    """The supervisor is told of it as of a reload, and its watchdog is fed."""
    with Supervisor(tmp_path / "notify") as supervisor, Origin() as origin:
        with (
            ServerProcess(tmp_path, "--restart-after", "2s", **supervisor.environment) as server,
            server.client() as client,
            Callers(server.url) as callers,
        ):
            slow = origin.serve("/slow.dat", content(b"x" * 1_000_000, etag='"1"', pause=0.2))
            (job,) = client.jobs.submit([JobSpec(("wc", "-c", "inputs/slow.dat"), (JobInput(slow),))])
            until(lambda: starts(server) >= 3, "it has begun anew twice", 2 * PATIENCE)
            assert client.jobs.wait(job, 2 * PATIENCE).state is JobState.DONE
            before = callers.answered
            until(lambda: callers.answered > before, "it answers")
            until(lambda: b"WATCHDOG=1" in supervisor.heard, "its watchdog is fed")
            assert callers.refused == []
            assert server.process.poll() is None, "it is the same process"
            ranges = [request.headers.get("range") for request in origin.seen("/slow.dat")]
            assert all(ranges[1:]), "each start went on where the one before was"
            assert server.end() in {0, -signal.SIGTERM}, (
                "it ends when it is told to, also in the middle of a start"
            )
        words = [word for word in supervisor.heard if word != b"WATCHDOG=1"]
    assert words[:5] == [b"READY=1", b"RELOADING=1", b"READY=1", b"RELOADING=1", b"READY=1"]


class Supervisor:
    """Hears what a service tells systemd: the first line of each message."""

    def __init__(self, path: Path) -> None:
        self.environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "900000"}
        self.heard: list[bytes] = []
        self._path = path
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._channel.bind(str(path))
        self._thread = threading.Thread(target=self._hear)

    def _hear(self) -> None:
        while (message := self._channel.recv(200)) != b"end":
            self.heard.append(message.partition(b"\n")[0])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(b"end", str(self._path))
        self._thread.join()
        self._channel.close()


def test_a_server_that_is_told_to_end_does_so_in_time_and_loses_nothing(tmp_path: Path) -> None:
    go = tmp_path / "go"
    data = b"y" * 3_000_000
    running = f"until [ -e {go} ]; do sleep 0.05; done; echo ran >> {tmp_path}/ran"
    with Origin() as origin:
        with ServerProcess(tmp_path) as server, server.client() as client:
            url = origin.serve("/slow.dat", content(data, etag='"1"', pause=0.2))
            fetching, handed = client.jobs.submit(
                [
                    JobSpec(("sh", "-c", f"echo ran >> {tmp_path}/ran"), (JobInput(url),)),
                    JobSpec(("sh", "-c", running)),
                ]
            )
            until(lambda: client.jobs.show(handed).state is JobState.RUNNING, "it runs")
            until(lambda: client.jobs.show(fetching).inputs[0].received > 0, "bytes come")
            assert server.end() == 0  # within 30 seconds, as docs/how-to/run-as-a-service.md says
        partial = list((tmp_path / "cache" / "partial").rglob("*.part"))
        assert partial, "what came is kept"
        go.touch()
        with ServerProcess(tmp_path) as server, server.client() as client:
            for job in (fetching, handed):
                assert client.jobs.wait(job, PATIENCE).state is JobState.DONE
        assert (tmp_path / "ran").read_text().split() == ["ran", "ran"]
        assert origin.seen("/slow.dat")[1].headers.get("range", "").startswith("bytes=")


def test_a_socket_of_the_supervisor_is_taken_over(tmp_path: Path) -> None:
    """As from a systemd socket unit: whoever connects before the server is there is answered."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        answers: list[int] = []

        def ask() -> None:
            with requests.Session() as session:
                session.trust_env = False
                answers.append(session.get(url + "/healthz", timeout=PATIENCE).status_code)

        early = threading.Thread(target=ask)
        early.start()
        server = subprocess.Popen(
            [sys.executable, "-c", AS_SYSTEMD, str(listening.fileno()), *command("serve", "--port", "0")],
            env=os.environ | environment(tmp_path),
            pass_fds=[listening.fileno()],
            stderr=subprocess.DEVNULL,
        )
        try:
            early.join(PATIENCE)
            assert answers == [200]
        finally:
            server.terminate()
            assert server.wait(PATIENCE) == 0


def test_who_waits_for_another_server_after_a_restart_lets_nobody_wait_at_its_socket(tmp_path: Path) -> None:
    given = environment(tmp_path)
    lock = StateLock(tmp_path / "state")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        words = [str(listening.fileno()), *command("serve", "--standby", "--port", "0")]
        server = subprocess.Popen(
            [sys.executable, "-c", AS_SYSTEMD, *words],
            env=os.environ | given | {"NAMED": OURS},
            pass_fds=[listening.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )

    def refused() -> bool:
        with socket.socket() as caller:
            caller.settimeout(PATIENCE)
            return caller.connect_ex(address) == errno.ECONNREFUSED

    try:
        assert not refused(), "it was handed on"
        until(refused, "the socket is closed", PATIENCE)
        lock.close()
        assert server.stderr is not None
        assert any(f"ready at http://127.0.0.1:{address[1]}" in line for line in server.stderr), "as before"
    finally:
        server.terminate()
        server.communicate(timeout=PATIENCE)


@pytest.mark.parametrize("text", ["24", "soon", "0s"])
def test_a_time_that_is_none_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--restart-after", text]) == 2
    assert text in capsys.readouterr().err
