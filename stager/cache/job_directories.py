"""Directories of jobs that are over: what is left of them goes, in the end.

A release leaves what the job printed (and later the notes on what became of its results). All of that goes when
nothing in it has changed for as long as results are kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress

from stager.cache.fresh import list_names
from stager.cache.layout import JOBS
from stager.cache.removal import DIRECTORY, remove_tree
from stager.cache.tree import Tree

EMPTY_SECONDS = 7 * 86_400.0
"""Empty directories for inputs and results are left alone for so long: a job may be about to use them."""
_GOING = ".going-"
"""How a directory's name begins while it is removed."""


class JobDirectories:
    """Those of one cache.

    Args:
        tree: its root.
        live: the ids of all jobs that are not over; their directories are left alone.
        keep_seconds: how long the directory of a job that is over stays; 0: for ever.
    """

    def __init__(self, tree: Tree, live: Callable[[], Collection[str]], keep_seconds: float) -> None:
        self._tree = tree
        self._live = live
        self._keep = keep_seconds

    def tidy(self, now: float) -> Iterator[bool]:
        """Look at each directory; whether it went. One that can't be removed is left for the next time.

        Raises:
            OSError: the directories can't be listed.
        """
        top = f"{self._tree.root}/{JOBS}"
        names = list_names(top)
        if not names:
            return
        live = self._live()  # asked after they were listed: what is not over by now is in it
        for name in names:
            gone = False
            if name not in live:
                with suppress(OSError):  # of another user, in use again, or no directory
                    gone = self._tidy(top, name, now)
            yield gone

    def _tidy(self, top: str, name: str, now: float) -> bool:
        path = f"{top}/{name}"
        if name.startswith(_GOING):  # somebody was killed
            remove_tree(path)
            return True
        age = now - os.stat(path, follow_symlinks=False).st_mtime
        if self._keep and age > self._keep and now - _changed(path) > self._keep and not _has_inputs(path):
            going = f"{top}/{_GOING}{name}"
            os.rename(path, going)
            remove_tree(going)
            return True
        if age > EMPTY_SECONDS:
            _remove_empty(path, now)
        return False


def _has_inputs(path: str) -> bool:
    try:
        return bool(os.listdir(f"{path}/inputs"))
    except FileNotFoundError:
        return False


def _changed(path: str) -> float:
    """When anything in the directory changed last; links are not followed."""
    last = os.stat(path, follow_symlinks=False).st_mtime
    for _, directories, files, fd in os.fwalk(path):
        for name in directories + files:
            with suppress(FileNotFoundError):
                last = max(last, os.stat(name, dir_fd=fd, follow_symlinks=False).st_mtime)
    return last


def _remove_empty(path: str, now: float) -> None:
    """Remove inputs/ and results/ if they are empty and have been for long; the directory keeps its time."""
    fd = os.open(path, DIRECTORY)
    try:
        before = os.fstat(fd)
        for part in ("inputs", "results"):
            with suppress(OSError):  # not there, or not empty
                if now - os.stat(part, dir_fd=fd, follow_symlinks=False).st_mtime > EMPTY_SECONDS:
                    os.rmdir(part, dir_fd=fd)
                    os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))
    finally:
        os.close(fd)
