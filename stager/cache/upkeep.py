"""What nobody will ever ask for again, found a piece at a time: entries without objects, files without owners.

A step looks at so many names and goes on where the last one ended, so that it costs the same however
large the cache is. Whatever is young is left alone: another host may be about to finish it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from itertools import islice

from stager.cache.entries import EntryFiles
from stager.cache.failures import cache_error
from stager.cache.fresh import list_names
from stager.cache.job_directories import JobDirectories
from stager.cache.layout import ENTRIES, PARTIAL, TRASH
from stager.cache.layout_file import read_layouts
from stager.cache.migrate import Migration, is_over
from stager.cache.orphans import Orphan, Orphans
from stager.cache.pin_files import tidy_pins
from stager.cache.tree import open_existing_tree
from stager.clock import Clock, SystemClock
from stager.errors import CacheError, ConflictError

_PARTIAL_WIDTH = 2
"""Digits of the directories of partial/, whatever the layout."""


class Upkeep:
    """Walks one cache, again and again.

    Args:
        root: of the cache, which exists.
        clock: for tests.
        live_jobs: the ids of all jobs that are not over; without it no job's directory is looked at.
        job_seconds: how long the directory of a job stays that is over; 0: for ever.

    Raises:
        NotACacheError: there is none.
        CacheError: it can't be read.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        clock: Clock | None = None,
        live_jobs: Callable[[], Collection[str]] | None = None,
        job_seconds: float = 0.0,
    ) -> None:
        self._tree = open_existing_tree(root)
        self._clock = clock or SystemClock()
        self._migration: Migration | None = None
        self._orphans = Orphans(self._tree, EntryFiles(self._tree))
        self._jobs = JobDirectories(self._tree, live_jobs, job_seconds) if live_jobs else None
        self._round = self._walk()

    def step(self, count: int) -> Counter[str]:
        """Look at the next `count` names; how many of each kind were put right.

        Raises:
            CacheError: the file system failed, or the cache has gone; the next step begins from the beginning.
        """
        try:
            self._tree.check()
            done = list(islice(self._round, count))
        except OSError as error:
            self._round = self._walk()
            raise cache_error(error, error.filename or self._tree.root, "look through") from error
        except CacheError:
            self._round = self._walk()
            raise
        if len(done) < count:
            self._round = self._walk()
        return Counter(kind for kind in done if kind)

    def _walk(self) -> Iterator[str]:
        """One look at everything; for each name what was put right, or nothing."""
        self._orphans.begin()
        self._tree.look_again()
        with suppress(ConflictError):  # somebody migrates it anew: then there will be another last look
            yield from self._last_look()
        for layout in reversed(self._tree.layouts):  # what is moved meanwhile comes later, not never
            for directory in self._leaves(f"{self._tree.root}/{ENTRIES}", layout.widths):
                for name in list_names(directory):
                    yield self._put_right(self._orphans.of_entries(directory, name))
        for directory in self._leaves(f"{self._tree.root}/{PARTIAL}", (_PARTIAL_WIDTH,)):
            for name in list_names(directory):
                yield self._put_right(self._orphans.of_partials(f"{directory}/{name}"))
        yield from tidy_pins(self._tree)
        if self._jobs is not None:
            yield from (
                "" for _ in self._jobs.tidy(self._clock.time())
            )  # nothing to put right: their time is up
        for name in list_names(f"{self._tree.root}/{TRASH}"):
            yield self._put_right(self._orphans.of_trash(f"{self._tree.root}/{TRASH}/{name}"))

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

    def _put_right(self, orphan: Orphan | None) -> str:
        """Remove it, if there is one; its kind."""
        return orphan.kind if orphan is not None and self._orphans.remove(orphan) else ""
