"""Keeping a number of processes running: one that ends is started again, and all end together."""

from __future__ import annotations

import ctypes
import logging
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from types import FrameType

from stager.model.backoff import outage_wait

log = logging.getLogger(__name__)

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 30.0
"""Before a process that ended is started again; doubled each time, unless it had run for `STEADY_SECONDS`."""
STEADY_SECONDS = 60.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class _Child:
    """One of the processes, and when it is to be started (again)."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = command
        self.process: subprocess.Popen[bytes] | None = None
        self.pidfd = -1
        self.started_at = 0.0
        self.start_at: float | None = 0.0
        self.failures = 0


class Supervisor:
    """Runs commands until it is told to end.

    The first SIGTERM or SIGINT lets every process end in its own time; the second ends them at once. A
    process of a supervisor that was killed gets SIGTERM from the kernel.

    Args:
        commands: one per process.
    """

    def __init__(self, commands: Sequence[Sequence[str]]) -> None:
        self._children = [_Child(command) for command in commands]
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._words = 0
        self._passed_on = 0

    def run(self) -> int:
        """Run to the end; the status: 0, or 1 if a process had to be killed."""
        before = {n: signal.signal(n, self._told) for n in (signal.SIGTERM, signal.SIGINT)}
        fd_before = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        try:
            return self._loop()
        finally:
            signal.set_wakeup_fd(fd_before)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            os.close(self._wake_read)
            os.close(self._wake_write)

    def _told(self, _number: int, _frame: FrameType | None) -> None:
        self._words += 1  # the loop, which the signal wakes, does what it says

    def _pass_on(self) -> None:
        """Tell every process what we were told since we told them last."""
        words, self._passed_on = self._words, self._words
        for child in self._children:
            child.start_at = None
            if child.process is not None:
                child.process.send_signal(signal.SIGTERM if words == 1 else signal.SIGKILL)

    def _loop(self) -> int:
        while True:
            now = time.monotonic()
            if self._passed_on < self._words:
                self._pass_on()
            for child in self._children:
                if child.start_at is not None and child.start_at <= now:
                    self._start(child, now)
            alive = [child for child in self._children if child.process is not None]
            if self._passed_on and not alive:
                return 0 if self._passed_on == 1 else 1
            due = [child.start_at for child in self._children if child.start_at is not None]
            for key, _ in self._selector.select(max(0.0, min(due) - now) if due else None):
                if key.fd == self._wake_read:
                    os.read(self._wake_read, 64)
                else:
                    self._ended(key.data)

    def _start(self, child: _Child, now: float) -> None:
        parent = os.getpid()

        def die_with_parent() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

        child.process = subprocess.Popen(  # noqa: S603 - our own command
            list(child.command),
            preexec_fn=die_with_parent,  # noqa: PLW1509 - this process has one thread
            start_new_session=True,  # Ctrl-C is for the supervisor, which passes it on once
        )
        child.started_at, child.start_at = now, None
        child.pidfd = os.pidfd_open(child.process.pid)
        self._selector.register(child.pidfd, selectors.EVENT_READ, child)

    def _ended(self, child: _Child) -> None:
        assert child.process is not None
        self._selector.unregister(child.pidfd)
        os.close(child.pidfd)
        status = child.process.wait()
        child.process = None
        if self._passed_on:
            return
        now = time.monotonic()
        child.failures = 0 if now - child.started_at > STEADY_SECONDS else child.failures + 1
        wait = outage_wait(child.failures, FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS)
        child.start_at = now + wait
        log.warning("a worker process ended with status %d; another one starts in %.0f s", status, wait)
