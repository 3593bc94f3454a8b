"""Taking a damaged object out of the cache, so that whoever wants its bytes next fetches them anew.

The object goes first, into the trash under its name: from then on its entries lead nowhere, and nobody gets
the damaged bytes who does not have them yet. Then the entries. Killed in between, the entries are found as
entries without an object.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from stager.cache.entry_removal import remove_vacant
from stager.cache.failures import cache_error
from stager.cache.files import unless_stale
from stager.cache.fresh import list_names
from stager.cache.holders import jobs_holding
from stager.cache.layout import JOBS, TRASH
from stager.cache.objects import MARK, object_names
from stager.cache.pinned import pin_link
from stager.cache.scrub import Scrubbed
from stager.cache.trash import DAMAGED, Trash
from stager.cache.tree import Tree
from stager.steps import reached


@dataclass(frozen=True, slots=True)
class Reader:
    """A job that has a file of its own with the same bytes.

    Attributes:
        job: its id.
        name: of its input.
        by_path: it has no link but the path of the object, which must stay as long as the job runs.
    """

    job: str
    name: str
    by_path: bool


class Quarantine:
    """Damaged objects of one cache.

    Args:
        tree: the cache.
        trash: where the objects go.
    """

    def __init__(self, tree: Tree, trash: Trash) -> None:
        self._tree = tree
        self._trash = trash

    def take(self, damaged: Scrubbed) -> bool:
        """Take the object away; False when it is not the one any more that was read.

        Raises:
            CacheError: it may still be there.
        """
        self._tree.check()
        taken = False
        names = object_names(self._tree, damaged.name.sha256, restricted=damaged.name.restricted)
        try:
            for name in names:
                if _file(name) == damaged.file:
                    with suppress(FileNotFoundError):  # first, since nobody finds it without the object
                        unless_stale(os.unlink, name + MARK)
                if not taken:
                    taken = self._throw(name, damaged)
                elif _file(name) == damaged.file:
                    unless_stale(os.unlink, name)
            reached("verify.quarantined")
            if taken:
                self._drop_link_of_pins(damaged)
        except OSError as error:
            raise cache_error(error, names[-1], "quarantine") from error
        return taken

    def forget(self, digests: Iterable[str]) -> list[str]:
        """Remove the entries of these keys whose object is not there; those that were removed.

        Raises:
            CacheError: some may still be there.
        """
        self._tree.check()
        gone = remove_vacant(self._tree, digests)
        reached("verify.forgotten")
        return gone

    def held(self) -> frozenset[str]:
        """The digests of the objects that are in quarantine.

        Raises:
            CacheError: the trash can't be read.
        """
        trash = f"{self._tree.root}/{TRASH}"
        try:
            names = [name for day in list_names(trash) for name in _names_in(f"{trash}/{day}")]
        except OSError as error:
            raise cache_error(error, trash, "list") from error
        return frozenset(
            name.removeprefix(DAMAGED).partition(".")[0] for name in names if name.startswith(DAMAGED)
        )

    def readers(self, damaged: Scrubbed) -> list[Reader]:
        """Jobs that have the damaged bytes as an input; looks at every job that is not over.

        Raises:
            CacheError: the jobs can't be listed.
        """
        jobs = f"{self._tree.root}/{JOBS}"
        try:
            found = jobs_holding(self._tree, damaged.name.sha256, restricted=damaged.name.restricted)
        except OSError as error:
            raise cache_error(error, jobs, "list") from error
        return [Reader(job, name, os.path.islink(f"{jobs}/{job}/inputs/{name}")) for job, name in found]

    def _throw(self, path: str, damaged: Scrubbed) -> bool:
        if damaged.file is not None and _file(path) != damaged.file:
            return False  # removed, or fetched anew, since it was read
        try:
            self._trash.throw(path, DAMAGED + damaged.name.sha256)
        except FileNotFoundError:
            return False
        return True

    def _drop_link_of_pins(self, damaged: Scrubbed) -> None:
        """A pin holds the object by a link: to the damaged bytes it is of no use."""
        link = pin_link(self._tree, damaged.name.sha256, restricted=damaged.name.restricted)
        if damaged.file is not None and _file(link) == damaged.file:
            with suppress(FileNotFoundError):
                unless_stale(os.unlink, link)


def _file(path: str) -> tuple[int, int] | None:
    try:
        found = unless_stale(os.stat, path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def _names_in(directory: str) -> list[str]:
    try:
        return list_names(directory)
    except NotADirectoryError:
        return []
