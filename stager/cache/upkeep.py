"""What nobody will ever ask for again, found a piece at a time: entries without objects, files without owners.

A step looks at so many names and goes on where the last one ended, so that it costs the same however
large the cache is. Whatever is young is left alone: another host may be about to finish it.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from stager.cache.entries import EntryFiles
from stager.cache.failures import cache_error
from stager.cache.files import remove_quietly
from stager.cache.fresh import list_names
from stager.cache.layout import ENTRIES, PARTIAL, TRASH, is_digest
from stager.cache.layout_file import read_layouts
from stager.cache.migrate import Migration, is_over
from stager.cache.owner import is_alive, is_here
from stager.cache.pin_files import tidy_pins
from stager.cache.tree import open_tree
from stager.clock import Clock, SystemClock
from stager.errors import ConflictError

ENTRY_SECONDS = 600.0
"""An entry whose object is missing is left alone for so long: its fetch is perhaps on the way again."""
PARTIAL_SECONDS = 86_400.0
"""How long the bytes of a dead owner wait for somebody to go on with them."""
FOREIGN_SECONDS = 7 * 86_400.0
"""The same where nothing is known of the owner, since it is on another host."""
TRASH_SECONDS = 86_400.0
"""How long what was evicted can be brought back by hand."""
ENTRY, FILE, THROWN = "entry-without-object", "file-without-owner", "trash-past-its-grace"
_DRAFT = ".json."
_PARTIAL_WIDTH = 2
"""Digits of the directories of partial/, whatever the layout."""


class Upkeep:
    """Walks one cache, again and again.

    Args:
        root: of the cache, which exists.
        shards: for the case that it does not.
        clock: for tests.

    Raises:
        CacheError: it can't be read.
    """

    def __init__(
        self, root: str | os.PathLike[str], shards: str = "2+2", *, clock: Clock | None = None
    ) -> None:
        self._tree = open_tree(root, shards)
        self._clock = clock or SystemClock()
        self._migration: Migration | None = None
        self._entries = EntryFiles(self._tree)
        self._round = self._walk()

    def step(self, count: int) -> Counter[str]:
        """Look at the next `count` names; how many of each kind were put right.

        Raises:
            CacheError: the file system failed; the next step begins from the beginning.
        """
        try:
            done = list(islice(self._round, count))
        except OSError as error:
            self._round = self._walk()
            raise cache_error(error, error.filename or self._tree.root, "look through") from error
        if len(done) < count:
            self._round = self._walk()
        return Counter(kind for kind in done if kind)

    def _walk(self) -> Iterator[str]:
        """One look at everything; for each name what was put right, or nothing."""
        self._tree.look_again()
        with suppress(ConflictError):  # somebody migrates it anew: then there will be another last look
            yield from self._last_look()
        for layout in self._tree.layouts:
            for directory in self._leaves(f"{self._tree.root}/{ENTRIES}", layout.widths):
                for name in list_names(directory):
                    yield self._look_at_entry(directory, name)
        for directory in self._leaves(f"{self._tree.root}/{PARTIAL}", (_PARTIAL_WIDTH,)):
            for name in list_names(directory):
                yield self._look_at_partial(f"{directory}/{name}")
        yield from tidy_pins(self._tree)
        for name in list_names(f"{self._tree.root}/{TRASH}"):
            yield self._look_at_trash(f"{self._tree.root}/{TRASH}/{name}")

    def _last_look(self) -> Iterator[str]:
        """A day after a migration: take what a slow writer left in the old layout, and forget that layout.

        If there is something, paths to it stay good until the next round at least.
        """
        migration, self._migration = self._migration, None
        if migration is None:
            found = read_layouts(self._tree.root)
            if found is None or not is_over(found[0], self._clock.time()):
                return
            migration = Migration(self._tree.root, clock=self._clock)
            yield from ("" for _ in migration.name_objects())
            yield from ("" for _ in migration.move_entries())
        if migration.due_in == 0:
            yield from ("" for _ in migration.drop_names())
        if migration.due_in == 0:
            migration.finish()
        else:
            self._migration = migration

    def _leaves(self, directory: str, widths: tuple[int, ...]) -> Iterator[str]:
        if not widths:
            yield directory
            return
        for name in list_names(directory):
            if len(name) == widths[0]:
                yield from self._leaves(f"{directory}/{name}", widths[1:])

    def _look_at_entry(self, directory: str, name: str) -> str:
        digest, draft, owner = name.partition(_DRAFT)
        path = f"{directory}/{name}"
        if draft and _is_dead(owner):
            remove_quietly(path)
            return FILE
        digest = name.removesuffix(".json")
        if digest == name or not is_digest(digest) or _age(path) < ENTRY_SECONDS:
            return ""
        if self._entries.current(digest) is not None:
            return ""
        self._entries.remove(digest)
        return ENTRY

    def _look_at_partial(self, path: str) -> str:
        name = os.path.basename(path)
        owner = name.removesuffix(".new").rpartition(".")[0].rpartition(".")[2]
        if is_here(owner):
            forgotten = not is_alive(owner) and (
                name.endswith((".tmp", ".new")) or _age(path) > PARTIAL_SECONDS
            )
        else:
            forgotten = _age(path) > FOREIGN_SECONDS
        if forgotten:
            remove_quietly(path)
        return FILE if forgotten else ""

    def _look_at_trash(self, path: str) -> str:
        if _age(path) < TRASH_SECONDS:
            return ""
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(FileNotFoundError):
                os.unlink(path)
        return THROWN


def _is_dead(owner: str) -> bool:
    return is_here(owner) and not is_alive(owner)


def _age(path: str) -> float:
    """Seconds since it was changed; 0 when it is gone."""
    try:
        return max(0.0, time.time() - os.stat(path, follow_symlinks=False).st_mtime)
    except OSError:
        return 0.0
