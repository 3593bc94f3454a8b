"""The demo's processes: the origin, the server, and commands as a user types them."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from origin import Request
from stager.client import Client

END_SECONDS = 15.0
"""A process that does not end in this time after being asked to is killed."""


PR_SET_CHILD_SUBREAPER = 36
"""As in <linux/prctl.h>."""


class DemoError(Exception):
    """The demo can't go on; the text says why."""


def environment(root: Path) -> dict[str, str]:
    """That of the demo, without the user's own settings; its origin is on this machine."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("STAGER_", "FLOWER_"))}
    return kept | {"XDG_CONFIG_HOME": str(root / "config"), "STAGER_ALLOWED_NETWORKS": "127.0.0.0/8"}


class Origin:
    """The origin in a process of its own, and what it says it did."""

    def __init__(self, directory: Path, log: Path, options: Iterable[str]) -> None:
        self._log = log
        program = Path(__file__).with_name("origin.py")
        self._process = subprocess.Popen(
            [sys.executable, str(program), str(directory), "--log", str(log), *options],
            stdin=subprocess.PIPE,  # the origin ends when this is closed, by us or by our end
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,  # Ctrl-C is for the demo, which ends the others in order
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise DemoError("the origin did not start")

    def requests(self, name: str) -> list[Request]:
        """The requests for one file that are over, in order."""
        seen = (Request(**json.loads(line)) for line in self._log.read_text().splitlines())
        return [request for request in seen if request.path == f"/{name}"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end(self._process)


class Server:
    """``stager serve`` with everything below one directory, configured by its environment alone.

    Args:
        root: the directory.
        settings: more variables, for the server and the commands.
    """

    def __init__(self, root: Path, settings: Mapping[str, str] | None = None) -> None:
        self.root = root
        self.cache = root / "cache"
        self._state = root / "state"
        self.settings = {
            "STAGER_CACHE_DIR": str(self.cache),
            "STAGER_STATE_DIR": str(self._state),
            "STAGER_SEGMENTS": "1",  # what this run shows is how one connection goes on where it was
            "STAGER_PORT": "0",  # any free one; the commands find it by the state directory
            "STAGER_JOB_GRACE_SECONDS": "2",
            **(settings or {}),
        }
        self.environment = environment(root) | self.settings
        self._process: subprocess.Popen[str] | None = None
        self.client: Client

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.root / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "stager", "serve", "--json"],
                env=self.environment,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                process_group=0,
            )
        assert self._process.stdout is not None
        ready = self._process.stdout.readline()
        if not ready:
            raise DemoError(f"the server did not start:\n{self.log_tail()}")
        self.client = Client(json.loads(ready)["url"], (self._state / "token").read_text().strip())

    def kill(self) -> int:
        """End it as a power failure would; its process id."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self.client.close()
        return self._process.pid

    def log_tail(self) -> str:
        """The last lines of its log."""
        return "\n".join((self.root / "server.log").read_text().splitlines()[-5:])

    def command(self, *arguments: str, show: bool = False) -> str:
        """Run ``stager ARGUMENTS``; what it prints, unless that is to be shown to the user right away."""
        done = subprocess.run(
            [sys.executable, "-m", "stager", *arguments],
            env=self.environment,
            check=False,
            stdout=None if show else subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            raise DemoError(f"`stager {' '.join(arguments)}` ended with status {done.returncode}")
        return done.stdout or ""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            end(self._process)


@contextmanager
def orphans_ended() -> Iterator[None]:
    """At the end, end what is left of this process's descendants.

    Jobs outlive the server that started them. Inside, this process is a "subreaper" (see prctl(2)):
    processes whose parent dies become its children, so that none gets lost.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
            os.kill(int(child), signal.SIGTERM)
        with suppress(ChildProcessError):
            while True:
                os.wait()


def end(process: subprocess.Popen[str]) -> None:
    """Ask it to end, and see that it does."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
