"""Evicting many objects of a file system in memory with several processes: the processor is the limit there.

Each process evicts its part as this one would alone. What is said to be evicted in one go is begun, and the caller
has time meanwhile to find the next ones.
"""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from operator import attrgetter

from stager.cache.eviction import Evicted, Evictor, Fate, Victim
from stager.cache.failures import cache_error
from stager.cache.tree import open_existing_tree
from stager.errors import CacheError

MANY = 4096
"""Objects together from which on starting processes pays: there are as many again before, and more to come."""
PROCESSES = 4
"""More of them only wait for each other: names are moved one at a time on a file system."""
Told = dict[str, Evicted]
"""By object: what did not simply go, with all its entries and its bytes. Most do, and of those nothing is said."""
_plain = attrgetter(*Victim.__slots__)
_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[4:]; from stager.cache.evict_many import serve; serve(*sys.argv[1:4])"
)
"""The other process begins with nothing but this: what else this one has imported would take longer than it saves."""


class Crew:
    """Evicts for one who has more to evict than he knows yet; to be closed.

    Args:
        evictor: of the cache.
        processes: that evict at once, on whatever file system; None: as many as pay, in memory.
    """

    def __init__(self, evictor: Evictor, processes: int | None = None) -> None:
        self._evictor = evictor
        self._processes = min(PROCESSES, len(os.sched_getaffinity(0))) if processes is None else processes
        self._anywhere = processes is not None
        self._members: list[_Member] = []

    def begin(
        self, victims: Sequence[Victim], *, held: Collection[str], force: bool, at_once: bool, dry_run: bool
    ) -> Callable[[], Told]:
        """Begin with these, see `Evictor.evict`; the answer waits for the end. More may be begun before.

        Raises:
            CacheError: as `Evictor.evict`, also from the answer.
        """
        if dry_run or len(victims) < MANY or not self._pays(at_once=at_once):
            done = self._evictor.evict(victims, held=held, force=force, at_once=at_once, dry_run=dry_run)
            told = {one.victim.object: one for one in done if not _simply_went(one)}
            return lambda: told
        if not self._members:
            self._members = [_Member(*self._evictor.whose) for _ in range(self._processes)]
        ordered = sorted(victims, key=attrgetter("object"))
        size = -(-len(ordered) // len(self._members))
        parts = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        asked = []
        for part, member in zip(parts, self._members, strict=False):
            those = [victim.object for victim in part if victim.object in held] if held else []
            asked.append(member.thread.submit(member.ask, part, those, force, self._evictor.now()))
        return lambda: _together(asked)

    def _pays(self, *, at_once: bool) -> bool:
        where = self._anywhere or self._evictor.in_memory
        return where and self._processes > 1 and not self._evictor.throws(at_once=at_once)

    def close(self) -> None:
        """Let the processes end, when what was begun is over."""
        for member in self._members:
            member.close()
        self._members = []


class _Member:
    """One of the processes, and a thread that talks with it: the next question waits there for the answer to the last."""

    def __init__(self, root: str, cache_id: str) -> None:
        self._root = root
        self.thread = ThreadPoolExecutor(1, "evict-process")
        # Not by a fork, which would take the locks of this process's threads with it.
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-I", "-S", "-c", _PROGRAM, root, cache_id, str(theirs.fileno())]
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and program
                command + sys.path, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
            )
        self._line = Connection(ours.detach())

    def ask(self, part: Sequence[Victim], held: Sequence[str], force: bool, now: float) -> Told:
        """Raises CacheError: as `Evictor.evict`, or the process is no more."""
        try:
            self._line.send((list(map(_plain, part)), held, force, now))
            told: Told | CacheError = self._line.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            told = cache_error(OSError(None, "a process that did it was killed"), self._root, "evict from")
        if isinstance(told, CacheError):
            raise told
        return told

    def close(self) -> None:
        self.thread.shutdown()
        self._line.close()  # it ends the process
        self._process.wait()


def _together(asked: Sequence[Future[Told]]) -> Told:
    wait(asked)
    return {sha256: one for part in asked for sha256, one in part.result().items()}


def serve(root: str, cache_id: str, fd: str) -> None:
    """The other process: evicts what it is sent, tells what did not simply go; ends with who asks."""
    gc.disable()  # nothing here is in a cycle, and to look for some takes a tenth of the time
    with (
        Connection(int(fd)) as asked,
        suppress(EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt),
    ):
        while True:
            plain, held, force, now = asked.recv()
            try:
                evictor = Evictor(open_existing_tree(root, cache_id), now=partial(float, now))
                done = evictor.evict_here([Victim(*each) for each in plain], held=held, force=force)
            except CacheError as error:
                asked.send(error)
            else:
                asked.send({one.victim.object: one for one in done if not _simply_went(one)})


def _simply_went(one: Evicted) -> bool:
    return (
        one.fate is Fate.GONE
        and one.freed == one.victim.size
        and one.error is None
        and len(one.digests) == len(one.victim.digests)
    )
