"""The command line, in this process or as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from stager.cli import main

PATIENCE = 60.0
"""Seconds after which a command that does not end is a failure."""


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def error(self) -> str:
        """The one line on stderr."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


class Here:
    """Runs commands in this process, where a fault shows its traceback to the debugger."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Ended:
        self._capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Ended(code, *self._capsys.readouterr())


def command(*arguments: object) -> list[str]:
    """The command as a process is started with it."""
    return [sys.executable, "-W", "error", "-m", "stager", *map(str, arguments)]


def run(*arguments: object) -> Ended:
    """Run a command as a process."""
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=PATIENCE, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


@contextmanager
def running(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A command as a process (and a process group) that is gone afterwards."""
    process = subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def end(process: subprocess.Popen[str], number: int | None = None, *, group: bool = False) -> Ended:
    """Send a signal, if one is given, and wait for the end."""
    if number is not None:
        (os.killpg if group else os.kill)(process.pid, number)
    out, err = process.communicate(timeout=PATIENCE)
    return Ended(process.returncode, out, err)


def on_terminal(*arguments: object, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a command on a terminal of 100 columns: exit code, and everything that was drawn."""
    import fcntl
    import struct
    import termios

    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    variables = os.environ | {"TERM": "xterm-256color"} | (environment or {})
    with subprocess.Popen(
        command(*arguments), stdin=theirs, stdout=theirs, stderr=theirs, env=variables
    ) as process:
        os.close(theirs)
        drawn = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # Linux's way to say that the other side is closed
                break
            if not data:
                break
            drawn += data
        os.close(ours)
        code = process.wait(PATIENCE)
    return code, drawn.decode()
