"""Words with the supervisor, and the planned restart: stopping as regular practice of recovery.

A planned restart is a stop like any other, after which the process begins anew in its own place: the same pid, the
same command, and the same listening socket, so that whoever connects meanwhile waits instead of being refused. The
socket is handed on as systemd does it (``LISTEN_PID``, ``LISTEN_FDS``): a server started by a socket unit takes it
from there in the same way.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stager.server.whereabouts import notify

log = logging.getLogger(__name__)

FIRST_FD = 3
"""Where systemd puts the first socket."""
OURS = "stager-again"
"""How a process names the socket that it hands on to itself; systemd goes on listening to its own ones, whoever closes them."""
SPREAD = 0.1
"""A planned restart comes earlier or later by up to this share: not all servers at once, not always at the same hour."""


class Inherited:
    """The listening socket that whoever started this process has handed on, if there is one.

    Attributes:
        socket: None: there is none.
        is_ours: whether nobody else has it, or will have the one that is opened instead.
        port: of one that was given up.
    """

    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self.is_ours = True
        self.port: int | None = None
        if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS", "0") == "0":
            return
        self.is_ours = os.environ.get("LISTEN_FDNAMES") == OURS
        for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            os.environ.pop(name, None)
        os.set_inheritable(FIRST_FD, False)
        self.socket = socket.socket(fileno=FIRST_FD)
        if self.socket.family != socket.AF_UNIX:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as of `open_socket`

    def give_up(self) -> None:
        """Let nobody wait at it, as long as another server is at work; one of the supervisor's stays."""
        if self.socket is not None and self.is_ours:
            self.port = self.socket.getsockname()[1]
            self.socket.close()
            self.socket = None


class PlannedRestart:
    """Calls `stop` when it is time; `again` then begins anew.

    Args:
        seconds: from now, about; None: never.
        listening: is kept open.
        stop: ends the server as SIGTERM does.
        is_ours: see `Inherited`.
    """

    def __init__(
        self, seconds: float | None, listening: socket.socket, stop: Callable[[], None], *, is_ours: bool
    ) -> None:
        self._stop = stop
        self._is_ours = is_ours
        self.is_due = False
        self._kept: socket.socket | None = None
        self._timer: threading.Timer | None = None
        if seconds is not None:
            self._kept = listening.dup()  # who connects while nobody listens to the other one waits here
            later = seconds * random.uniform(1 - SPREAD, 1 + SPREAD)  # noqa: S311 - no secret
            self._timer = threading.Timer(later, self._due)
            self._timer.daemon = True
            self._timer.start()

    def _due(self) -> None:
        self.is_due = True
        log.info("planned restart", extra={"action": "server.restart"})
        self._stop()

    def end(self) -> None:
        """The server is to end, and there will be no restart."""
        self.is_due = False
        if self._timer is not None:
            self._timer.cancel()
        self._stop()

    def tell(self) -> None:
        """Tell the supervisor what comes now."""
        if self.is_due:
            notify(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
        else:
            notify("STOPPING=1")

    def again(self) -> None:
        """If it is due: begin anew in this process's place; does not return then."""
        if not self.is_due or self._kept is None:
            return
        if self._kept.fileno() == FIRST_FD:
            os.set_inheritable(FIRST_FD, True)
        else:
            os.dup2(self._kept.fileno(), FIRST_FD, inheritable=True)
        name = OURS if self._is_ours else "unknown"
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES=name)
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - the same command


@contextmanager
def watched(is_alive: Callable[[], bool]) -> Iterator[None]:
    """Inside, systemd's watchdog is fed as long as `is_alive` says so, if the unit has one (``WatchdogSec``)."""
    seconds = _watchdog_seconds()
    if seconds is None:
        yield
        return
    ended = threading.Event()

    def feed() -> None:
        while not ended.wait(seconds / 3):
            if is_alive():
                notify("WATCHDOG=1")
            else:
                log.error("the job mapper does not answer: the watchdog is not fed")

    thread = threading.Thread(target=feed, name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _watchdog_seconds() -> float | None:
    given = os.environ.get("WATCHDOG_USEC", "")
    ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(given) / 1e6 if ours and given.isdigit() and int(given) > 0 else None
