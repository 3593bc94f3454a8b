"""Several processes try the same at once: who wins is counted, never assumed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from stager.cache.probe import contestant
from stager.cache.probe.report import Finding, Verdict

CONTESTANTS = 4
NAMES = 200
"""Names they compete for: who is ahead is slowed down by the file system, so that the others catch up."""
VERSIONS = 300
READ_SECONDS = 5
PATIENCE_SECONDS = 60.0
"""After so long a contest is broken off: the file system hangs."""

_WORDS = {"create": "exclusive create", "link": "hard link as claim", "rename": "rename as claim"}
_WHY_NOT_ONE = (
    "two processes may both believe that a file is theirs, or none; bytes of one may be taken for the other's"
)


def one_winner(work: str, action: str) -> Finding:
    """Whether exactly one of several processes wins each name by that action (create, link, rename).

    Raises:
        OSError: the file system refuses it, or hangs.
    """
    if action == "rename":
        for number in range(NAMES):
            os.close(os.open(f"{work}/r{number}", os.O_CREAT | os.O_WRONLY, 0o600))
    answers = contest(
        [{"action": action, "work": work, "me": str(n), "count": NAMES} for n in range(CONTESTANTS)]
    )
    return judged_winners(action, [answer["won"] for answer in answers], NAMES, f"{CONTESTANTS} processes")


def judged_winners(action: str, won: Sequence[Sequence[int]], names: int, who: str) -> Finding:
    """The finding on a contest in which each of `who` won those of so many names."""
    winners = Counter(number for one in won for number in one)
    wrong = sum(winners[number] != 1 for number in range(names))
    value = {"names": names, "wrong": wrong}
    if wrong:
        several = sum(winners[number] > 1 for number in range(names))
        text = f"{wrong} of {names} names had no winner or several ({several}) among {who}"
        return Finding(_WORDS[action], Verdict.UNFIT, text, _WHY_NOT_ONE, value)
    return Finding(
        _WORDS[action], Verdict.OK, f"one winner for each of {names} names among {who}", value=value
    )


def whole_on_replace(work: str) -> Finding:
    """Whether readers see whole versions only while a file is replaced by rename.

    Raises:
        OSError: the file system refuses it, or hangs.
    """
    with open(f"{work}/t", "wb") as file:
        file.write(bytes(contestant.BLOCK))
    writer = {"action": "replace", "work": work, "me": "w", "count": VERSIONS}
    readers = [
        {"action": "read", "work": work, "me": str(number), "count": READ_SECONDS}
        for number in range(CONTESTANTS - 1)
    ]
    return judged_reads(contest([writer, *readers])[1:])


def judged_reads(answers: Sequence[dict[str, int]]) -> Finding:
    """The finding on what readers met while a file was replaced."""
    name = "rename over a file"
    value = {what: sum(answer[what] for answer in answers) for what in ("reads", "torn", "missing", "stale")}
    if value["torn"] or value["missing"]:
        text = f"{value['torn']} of {value['reads']} reads were torn, {value['missing']} met no file"
        return Finding(name, Verdict.UNFIT, text, "a look-up may see half of an entry, or none", value)
    stale = f", {value['stale']} had to be repeated (ESTALE), as Stager does" if value["stale"] else ""
    return Finding(name, Verdict.OK, f"{value['reads']} reads, none torn{stale}", value=value)


def contest(tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Let processes do these tasks, all beginning at once; what each has to tell.

    Raises:
        OSError: of the first that failed, or that did not end in time.
    """
    # Not `-m`: a bare interpreter starts in a fraction of the time, and needs no path to this package.
    command = [sys.executable, "-I", "-S", str(Path(contestant.__file__))]
    with ExitStack() as ended:
        processes = [ended.enter_context(_Contestant([*command, json.dumps(task)])) for task in tasks]
        for process in processes:
            process.await_ready()
        for process in processes:
            process.go()
        return [process.answer() for process in processes]


class _Contestant:
    """One process; killed at the end of the ``with`` if it has not ended, or when it takes too long."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and file
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._watchdog = threading.Timer(PATIENCE_SECONDS, self._process.kill)
        self._watchdog.daemon = True

    def __enter__(self) -> Self:
        self._watchdog.start()
        return self

    def await_ready(self) -> None:
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise OSError("a process of the probe ended early")

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise OSError(f"a process of the probe did not end within {PATIENCE_SECONDS:.0f} s")
        found: dict[str, Any] = json.loads(line)
        if "errno" in found:
            raise OSError(found["errno"], found["error"])
        return found

    def __exit__(self, *_: object) -> None:
        self._watchdog.cancel()
        self._process.kill()
        self._process.communicate()
