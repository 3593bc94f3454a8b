"""A real server as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from stager.client import Client
from tests.support.commandline import command

PATIENCE = 60.0
"""Seconds in which a server is ready, or at its end."""


def environment(root: Path) -> dict[str, str]:
    """What makes a server and its clients keep everything below `root`."""
    return {
        "STAGER_STATE_DIR": str(root / "state"),
        "STAGER_CACHE_DIR": str(root / "cache"),
        "STAGER_JOB_GRACE_SECONDS": "1",
        "STAGER_RETRY_FIRST_SECONDS": "0.01",
        "STAGER_ALLOWED_NETWORKS": "127.0.0.0/8",
    }


class ServerProcess:
    """``stager serve`` on a free port; on the same root a second one is a restart.

    Args:
        root: where everything is kept.
        killed_at: a step at which it is killed, as by kill -9.
        variables: more environment.
    """

    def __init__(self, root: Path, *arguments: str, killed_at: str = "", **variables: str) -> None:
        self.root = root
        start = (
            command() if not killed_at else [sys.executable, "-m", "tests.support.crashing_cli", killed_at]
        )
        self.process = subprocess.Popen(
            [*start, "serve", "--port", "0", *arguments],
            env=os.environ | environment(root) | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._watchdog = threading.Timer(PATIENCE, self.process.kill)
        self._watchdog.start()
        assert self.process.stderr is not None
        self.said: list[str] = []
        self.url = ""
        for line in self.process.stderr:
            self.said.append(line.rstrip("\n"))
            if line.startswith("stager: ready at "):
                self.url = line.split()[-1]
                break
        self._watchdog.cancel()
        if not self.url:
            self.process.communicate()
            raise AssertionError(f"the server did not start: {self.said}")
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.rstrip("\n"))

    @property
    def pid(self) -> int:
        return self.process.pid

    def client(self) -> Client:
        return Client(self.url, (self.root / "state" / "token").read_text().strip())

    def kill(self) -> None:
        """As by kill -9."""
        self.end(signal.SIGKILL)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end: the exit status (negative: the signal that ended it)."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(PATIENCE)
        self._reader.join()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.kill()
        elif not self.process.stderr.closed:  # type: ignore[union-attr]  # it is a pipe
            self.end()
