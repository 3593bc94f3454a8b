"""Are the objects still what their names say? All of them, in the order of their digests, several at once.

An object that reads wrong is read once more, from the disk, before it is called damaged. What can't be read at
all is something else: the disk may be at fault, or the mount, and a file system that has gone away is not a
million damaged objects. Only an object of which the file system itself says that its bytes are lost is judged;
whatever else goes wrong (no file descriptors, no memory, a server that does not answer) is no fault of the object.
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
from stager.cache.files import unless_stale
from stager.cache.fresh import list_names
from stager.cache.layout import OBJECTS, RESTRICTED, is_digest
from stager.cache.objects import find_object
from stager.cache.pace import Pace
from stager.cache.reading import ObjectReader, Reading, StoppedError
from stager.cache.shards import is_shard
from stager.cache.tree import Tree
from stager.errors import CacheIOError

log = logging.getLogger(__name__)

MOST_UNREADABLE = 20
"""So many objects that can't be read, and it is the disk or the mount that is at fault."""
FORGIVEN_BY = 100
"""So many sound objects make up for one that can't be read."""
_PORTION_BYTES = 8 << 20
"""Handed to a thread at once, about."""
_PORTION = 64
"""Objects handed to a thread at once, at most."""
_AHEAD = 4
"""Portions under way or waiting to be taken, per thread."""
_DENIED = frozenset({errno.EACCES, errno.EPERM})
_LOST = frozenset({errno.EIO, errno.EUCLEAN, errno.EBADMSG})
"""What a file system answers that can't give the bytes: the medium failed, or a checksum of its own is wrong."""


class Condition(StrEnum):
    """What reading an object came to."""

    SOUND = "sound"
    """Its bytes have the digest that is its name."""
    DAMAGED = "damaged"
    """They have another one, twice."""
    UNREADABLE = "unreadable"
    """The file system says that they are lost."""
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


class DiskTrust:
    """Whether it is single objects that can't be read, or the disk; one of these may serve several runs."""

    def __init__(self) -> None:
        self._unreadable = 0.0

    def take(self, found: Scrubbed) -> None:
        """One more object was read.

        Raises:
            CacheIOError: too many can't be read for it to be their own fault.
        """
        if found.condition is Condition.SOUND:
            self._unreadable = max(0.0, self._unreadable - 1 / FORGIVEN_BY)
        elif found.condition is Condition.UNREADABLE:
            self._unreadable += 1
            if self._unreadable >= MOST_UNREADABLE:
                raise CacheIOError(
                    f"{MOST_UNREADABLE} objects and more can't be read, and few others can",
                    cause=found.cause,
                    remedy="see to the disk or the mount; then run `stager cache verify`, it goes on from here",
                    path=found.path,
                )


class Scrubber:
    """Reads objects of one tree.

    Args:
        tree: the cache.
        pace: how fast.
        threads: objects that are read at once.
        trust: what earlier runs say of the disk.
    """

    def __init__(self, tree: Tree, pace: Pace, *, threads: int, trust: DiskTrust | None = None) -> None:
        self._tree = tree
        self._trust = trust or DiskTrust()
        self._stopped = threading.Event()
        self._threads = threads
        self._reader = ObjectReader(pace, self._stopped, self._count)
        self._counting = threading.Lock()
        self.bytes_read = 0
        """By all threads; rises while a large object is read."""
        self._objects = 0

    def stop(self) -> None:
        """Give up; what is being read is given up within a block."""
        self._stopped.set()

    def run(self, names: Iterable[ObjectName], every: float = 0.5) -> Generator[list[Scrubbed], None, None]:
        """Read these, in order; some at a time, or nothing when for `every` seconds none was done.

        The iterator ends early when it was told to stop.

        Raises:
            CacheIOError: too many objects can't be read, or this process or the mount is in trouble.
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
            CacheError: the cache has gone, or it could not be read for a reason that is not the object's.
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
                if again and error.errno not in _LOST:
                    raise cache_error(error, path, "verify") from error
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
            return unless_stale(self._reader.read, path, from_disk=from_disk), path
        except FileNotFoundError:
            elsewhere = find_object(self._tree, name.sha256, restricted=name.restricted)
        if elsewhere is None:
            return None, path
        try:
            return unless_stale(self._reader.read, elsewhere[0], from_disk=from_disk), elsewhere[0]
        except FileNotFoundError:
            return None, path

    def _watch(self, done: list[Scrubbed]) -> None:
        self._objects += len(done)
        for each in done:
            self._trust.take(each)

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
