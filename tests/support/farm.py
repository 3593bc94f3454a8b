"""A whole farm of real processes: Redis, a server, and workers that can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from stager.signals import keys
from tests.support.processes import ServerProcess
from tests.support.valkey import Valkey

PATIENCE = 60.0


def until(true: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Wait until something is true; what it says."""
    latest = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < latest, f"it did not come to that: {what}"
        time.sleep(0.02)
    return found


class WorkerProcess:
    """One Celery worker process, as plain Celery users start it.

    Args:
        environment: its settings.
        queue: from which it takes tasks.
        name: of this one among those of its host.
        log: what it says is appended to it.
        app: the Celery app.
        before: what to put before its command, to run it elsewhere.
    """

    def __init__(
        self,
        environment: dict[str, str],
        log: Path,
        *,
        queue: str = "fetch",
        name: str = "w1",
        threads: int = 4,
        app: str = "workers",
        before: Sequence[str] = (),
    ) -> None:
        self.log = log
        command = [
            *before,
            *(sys.executable, "-m", "celery", "-A", app, "worker", "--queues", queue, "--pool", "threads"),
            *("--concurrency", str(threads), "--hostname", f"{name}@test", "--without-gossip", "--without-mingle"),
        ]  # fmt: skip
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                command, env=os.environ | environment, stdout=out, stderr=out, start_new_session=True
            )

    def kill(self) -> None:
        """As by kill -9."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end: the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)


class Farm:
    """Redis, a server with ``farm=celery`` and its workers, all below `root`.

    Args:
        root: where everything is kept.
        redis: to be used; by default one of its own.
        settings: more ``STAGER_*`` variables for all of them.
    """

    def __init__(self, root: Path, *, redis: Valkey | None = None, **settings: str) -> None:
        self.root = root
        self._made = ExitStack()
        self.redis = redis or self._made.enter_context(Valkey(root / "redis"))
        self.settings = {
            "STAGER_CACHE_DIR": str(root / "cache"),
            "STAGER_STATE_DIR": str(root / "state"),
            "STAGER_FARM": "celery",
            "STAGER_LEASE_SECONDS": "2",
            "STAGER_RETRY_FIRST_SECONDS": "0.01",
            "STAGER_LOG_FORMAT": "text",
            "PYTHONWARNINGS": "default",
            **self.redis.environment(),
            **settings,
        }
        self.workers: list[WorkerProcess] = []
        self.server = self.start_server()

    def start_server(self) -> ServerProcess:
        """Start a server; a second call is a restart."""
        self.server = ServerProcess(self.root, **self.settings)
        return self.server

    def start_worker(
        self,
        *,
        queue: str = "fetch",
        wait: bool = True,
        app: str = "workers",
        before: Sequence[str] = (),
        **settings: str,
    ) -> WorkerProcess:
        """Start a worker process, and wait until it takes tasks."""
        name = f"{queue}{len(self.workers) + 1}"
        log = self.root / "workers.log"
        worker = WorkerProcess(self.settings | settings, log, queue=queue, name=name, app=app, before=before)
        self.workers.append(worker)
        if wait:
            until(lambda: self.is_there(worker), f"worker {name}: {self.log()}")
        return worker

    def is_there(self, worker: WorkerProcess) -> bool:
        """Whether the worker has announced itself and said that it is ready."""
        assert worker.process.poll() is None, self.log()
        with self.redis.client() as client:
            cards = client.mget(client.keys(keys.WORKER + "*") or ["-"])
        pid = f'"pid": {worker.process.pid},'
        return any(card and pid in card.decode() for card in cards)

    def log(self) -> str:
        """The end of what the workers said."""
        path = self.root / "workers.log"
        return path.read_text()[-4000:] if path.exists() else ""

    def close(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.end()
        if self.server.process.poll() is None:
            self.server.end()
        self._made.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
