"""The trash: what was evicted on a network file system, until readers on other hosts have had time to finish.

A client of such a file system keeps no hold on a file that it has open: if the file is deleted on another host, its
next read fails. So an object is moved first, under which it stays open, and deleted after a grace.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

from stager.cache.files import is_same_file, unless_stale
from stager.cache.fresh import list_names
from stager.cache.layout import TRASH
from stager.cache.mounts import mount_of
from stager.cache.owner import new_owner, retire
from stager.cache.stamp import file_system_time
from stager.cache.tree import Tree
from stager.clock import Clock

DAMAGED = "damaged-"
"""How the names begin of what was found damaged, kept for people to look at."""
EVICTING = "entries."
"""How the names of directories begin that hold entries on their way out, as long as an eviction goes on."""
_OWN = frozenset({"tmpfs", "ramfs", "overlay", "btrfs", "zfs"})
"""File systems without a block device of their own that no other host writes to."""


def needs_trash(tree: Tree) -> bool:
    """Whether objects that are evicted go there."""
    if not tree.remote:
        return False
    mount = mount_of(tree.root)
    return mount is None or mount.fstype not in _OWN


class Trash:
    """The trash of one cache, a directory per day.

    Args:
        tree: the cache.
        clock: the time.
    """

    def __init__(self, tree: Tree, clock: Clock) -> None:
        self._tree = tree
        self._clock = clock
        self._root = f"{tree.root}/{TRASH}"

    def throw(self, path: str, name: str) -> None:
        """Move the file at `path` there; another one that has the name there already stays as well.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: it stays where it is.
        """
        day = datetime.fromtimestamp(self._clock.time(), UTC).date().isoformat()
        final = f"{self._root}/{day}/{name}"
        if os.access(final, os.F_OK):
            if is_same_file(path, final):
                unless_stale(
                    os.unlink, path
                )  # a second name of the same file: to rename it onto the first does nothing
                return
            owner = new_owner()
            retire(owner)
            final = f"{final}.{owner}"
        self._tree.creating(final, lambda: os.rename(path, final))

    def empty(self, grace_seconds: float = 0.0) -> tuple[int, int]:
        """Delete what was thrown away so long ago; how many files and bytes that were.

        What was found damaged is left to upkeep, even if room is needed: it may be all there is of a result.
        The time is that of the file's last change of name, by the clock that stamps the files.
        Entries that an eviction has put aside are none of it.

        Raises:
            OSError: some of it is still there.
        """
        count, size = 0, 0
        before = file_system_time(self._tree) - grace_seconds if grace_seconds else 0.0
        for path, found in self._files():
            if (grace_seconds and found.st_ctime > before) or os.path.basename(path).startswith(DAMAGED):
                continue
            with suppress(FileNotFoundError):
                unless_stale(os.unlink, path)
                count += 1
                size += found.st_size if found.st_nlink == 1 else 0
        for day in self._days():
            with suppress(OSError):  # not empty yet, or somebody was quicker
                os.rmdir(f"{self._root}/{day}")
        return count, size

    def size(self) -> tuple[int, int]:
        """How many files and bytes are in it."""
        sizes = [found.st_size for _, found in self._files()]
        return len(sizes), sum(sizes)

    def _days(self) -> Iterator[str]:
        """What is in it but the directories of evictions, which are theirs as long as they go on."""
        return (name for name in list_names(self._root) if not name.startswith(EVICTING))

    def _files(self) -> Iterator[tuple[str, os.stat_result]]:
        for day in self._days():
            directory = f"{self._root}/{day}"
            if not os.path.isdir(directory):
                with suppress(FileNotFoundError):
                    yield directory, unless_stale(os.lstat, directory)
                continue
            for name in list_names(directory):
                path = f"{directory}/{name}"
                if os.path.isdir(path):
                    shutil.rmtree(path, ignore_errors=True)  # nothing of ours: somebody put it there by hand
                    continue
                with suppress(FileNotFoundError):
                    yield path, unless_stale(os.lstat, path)
