"""Servers that share a PostgreSQL, a Redis and a cache: one leads, one waits."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from stager.client import Client
from tests.support.commandline import command
from tests.support.farm import WorkerProcess, until
from tests.support.postgres import cluster
from tests.support.processes import environment
from tests.support.valkey import Valkey

TOKEN = "t" * 43


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return str(free.getsockname()[1])


class Standby:
    """``stager serve --standby``, with a state directory of its own.

    Args:
        site: what it shares with others.
        name: of its directory and its log.
        port: where it listens once it leads.
    """

    def __init__(self, site: Site, name: str, port: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = site.root / f"{name}.log"
        state = {"STAGER_STATE_DIR": str(site.root / name)}
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                command("serve", "--standby", "--port", port),
                env=os.environ | site.settings | state,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    @property
    def leads(self) -> bool:
        return "stager: ready at" in self.said()

    @property
    def waits(self) -> bool:
        return '"action": "server.standby"' in self.said()

    def said(self) -> str:
        return self.log.read_text()

    def until_it(self, state: str, seconds: float = 60.0) -> Self:
        """Wait until it ``leads`` or ``waits``."""
        until(
            lambda: getattr(self, state) or self.process.poll() is not None,
            f"it {state}: {self.said()}",
            seconds,
        )
        assert self.process.poll() is None, self.said()
        return self

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, number: int = signal.SIGKILL) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.send_signal(signal.SIGCONT)
        return self.process.wait(60)


class Site:
    """What they share, below `root`; all is ended with it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._made = ExitStack()
        self.database = self._made.enter_context(cluster())
        self.redis = self._made.enter_context(Valkey(root / "redis"))
        (root / "token").write_text(TOKEN + "\n")
        (root / "token").chmod(0o600)
        self.settings = environment(root) | {
            "STAGER_TOKEN_FILE": str(root / "token"),
            "STAGER_DATABASE_URL": self.database,
            "STAGER_FARM": "celery",
            "STAGER_DISPATCH": "celery",
            "STAGER_LEASE_SECONDS": "2",
            "STAGER_LOG_FORMAT": "json",
            "STAGER_STATE_DIR": str(root / "workers"),
            **self.redis.environment(),
        }
        self._workers: list[WorkerProcess] = []
        self._servers: list[Standby] = []

    def server(self, name: str, port: str) -> Standby:
        self._servers.append(Standby(self, name, port))
        return self._servers[-1]

    def workers(self) -> None:
        for queue in ("fetch", "work"):
            self._workers.append(
                WorkerProcess(self.settings, self.root / "workers.log", queue=queue, name=queue)
            )

    def client(self, url: str) -> Client:
        return Client(url, TOKEN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.end()
        for worker in self._workers:
            worker.end()
        self._made.close()
