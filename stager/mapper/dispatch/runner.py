"""Runs one job's command and records how it ended, whatever becomes of the server meanwhile.

A small program of its own (standard library only, Python 3.9 or newer), started as
``python -I -S runner.py BASE GRACE -- COMMAND...``; without a command it takes what to run, where and with
which variables from ``BASE.order``, and nothing of that from whoever started it:

1. It claims the run: a locked file becomes ``BASE.claim`` by link(), which one process alone can win.
   Whoever loses leaves at once: a job handed over twice is started once.
2. It starts the command in a process group of its own, with the files it inherited as output.
3. It waits, passes SIGTERM on (and SIGKILL after GRACE seconds), and ends what the command left behind.
4. It writes ``BASE.exit`` by rename: JSON with ``exit_code`` (128 + n for signal n; null if the command
   could not be started), ``error``, ``seconds``, ``max_rss_bytes``, ``cpu_seconds``.

The lock on the claim is held as long as this program lives: a claim that is free, without an exit
file, means that the run was cut short. Between hosts, where locks prove nothing, the link alone
decides; there the claim says who has it: process, host, and number in the batch system.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import sys
import time

LOST_CLAIM = 75
"""Exit status of a runner that found the run claimed by another."""


BATCH_IDS = ("STAGER_BATCH_ID", "SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
"""Variables in which batch systems tell a job its number; the first is for those that have none."""


def claim(base: str, *, shared: bool) -> bool:
    """Take the run; False when another has it. The lock lives until this process ends."""
    host = os.uname().nodename
    mine = f"{base}.claim.{host}.{os.getpid()}.{os.urandom(4).hex()}"
    fd = os.open(mine, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in {errno.ENOLCK, errno.EOPNOTSUPP}:  # a share without locks
            raise
    number = next((os.environ[name] for name in BATCH_IDS if os.environ.get(name)), "")
    os.write(fd, f"{os.getpid()} {host} {number}".encode())
    if shared:
        os.fsync(fd)  # other hosts see what is written back only
    try:
        os.link(mine, f"{base}.claim")
    except FileExistsError:
        return os.stat(mine).st_nlink == 2  # noqa: PTH116, PLR2004 - ours, and the answer was lost on the way
    finally:
        os.unlink(mine)  # noqa: PTH108 - pathlib would double the start-up time
    return True


def take_order(base: str) -> list[str]:
    """Become what ``BASE.order`` says: its variables, directory and output; the command."""
    with open(f"{base}.order", encoding="utf-8") as file:  # noqa: PTH123
        order = json.load(file)
    kept = {name: value for name, value in os.environ.items() if name.startswith(tuple(order["keep"]))}
    os.environ.clear()
    os.environ.update(kept)
    os.environ.update(order["environment"])
    os.chdir(order["directory"])
    for fd, name, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, "stdout", os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        (2, "stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND),
    ):
        opened = os.open(name, flags, 0o644)
        os.dup2(opened, fd)
        os.close(opened)
    command: list[str] = order["command"]
    return command


def record(base: str, outcome: dict[str, object]) -> None:
    """Write the exit file: whole or not at all."""
    draft = f"{base}.exit.{os.getpid()}"
    fd = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    os.write(fd, json.dumps(outcome).encode())
    os.fsync(fd)
    os.close(fd)
    os.rename(draft, f"{base}.exit")  # noqa: PTH104


def run(base: str, grace: float, command: list[str]) -> None:
    """Run the command to its end."""
    child = 0

    def end(signum: int, _: object) -> None:
        hard = signum == signal.SIGALRM
        if child:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL if hard else signal.SIGTERM)
        if not hard:
            signal.setitimer(signal.ITIMER_REAL, grace)

    masked = signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGTERM}
    )  # not between start and knowing the child
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGALRM, end)
    started = time.monotonic()
    try:
        child = os.posix_spawnp(
            command[0],
            command,
            os.environ,
            setpgroup=0,
            setsigmask=masked,
            setsigdef=[signal.SIGTERM, signal.SIGPIPE],
        )
    except OSError as error:
        record(base, {"exit_code": None, "error": f"{command[0]!r} can't be started: {error.strerror}"})
        return
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    _, status, usage = os.wait4(child, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    seconds = time.monotonic() - started
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)  # nothing may write to the results any more
    code = os.waitstatus_to_exitcode(status)
    record(
        base,
        {
            "exit_code": code if code >= 0 else 128 - code,
            "error": None,
            "seconds": seconds,
            "max_rss_bytes": usage.ru_maxrss * 1024,
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
        },
    )


def main() -> int:
    """See the module."""
    base, grace, *rest = sys.argv[1:]
    assert rest[:1] in ([], ["--"])
    if not claim(base, shared=not rest):
        return LOST_CLAIM
    try:
        command = rest[1:] or take_order(base)
    except (OSError, ValueError) as error:
        record(base, {"exit_code": None, "error": f"on {os.uname().nodename}: {error}"})
        return 0
    run(base, float(grace), command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
