"""Inputs of jobs where hard links are refused: symbolic links, which nothing but a look at them shows."""

from __future__ import annotations

import os
from contextlib import suppress

from stager.cache.failures import LINK_REFUSED, cache_error
from stager.cache.files import remove_quietly
from stager.cache.holders import names_of_inputs
from stager.cache.layout import PARTIAL, is_digest
from stager.cache.owner import new_owner, retire
from stager.cache.tree import Tree


class SymbolicInputs:
    """Which objects are held so. Where there are hard links it is found out once that none are.

    (One that was made because the object had as many hard links as the file system counts needs no look: those
    others hold it.)
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._refused: bool | None = None

    def __call__(self) -> set[str]:
        """Their digests. Costs as much as there are inputs of jobs.

        Raises:
            CacheError: the file system failed.
        """
        try:
            if self._refused is None:
                self._refused = self._try()
            return self._look() if self._refused else set()
        except OSError as error:
            raise cache_error(error, error.filename or self._tree.root, "look for inputs in") from error

    def _try(self) -> bool:
        owner = new_owner()
        name = f"{self._tree.root}/{PARTIAL}/{owner}.tmp"
        self._tree.make_directory(f"{self._tree.root}/{PARTIAL}")
        try:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            os.link(name, f"{name}.new")
        except OSError as error:
            if error.errno not in LINK_REFUSED:
                raise
            return True
        finally:
            remove_quietly(f"{name}.new")
            remove_quietly(name)
            retire(owner)
        return False

    def _look(self) -> set[str]:
        found = set()
        for directory, names in names_of_inputs(self._tree):
            for name in names:
                with suppress(OSError):  # gone meanwhile, or a hard link
                    found.add(os.path.basename(os.readlink(f"{directory}/{name}")))
        return {name for name in found if is_digest(name)}
