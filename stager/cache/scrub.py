"""Are the objects still what their names say? All of them, in the order of their digests, several at once.

An object that reads wrong is read once more, from the disk, before it is called damaged. What can't be read at
all is something else: the disk may be at fault, or the mount, and a file system that has gone away is not a
million damaged objects.
"""

from __future__ import annotations

import errno
import heapq
import logging
import os
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby, islice

from stager.cache.failures import cache_error
from stager.cache.fresh import list_names
from stager.cache.layout import OBJECTS, RESTRICTED, is_digest
from stager.cache.objects import find_object
from stager.cache.pace import Pace
from stager.cache.reading import ObjectReader, Reading, StoppedError
from stager.cache.shards import is_shard
from stager.cache.tree import Tree
from stager.errors import CacheIOError

log = logging.getLogger(__name__)

UNREADABLE_IN_A_ROW = 20
"""So many objects that can't be read, one after the other, and it is the disk or the mount that is at fault."""
_PORTION_BYTES = 8 << 20
"""Handed to a thread at once, about."""
_PORTION = 64
"""Objects handed to a thread at once, at most."""
_AHEAD = 4
"""Portions under way or waiting to be taken, per thread."""
_DENIED = frozenset({errno.EACCES, errno.EPERM})


class Condition(StrEnum):
    """What reading an object came to."""

    SOUND = "sound"
    """Its bytes have the digest that is its name."""
    DAMAGED = "damaged"
    """They have another one, twice."""
    UNREADABLE = "unreadable"
    """The disk, or the server of the file system, did not give them."""
    DENIED = "denied"
    """This user may not read it."""
    GONE = "gone"
    """It was removed meanwhile."""


@dataclass(frozen=True, slots=True, order=True)
class ObjectName:
    """An object, by name."""

    sha256: str
    restricted: bool = False


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """What became of one object.

    Attributes:
        name: of the object.
        condition: what it is like.
        path: where it is.
        size: bytes that were read.
        cause: why it is not sound, in words.
        file: device and inode of what was read; None: nothing was.
    """

    name: ObjectName
    condition: Condition
    path: str = ""
    size: int = 0
    cause: str = ""
    file: tuple[int, int] | None = None


def objects_in_order(tree: Tree, after: str = "") -> Iterator[ObjectName]:
    """All objects, in the order of their digests, from `after` on; what comes or goes meanwhile may be missed.

    Raises:
        CacheError: a directory can't be read, or the cache has gone.
    """
    tree.check()
    tree.look_again()
    walks = [
        _walk(tree, f"{tree.root}/{top}", layout.widths, "", after, restricted=top == RESTRICTED)
        for layout in tree.layouts
        for top in (OBJECTS, RESTRICTED)
    ]
    for name, _ in groupby(heapq.merge(*walks)):
        yield name
    tree.check()  # one that has gone looks like one that has come to its end


def _walk(
    tree: Tree, directory: str, widths: tuple[int, ...], prefix: str, after: str, *, restricted: bool
) -> Iterator[ObjectName]:
    try:
        names = sorted(list_names(directory))
    except NotADirectoryError:
        return
    except OSError as error:
        raise cache_error(error, directory, "list") from error
    for name in names:
        if not widths:
            if is_digest(name) and name > after:
                yield ObjectName(name, restricted)
        elif is_shard(name, widths) and prefix + name >= after[: len(prefix + name)]:
            below = f"{directory}/{name}"
            yield from _walk(tree, below, widths[1:], prefix + name, after, restricted=restricted)


class Scrubber:
    """Reads objects of one tree.

    Args:
        tree: the cache.
        pace: how fast.
        threads: objects that are read at once.
    """

    def __init__(self, tree: Tree, pace: Pace, *, threads: int) -> None:
        self._tree = tree
        self._stopped = threading.Event()
        self._threads = threads
        self._reader = ObjectReader(pace, self._stopped, self._count)
        self._counting = threading.Lock()
        self.bytes_read = 0
        """By all threads; rises while a large object is read."""
        self._objects = 0
        self._failed_in_a_row = 0

    def stop(self) -> None:
        """Give up; what is being read is given up within a block."""
        self._stopped.set()

    def run(self, names: Iterable[ObjectName], every: float = 0.5) -> Generator[list[Scrubbed], None, None]:
        """Read these, in order; some at a time, or nothing when for `every` seconds none was done.

        The iterator ends early when it was told to stop.

        Raises:
            CacheIOError: one object after the other can't be read.
            CacheError: the cache has gone.
        """
        rest = iter(names)
        waiting: deque[Future[list[Scrubbed]]] = deque()
        with ThreadPoolExecutor(self._threads, thread_name_prefix="scrub") as pool:
            try:
                while not self._stopped.is_set():
                    while len(waiting) < self._threads * _AHEAD and (some := self._portion(rest)):
                        waiting.append(pool.submit(self._read_all, some))
                    if not waiting:
                        return
                    try:
                        done = waiting[0].result(every)
                    except TimeoutError:
                        yield []
                        continue
                    except StoppedError:
                        return
                    waiting.popleft()
                    self._watch(done)
                    yield done
            finally:
                self.stop()
                for future in waiting:
                    future.cancel()

    def _portion(self, rest: Iterator[ObjectName]) -> list[ObjectName]:
        """As many as are done in a moment, by the mean of those that were."""
        mean = self.bytes_read / self._objects if self._objects else _PORTION_BYTES
        return list(islice(rest, max(1, min(_PORTION, int(_PORTION_BYTES / max(mean, 1))))))

    def _read_all(self, names: list[ObjectName]) -> list[Scrubbed]:
        return [self.scrub(name) for name in names]

    def scrub(self, name: ObjectName) -> Scrubbed:
        """Read one object.

        Raises:
            StoppedError: told to stop.
            CacheError: the cache has gone.
        """
        path = self._tree.object(name.sha256, restricted=name.restricted)
        cause = ""
        found: Reading | None = None
        for again in (False, True):
            found = None
            try:
                found, path = self._read(name, path, from_disk=again)
            except OSError as error:
                self._tree.check()
                if error.errno in _DENIED:
                    return Scrubbed(name, Condition.DENIED, path, cause=_in_words(error))
                cause = _in_words(error)
                continue
            if found is None:
                self._tree.check()
                return Scrubbed(name, Condition.GONE, path)
            if found.sha256 == name.sha256:
                if again:
                    log.warning("%s read differently the first time: %s", path, cause)
                return Scrubbed(name, Condition.SOUND, path, found.size, file=found.file)
            cause = f"its {found.size} bytes have SHA-256 {found.sha256}"
        if found is None:
            return Scrubbed(name, Condition.UNREADABLE, path, 0, cause, _file(path))
        return Scrubbed(name, Condition.DAMAGED, path, found.size, cause, found.file)

    def _read(self, name: ObjectName, path: str, *, from_disk: bool) -> tuple[Reading | None, str]:
        """None: there is no such object."""
        try:
            return self._reader.read(path, from_disk=from_disk), path
        except FileNotFoundError:
            elsewhere = find_object(self._tree, name.sha256, restricted=name.restricted)
        if elsewhere is None:
            return None, path
        try:
            return self._reader.read(elsewhere[0], from_disk=from_disk), elsewhere[0]
        except FileNotFoundError:
            return None, path

    def _watch(self, done: list[Scrubbed]) -> None:
        self._objects += len(done)
        for each in done:
            if each.condition is Condition.UNREADABLE:
                self._failed_in_a_row += 1
            elif each.condition is not Condition.GONE:
                self._failed_in_a_row = 0
            if self._failed_in_a_row >= UNREADABLE_IN_A_ROW:
                raise CacheIOError(
                    f"{self._failed_in_a_row} objects one after the other can't be read",
                    cause=each.cause,
                    remedy="see to the disk or the mount; then verify again, it goes on from here",
                    path=each.path,
                )

    def _count(self, size: int) -> None:
        with self._counting:
            self.bytes_read += size


def _file(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _in_words(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
