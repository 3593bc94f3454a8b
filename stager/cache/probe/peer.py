"""What only two hosts can measure: how late one sees what the other made, and who wins between them.

The one whose name is less leads: it asks, the other does as it is told, and both report the same.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from stager.cache.fresh import refresh
from stager.cache.layout import PROBE
from stager.cache.owner import is_here
from stager.cache.probe import contestant, features
from stager.cache.probe.line import TALK, Line, LostPeerError, meet
from stager.cache.probe.races import NAMES, VERSIONS, judged_reads, judged_winners
from stager.cache.probe.report import Finding, Verdict

STALE = "stale look-ups"
PEER_QUESTIONS = (STALE, "exclusive create by two hosts", "hard link as claim by two hosts", "rename as claim by two hosts", "rename over a file by two hosts", "locks between hosts")  # fmt: skip
LONGEST_STALE_SECONDS = 65.0
"""NFS clients believe an old answer for a minute at most, as they are usually set."""
PATIENCE_SECONDS = LONGEST_STALE_SECONDS + 30
_LOOK_SECONDS = 0.1
TARGET = "between"
"""In the leader's workplace, apart from the messages: listing those must not make names here fresh."""


def with_peer(root: str, work: str, seconds: float, waiting: Callable[[], None]) -> Iterator[Finding]:
    """Wait for a probe on another host, and measure with it.

    Args:
        root: the directory that both probe.
        work: this probe's place in it.
        seconds: to wait.
        waiting: called once the wait begins.
    """
    me = os.path.basename(work).removeprefix(PROBE)
    for directory in (TALK, TARGET):
        os.mkdir(f"{work}/{directory}", 0o700)
    waiting()
    other = meet(root, me, seconds)
    if other is None:
        yield from _unmeasured(f"no second host joined within {seconds:.0f} s")
        return
    leader = min(me, other)
    place = work if leader == me else f"{root}/{PROBE}{other}"
    line = Line(f"{place}/{TALK}", me, other, patience=PATIENCE_SECONDS)
    target = f"{place}/{TARGET}"
    try:
        yield from _lead(line, target, other) if leader == me else _follow(line, target)
    except FileNotFoundError:
        yield from _unmeasured("the probe on the other host ended early")
    except OSError as error:
        yield from _unmeasured(error.strerror or str(error))


def _unmeasured(why: str) -> Iterator[Finding]:
    for name in PEER_QUESTIONS:
        yield Finding(name, Verdict.NOT_MEASURED, why)


def _lead(line: Line, target: str, other: str) -> Iterator[Finding]:
    line.send(word="hello")
    line.receive()
    found = [_stale(line, target) if not is_here(other) else _same_host(STALE)]
    found += [_winners(line, target, action) for action in ("create", "link", "rename")]
    found += [_replaced(line, target), _locks(line, target)]
    findings = [
        Finding(name, one.verdict, one.measured, one.why, one.value)
        for name, one in zip(PEER_QUESTIONS, found, strict=True)
    ]
    line.send(word="end", findings=[asdict(finding) for finding in findings])
    with suppress(LostPeerError):
        line.receive()  # until then the other one needs the directory
    yield from findings


def _follow(line: Line, target: str) -> Iterator[Finding]:
    line.send(word="hello")
    while True:
        asked = line.receive()
        match asked["word"]:
            case "make":
                _make(f"{target}/{asked['name']}")
                line.send(word="made")
            case "act":
                try:
                    done = contestant.ACTIONS[asked["action"]](target, "follower", asked["count"])
                except OSError as error:
                    done = {"errno": error.errno, "error": error.strerror}
                line.send(**done)
            case "lock":
                line.send(locks=features.tried_locks(f"{target}/lock"))
            case "end":
                line.send(word="bye")
                for data in asked["findings"]:
                    yield Finding(**data | {"verdict": Verdict(data["verdict"])})
                return


def _same_host(name: str) -> Finding:
    return Finding(name, Verdict.NOT_MEASURED, "both probes run on this host; it takes another one")


def _stale(line: Line, target: str) -> Finding:
    """How long a name that was looked for too early stays unseen, and whether opening its directory helps."""
    seconds = _unseen_for(line, f"{target}/late")
    if seconds == 0:
        return Finding(STALE, Verdict.OK, "what the other host makes is seen at once", value=0.0)
    text = f"a name that was looked for too early stays unseen for {seconds:.1f} s"
    if seconds >= LONGEST_STALE_SECONDS:
        text += " or more"
    if not _seen_when_opened(line, f"{target}/fresh"):
        why = "and opening its directory does not help: hosts would miss each other's files"
        return Finding(STALE, Verdict.UNFIT, text, why, round(seconds, 1))
    why = "Stager opens the directory and looks again, which helped here; other programs may be fooled"
    return Finding(STALE, Verdict.LIMITED, text, why, round(seconds, 1))


def _unseen_for(line: Line, path: str) -> float:
    """Seconds from the time at which the other host had made the file; 0: the first look finds it."""
    _made_there(line, path)
    begun = time.monotonic()
    if os.path.exists(path):  # however long that took on a busy host
        return 0.0
    while not os.path.exists(path) and time.monotonic() - begun < LONGEST_STALE_SECONDS:
        time.sleep(_LOOK_SECONDS)
    return time.monotonic() - begun


def _seen_when_opened(line: Line, path: str) -> bool:
    _made_there(line, path)
    refresh(os.path.dirname(path))
    return os.path.exists(path)


def _made_there(line: Line, path: str) -> None:
    """Look for the file in vain, and let the other host make it."""
    if os.path.exists(path):
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
    line.send(word="make", name=os.path.basename(path))
    line.receive()


def _winners(line: Line, target: str, action: str) -> Finding:
    if action == "rename":
        for number in range(NAMES):
            _make(f"{target}/r{number}")
    line.send(word="act", action=action, count=NAMES)
    try:
        mine = contestant.ACTIONS[action](target, "leader", NAMES)
    except OSError as error:
        mine = {"error": error.strerror}
    theirs = line.receive()
    if "error" in mine or "error" in theirs:
        return Finding(action, Verdict.NOT_MEASURED, f"refused: {mine.get('error') or theirs.get('error')}")
    return judged_winners(action, [mine["won"], theirs["won"]], NAMES, "two hosts")


def _replaced(line: Line, target: str) -> Finding:
    with open(f"{target}/t", "wb") as file:
        file.write(bytes(contestant.BLOCK))
    line.send(word="act", action="read", count=int(LONGEST_STALE_SECONDS / 2))
    contestant.replace(target, "leader", VERSIONS)
    answer = line.receive()
    if "error" in answer:
        return Finding("", Verdict.UNFIT, answer["error"], "a reader on another host failed")
    return judged_reads([answer])


def _locks(line: Line, target: str) -> Finding:
    with features.locked(f"{target}/lock") as held:
        line.send(word="lock")
        tried: dict[str, Any] = line.receive()["locks"]
    found = {kind: tried.get(kind, "refused") if kind in held else "refused" for kind in tried}
    text = ", ".join(f"{kind}: {answer}" for kind, answer in found.items())
    if set(found.values()) == {"works"}:
        return Finding("", Verdict.OK, text, value=found)
    return Finding("", Verdict.LIMITED, text, features.WHY_NO_LOCKS, found)


def _make(path: str) -> None:
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
