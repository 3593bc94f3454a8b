"""Moving a cache to another layout while it is in use.

1. layout.json names the new layout, and the old one as previous. From here on new files go to the new one, and
   what is not found there is looked for in the old one (see `tree`).
2. Every object gets its name in the new layout *as well*: a path that somebody was given stays good.
3. Every entry is linked into the new layout, then it loses its old name; its time, that of the last access, is
   the file's and goes with it. Symbolic links beside entries are dropped: readers make them again.
4. When everybody has had time to learn of it (`GRACE_SECONDS`), the objects lose their old names.
5. Steps 3 and 4 are taken until nothing is found in the old layout. Then empty directories go, and the old
   layout stays named for a day: a writer that was very slow may still leave something there.

At any moment a file has a name where readers look for it, so a kill costs nothing: the next run goes on. Two
runs at once do the same steps, of which each can be taken twice. A job's inputs are links of their own and
see nothing of it. Where there are no hard links a file is renamed, and the old path leads to the new one by a
symbolic link; a path that was handed out fails for the moment in between.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import file_digest
from typing import TypeVar

from stager.cache.failures import LINK_REFUSED, cache_error
from stager.cache.files import remove_quietly, unless_stale
from stager.cache.fresh import list_names
from stager.cache.layout import (
    ENTRIES,
    JOBS,
    LAYOUT_FILE,
    OBJECTS,
    RESTRICTED,
    Layout,
    Layouts,
    is_digest,
)
from stager.cache.layout_file import change_layouts, read_layouts
from stager.cache.objects import MARK, give_name
from stager.cache.owner import is_alive, is_here, new_owner, retire
from stager.cache.shards import Estimate, batches, remove_empty
from stager.cache.tree import Tree
from stager.clock import Clock, SystemClock
from stager.errors import CacheError, ConflictError, NotACacheError
from stager.model.entries import Entry
from stager.steps import reached

T = TypeVar("T")

GRACE_SECONDS = 90.0
"""How long objects keep their old names: an NFS client may trust what it knew for a minute."""
KEEP_SECONDS = 86_400.0
"""How long the old layout stays named when everything has been moved."""
_DRAFT_SECONDS = 86_400.0
"""The draft of an entry is of a dead owner when it is older than this, if nothing else is known of him."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a migration is.

    Attributes:
        step: what is done: ``objects``, ``entries``, ``waiting`` or ``old names``.
        done: files of this step so far; seconds where it is ``waiting``.
        total: how many it will be, as far as can be told.
    """

    step: str
    done: int
    total: int


class Migration:
    """Moves one cache to one layout; a new one goes on where an earlier one was interrupted.

    Args:
        root: of the cache, which exists.
        shards: of the layout to move to; None: whichever one it is being moved to.
        grace_seconds: how long objects keep their old names.
        clock: for tests.

    Attributes:
        counts: how many ``objects`` and ``entries`` were moved, ``pins`` put right, ``duplicates`` dropped.

    Raises:
        NotACacheError: there is none.
        InputError: `shards` makes no sense.
        CacheError: it can't be read.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        shards: str | None = None,
        *,
        grace_seconds: float = GRACE_SECONDS,
        clock: Clock | None = None,
    ) -> None:
        path = os.path.abspath(os.fspath(root))
        target = None if shards is None else Layout(shards)
        found = _reading(path, lambda: read_layouts(path))
        if found is None:
            raise NotACacheError(
                f"{path} is not a cache", cause=f"it has no {LAYOUT_FILE}", remedy="name the root of a cache"
            )
        self.tree = Tree(path, *found)
        self.target = target or self.tree.layout
        self.counts: Counter[str] = Counter()
        self._grace = grace_seconds
        self._clock = clock or SystemClock()
        self._named_at: float | None = None
        self._late = 0

    @property
    def due_in(self) -> float:
        """Seconds until old names may go."""
        if self._named_at is None:
            return 0.0
        return max(0.0, self._named_at + self._grace - self._clock.monotonic())

    def run(self, wait: Callable[[float], object]) -> Iterator[Progress]:
        """Do all of it; `wait` is called with seconds to wait and may return sooner.

        Raises:
            ConflictError: somebody else moves it to yet another layout.
            CacheError: the file system failed; what was moved stays moved.
        """
        self.announce()
        yield from self.name_objects()
        while True:
            yield from self.move_entries()
            while (left := self.due_in) > 0:
                yield Progress("waiting", round(self._grace - left), round(self._grace))
                wait(min(left, 1.0))
            if self._grace and self._named_at is not None:
                yield Progress("waiting", round(self._grace), round(self._grace))
            yield from self.drop_names()
            if not self._late:
                break
        self.finish()

    def announce(self) -> None:
        """Let layout.json name the new layout.

        Raises:
            ConflictError: somebody else is changing it right now.
            CacheError: it could not be changed.
        """
        if self.tree.layout != self.target:
            self._change(lambda layouts: layouts.towards(self.target))
        reached("migrate.switched")

    def name_objects(self) -> Iterator[Progress]:
        """Give every object its name in the new layout too."""
        total = Estimate()
        for top, layout in self._tops(OBJECTS, RESTRICTED):
            for batch in self._batches(top, layout, total):
                for name in batch:
                    if is_digest(name.removesuffix(MARK)):
                        self._named_at = self._clock.monotonic()
                        self._name(top, layout, name)
                yield Progress("objects", total.done, total.whole)
        yield Progress("objects", total.done, total.done)

    def move_entries(self) -> Iterator[Progress]:
        """Move every entry to the new layout, and let jobs' symbolic links name the new paths."""
        total = Estimate()
        for top, layout in self._tops(ENTRIES):
            for batch in self._batches(top, layout, total, removing=True):
                for name in batch:
                    digest, dot, rest = name.partition(".")
                    if is_digest(digest):
                        self._guarded(self._entry, layout, digest, dot + rest)
                yield Progress("entries", total.done, total.whole)
        yield Progress("entries", total.done, total.done)
        _reading(self.tree.root, self._mend_pins)
        if self._named_at is not None:  # until now somebody could be given an old path
            self._named_at = self._clock.monotonic()

    def drop_names(self) -> Iterator[Progress]:
        """Take from every object its old name, unless it got the new one only now."""
        self._late = 0
        total = Estimate()
        for top, layout in self._tops(OBJECTS, RESTRICTED):
            for batch in self._batches(top, layout, total, removing=True):
                for name in batch:
                    if is_digest(name.removesuffix(MARK)):
                        self._guarded(self._drop, top, layout, name)
                yield Progress("old names", total.done, total.whole)
        yield Progress("old names", total.done, total.done)

    def finish(self) -> None:
        """Remove empty directories; say that everything has been moved, or that it was long enough ago.

        Raises:
            ConflictError: somebody else is changing layout.json right now.
            CacheError: it could not be said.
        """
        self._check()
        for top, layout in self._tops(OBJECTS, RESTRICTED, ENTRIES):
            remove_empty(f"{self.tree.root}/{top}", layout.widths)
        reached("migrate.emptied")
        if len(self.tree.layouts) > 1:
            self._change(self._settled)

    def _settled(self, layouts: Layouts) -> Layouts:
        if layouts.current != self.target:
            return layouts
        now = self._clock.time()
        if layouts.settled_at is None:
            return replace(layouts, settled_at=now)
        return Layouts(self.target, id=layouts.id) if is_over(layouts, now) else layouts

    # -- one file ----------------------------------------------------------------------------------

    def _name(self, top: str, layout: Layout, name: str) -> None:
        old, new = self._paths(top, layout, name)
        if self._guarded(give_name, self.tree, old, new):
            reached("migrate.linked")

    def _drop(self, top: str, layout: Layout, name: str) -> None:
        old, new = self._paths(top, layout, name)
        found = os.lstat(old)
        try:
            there = os.stat(new)
        except FileNotFoundError:
            if give_name(self.tree, old, new):
                self._named_at = self._clock.monotonic()
                self._late += 1
            return
        if not (os.path.samestat(found, there) or os.path.islink(old) or name.endswith(MARK)):
            self.counts["duplicates"] += 1  # published anew by somebody who did not know of the old one
            if found.st_size != there.st_size and not _is_intact(new):
                os.rename(old, new)
                return
        os.unlink(old)
        self.counts["objects"] += not name.endswith(MARK)
        reached("migrate.dropped")

    def _entry(self, layout: Layout, digest: str, rest: str) -> None:
        old, new = self._paths(ENTRIES, layout, digest)
        if rest == "":
            os.unlink(old)  # the link; if its entry is still here, readers do without
        elif rest == ".json":
            self._move_entry(old, new)
        elif is_here(owner := rest.removeprefix(".json.")):
            if not is_alive(owner):
                os.unlink(old + rest)
        elif self._clock.time() - os.stat(old + rest).st_mtime > _DRAFT_SECONDS:
            os.unlink(old + rest)

    def _move_entry(self, old: str, new: str) -> None:
        """The paths are those of the links; the newer one of two entries stays."""
        if not os.access(new + ".json", os.F_OK):
            remove_quietly(new)  # of a reader that was killed when this was the layout before
        try:
            self.tree.creating(new, lambda: os.link(old + ".json", new + ".json"))
        except FileExistsError:
            self._keep_newer(old, new)
        except OSError as error:
            if error.errno not in LINK_REFUSED:
                raise
            if os.access(new + ".json", os.F_OK):
                self._keep_newer(old, new)
            else:
                os.rename(old + ".json", new + ".json")
        reached("migrate.entry")
        remove_quietly(old)
        with suppress(FileNotFoundError):
            os.unlink(old + ".json")
        remove_quietly(old)  # of a reader that was at it
        self.counts["entries"] += 1

    def _keep_newer(self, old: str, new: str) -> None:
        if _stored_at(old + ".json") > _stored_at(new + ".json"):
            remove_quietly(new)
            os.rename(old + ".json", new + ".json")
            remove_quietly(new)

    def _mend_pins(self) -> None:
        """What a job has as a symbolic link names the object's path: the new one from now on."""
        jobs = f"{self.tree.root}/{JOBS}"
        for job in _names(jobs):
            for name in _names(f"{jobs}/{job}/inputs"):
                path = f"{jobs}/{job}/inputs/{name}"
                with suppress(FileNotFoundError):
                    if os.path.islink(path):
                        unless_stale(self._mend_pin, path)

    def _mend_pin(self, path: str) -> None:
        named = os.readlink(path)
        top, _, rest = named.removeprefix(f"{self.tree.root}/").partition("/")
        sha256 = rest.rpartition("/")[2]
        if top not in {OBJECTS, RESTRICTED} or not is_digest(sha256):
            return
        new = f"{self.tree.root}/{top}/{self.target.sharded(sha256)}"
        if named == new or not os.access(new, os.F_OK):
            return
        owner = new_owner()
        private = f"{os.path.dirname(path)}/.{owner}"
        try:
            os.symlink(new, private)
            os.rename(private, path)
        finally:
            remove_quietly(private)
            retire(owner)
        self.counts["pins"] += 1

    # -- inside ------------------------------------------------------------------------------------

    def _paths(self, top: str, layout: Layout, name: str) -> tuple[str, str]:
        digest = name.removesuffix(MARK)
        mark = name[len(digest) :]
        old, new = (f"{self.tree.root}/{top}/{one.sharded(digest)}{mark}" for one in (layout, self.target))
        return old, new

    def _tops(self, *tops: str) -> Iterator[tuple[str, Layout]]:
        return ((top, layout) for layout in self.tree.layouts if layout != self.target for top in tops)

    def _batches(
        self, top: str, layout: Layout, total: Estimate, *, removing: bool = False
    ) -> Iterator[list[str]]:
        root = f"{self.tree.root}/{top}"
        try:
            for batch in batches(root, layout.widths, total, removing=removing):
                self._check()
                yield batch
        except OSError as error:
            raise cache_error(error, error.filename or root, "list") from error

    def _guarded(self, action: Callable[..., object], *arguments: object) -> object:
        """Do `action`; what is gone by now was moved or removed by somebody else."""
        try:
            return unless_stale(action, *arguments)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise cache_error(error, error.filename or self.tree.root, "move") from error

    def _check(self) -> None:
        """Stop if somebody else has begun to move the cache elsewhere."""
        self.tree.look_again()
        if self.tree.layout == self.target:
            return
        if self.target not in self.tree.layouts:  # both began at once, and what we moved has to be found
            self._change(lambda layouts: replace(layouts, previous=(*layouts.previous, self.target)))
        raise ConflictError(
            f"the cache {self.tree.root} is being moved to {self.tree.layout.shards}",
            cause=f"that began while it was moved to {self.target.shards}",
            remedy="let that finish, then move it again",
        )

    def _change(self, change: Callable[[Layouts], Layouts]) -> None:
        root = self.tree.root
        try:
            change_layouts(root, change)
            self.tree.look_again()
        except OSError as error:
            raise cache_error(error, f"{root}/{LAYOUT_FILE}", "write") from error


def is_over(layouts: Layouts, now: float) -> bool:
    """Whether previous layouts need not be named any longer, once nothing is found in them."""
    return layouts.settled_at is not None and now - layouts.settled_at > KEEP_SECONDS


def _reading(path: str, action: Callable[[], T]) -> T:
    try:
        return action()
    except OSError as error:
        raise cache_error(error, error.filename or path, "read") from error


def _names(directory: str) -> list[str]:
    try:
        return list_names(directory)
    except (NotADirectoryError, PermissionError):  # a job's own affair
        return []


def _stored_at(path: str) -> float:
    """When the entry was written; before everything else if it can't be read."""
    try:
        with open(path, "rb") as file:
            return Entry.from_json(file.read()).stored_at
    except (FileNotFoundError, CacheError):
        return -1.0


def _is_intact(path: str) -> bool:
    with open(path, "rb") as file:
        return file_digest(file, "sha256").hexdigest() == os.path.basename(path)
