"""A private directory in the trash, where names go that are about to be removed.

A name that is put aside can be looked at, together with what happened meanwhile, when nobody comes by it any more:
it goes, or gets its place back. What a kill leaves aside is given back (`give_back`).
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from stager.cache.failures import LINK_REFUSED
from stager.cache.files import unless_stale
from stager.cache.fresh import refresh
from stager.cache.tree import Tree

SHOW_SECONDS = 10.0
"""So often a directory shows that its owner lives, by its time: others wait for those only that do."""


class Aside:
    """A directory of our own; while it is there, who pins something waits.

    Paths are relative to the root, which is open: that is a third of the way of each look.

    Args:
        tree: the cache.
        path: the directory, absolute.

    Attributes:
        tree: the cache.
        root: its root, open: what relative paths start from.
        own: the directory.
    """

    def __init__(self, tree: Tree, path: str) -> None:
        self.tree = tree
        self.own = path[len(tree.root) + 1 :]
        self.root = unless_stale(os.open, tree.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._path = path
        self._shown = time.monotonic()

    def close(self) -> None:
        """It is used no more."""
        os.close(self.root)

    def show(self) -> None:
        """Show now and then that we live."""
        now = time.monotonic()
        if now - self._shown >= SHOW_SECONDS:
            self._shown = now
            with suppress(OSError):
                os.utime(self._path)

    def status(self, path: str) -> os.stat_result:
        """Of the file there, as it is now.

        Raises:
            OSError: there is none, or it can't be opened.
        """
        if not self.tree.remote:
            return os.stat(path, dir_fd=self.root)
        return unless_stale(self._opened_status, path)

    def _opened_status(self, path: str) -> os.stat_result:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.root)  # only that asks the server
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def has(self, path: str) -> bool:
        """Whether there is something at `path`, also if another host made it just now.

        Raises:
            OSError: nobody can tell.
        """
        if not self.tree.remote:
            return os.access(path, os.F_OK, dir_fd=self.root)
        refresh(os.path.dirname(f"{self.tree.root}/{path}"))  # else "no" is an answer for half a minute
        try:
            unless_stale(os.stat, path, dir_fd=self.root)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def remove(self, path: str) -> None:
        """Delete what has that path.

        Raises:
            OSError: it is still there, or was not.
        """
        unless_stale(os.unlink, path, dir_fd=self.root)

    def put(self, path: str, name: str) -> str | None:
        """Put what has that path aside under that name; its path then, or None: there is no such file.

        Raises:
            OSError: it stays where it is.
        """
        private = f"{self.own}/{name}"
        for again in (False, True):
            try:
                unless_stale(os.rename, path, private, src_dir_fd=self.root, dst_dir_fd=self.root)
            except FileNotFoundError:
                if again or os.access(self._path, os.F_OK):
                    return None
                self.tree.make_directory(self._path)  # somebody has emptied the trash by hand
            else:
                break
        return private

    def back(self, private: str, path: str) -> bool:
        """Let it have that path again unless that is taken; whether it has it.

        Raises:
            OSError: it stays aside.
        """
        return put_back(self.tree, f"{self.tree.root}/{private}", f"{self.tree.root}/{path}")


def put_back(tree: Tree, private: str, path: str) -> bool:
    """Let the file at `private` have the name `path` instead, unless that is taken; whether it has it.

    Raises:
        OSError: it stays where it is.
    """
    try:
        tree.creating(path, lambda: os.link(private, path))
    except FileExistsError:
        unless_stale(os.unlink, private)
        return False
    except OSError as error:
        if error.errno not in LINK_REFUSED:
            raise
        if os.access(path, os.F_OK):
            unless_stale(os.unlink, private)
            return False
        unless_stale(os.rename, private, path)
        return True
    unless_stale(os.unlink, private)
    return True
