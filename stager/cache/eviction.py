"""Taking objects out of the cache, each with its entries: entry files, then the object.

The catalogue's row is the caller's. Killed anywhere and run again, nothing is left over: an object without
entries is found by its digest, and what was moved aside is in the trash, which upkeep empties.

What may happen at the same moment, and why it does no harm:

- *A job pins the object.* It has a hard link before we look: the object has a link too many, and stays. It makes
  one between our look and the removal: the job's link is the file now, with all its bytes, and only the cache's
  name is gone. It comes after the removal: it finds no object, which is told to the mapper, and fetched again.
- *A fetch writes an entry of the key.* If it names another object it is not lost: see `entry_removal`. If it names our object (published again, or confirmed) we look for it once more after the object is gone: an
  entry without an object goes as well. One that is written later still is a miss to everybody who asks, and
  upkeep removes it.
- *Another key gets the same bytes*, and the caller does not know of it yet: whoever finds an object made renews its
  time and marks it as shared, before the entry. An object with a time or a mark that is newer than what the caller
  knows stays (see `_is_news`), and what is stored again while it goes comes back (see `object_removal`).
- *Another host evicts the same.* Each name is removed by exactly one; who finds it gone goes on.
- *Somebody pins it.* The pin's record is looked for after our directory in the trash was made: who writes one
  later sees that, and waits until we are done before he says that it is pinned. What has a record by then is
  brought back (see `pin_files`).
- *A migration* gives the object a second name of the cache's own: those are known by the layouts and counted
  apart. A layout that we don't know of yet makes an object look held, and it stays.

Where hard links are refused the input of a job is a symbolic link, which no count of links shows: the caller says
what is held.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache, partial

from stager.cache.aside import Aside
from stager.cache.entry_removal import aside, parse, remove_entry
from stager.cache.failures import cache_error
from stager.cache.files import unless_stale
from stager.cache.fresh import list_names
from stager.cache.layout import PINS
from stager.cache.mounts import mount_of
from stager.cache.object_removal import names_of_object, remove_names
from stager.cache.objects import MARK
from stager.cache.pin_files import PinFiles
from stager.cache.pinned import is_pinned, pin_directory
from stager.cache.stamp import file_system_time
from stager.cache.trash import Trash
from stager.cache.tree import Tree
from stager.errors import CacheError
from stager.steps import reached

MANY = 1024
"""From so many on, several threads share the work."""
MEMORY_THREADS, DISK_THREADS, REMOTE_THREADS = 1, 4, 8
"""Of a file system in memory the processor is the limit, of others the time that an answer takes."""
YOUNG_SECONDS = 3600.0
"""An object without a key, or marked as shared when one key is known, may be about to get another for so long."""
NEWS_SECONDS = 86_400.0
"""So long after somebody stored the same bytes the caller may not know of it: a day has many looks at the tree."""
SLACK_SECONDS = 60.0
"""By how much the clocks of hosts and of the file system may differ."""


@dataclass(frozen=True, slots=True)
class Victim:
    """An object that is to go.

    Attributes:
        object: its SHA-256.
        size: its bytes.
        digests: of the keys that are to be forgotten.
        whole: whether these are all its keys; else the object stays.
        restricted: the object needs a grant.
        known: until when the caller knows who stored these bytes, seconds since 1970 UTC; None: of all of them.
    """

    object: str
    size: int
    digests: tuple[str, ...] = ()
    whole: bool = True
    restricted: bool = False
    known: float | None = None


class Fate(StrEnum):
    """What became of a victim."""

    GONE = "gone"
    """The object and its entries are gone."""
    FORGOTTEN = "forgotten"
    """Its entries are gone; the bytes stay as long as somebody holds them, or as another key has them."""
    HELD = "held"
    """A job or a pin holds it: nothing was changed."""
    PROMISED = "promised"
    """One of its entries is promised to stay, which its row does not say: what is left of it stays."""
    NEWS = "news"
    """Another key may name it that the caller does not know of: nothing was changed."""
    FAILED = "failed"
    """The file system refused."""


@dataclass(slots=True)
class Evicted:
    """One victim and its fate.

    Attributes:
        digests: keys that are gone.
        freed: bytes that come back.
        error: why it failed.
        file: device and inode of the object, if it is there.
        changed: when it, or its mark, was last changed, in nanoseconds.
        marked: whether it is marked as shared.
    """

    victim: Victim
    fate: Fate = Fate.GONE
    digests: list[str] = field(default_factory=list)
    freed: int = 0
    error: CacheError | None = None
    file: tuple[int, int] | None = None
    changed: int = 0
    marked: bool = False


class Evictor:
    """Evicts from one tree.

    Args:
        tree: the cache.
        trash: where objects go on a network file system, whose readers on other hosts may have them open; None:
            they are deleted at once.
        now: the time, for promises.

    Attributes:
        in_memory: whether its file system is in memory.
        now: the time.
    """

    def __init__(
        self, tree: Tree, trash: Trash | None = None, *, now: Callable[[], float] = time.time
    ) -> None:
        self._tree = tree
        self._trash = trash
        self.now = now
        mount = mount_of(tree.root)
        self.in_memory = mount is not None and mount.fstype in {"tmpfs", "ramfs"}
        self._threads = REMOTE_THREADS if tree.remote else MEMORY_THREADS if self.in_memory else DISK_THREADS

    @property
    def whose(self) -> tuple[str, str]:
        """Root and id of the cache."""
        return self._tree.root, self._tree.id

    def throws(self, *, at_once: bool) -> bool:
        """Whether objects go to the trash."""
        return self._trash is not None and not at_once

    def evict(
        self,
        victims: Sequence[Victim],
        *,
        held: Collection[str] = (),
        force: bool = False,
        at_once: bool = False,
        dry_run: bool = False,
    ) -> list[Evicted]:
        """Evict these together, directory by directory; what can't go is said, and does not keep the others.

        Some thousands are evicted faster than as many single ones, since neighbours share directories.

        Args:
            victims: different objects.
            held: objects (by digest) that stay whatever their links say.
            force: forget the keys of held objects as well, and promised ones; bytes stay until nobody holds them.
            at_once: their bytes are needed now: they do not wait in the trash.
            dry_run: change nothing, and say what would become of them.

        Raises:
            CacheError: layout.json can't be read, the trash can't be used, or the cache has gone; nothing more was
                done.
        """
        work = partial(self.evict_here, held=held, force=force, at_once=at_once, dry_run=dry_run)
        if len(victims) < MANY or self._threads == 1:
            return work(victims)
        ordered = sorted(victims, key=_by_object)
        size = -(-len(ordered) // self._threads)
        parts = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        with ThreadPoolExecutor(self._threads, "evict") as pool:
            return [one for done in pool.map(work, parts) for one in done]

    def evict_here(
        self,
        victims: Sequence[Victim],
        *,
        held: Collection[str] = (),
        force: bool = False,
        at_once: bool = False,
        dry_run: bool = False,
    ) -> list[Evicted]:
        """The same in this thread alone."""
        self._tree.check()
        self._tree.look_again()
        trash = None if at_once else self._trash
        done = [Evicted(victim) for victim in sorted(victims, key=_by_object)]
        if dry_run:
            with closing(Aside(self._tree, self._tree.root)) as own:  # only to look
                for one in self._going(done, own, held, force=force):
                    one.digests = list(one.victim.digests)
                    one.freed = one.victim.size if one.fate is Fate.GONE else 0
            return done
        with aside(self._tree) as own:  # before the look for pins: who pins from now on waits for us
            going = self._going(done, own, held, force=force)
            reached("evict.begun")
            keys = sorted(((digest, one) for one in going for digest in one.victim.digests), key=_by_digest)
            for digest, one in keys:
                own.show()
                self._forget(digest, one, own, force=force)
            reached("evict.entries")
            for one in going:
                own.show()
                if one.fate is Fate.GONE:
                    self._remove(one, own, trash)
            reached("evict.objects")
            self._bring_back(going)
            for digest, one in keys:
                if one.fate in {Fate.GONE, Fate.FORGOTTEN} and os.access(
                    self._tree.layout.entry(digest), os.F_OK, dir_fd=own.root
                ):
                    self._look_again(digest, one, own)
        reached("evict.cleaned")
        self._tree.check()  # in a cache that has gone nothing is gone
        return done

    def _going(self, done: list[Evicted], own: Aside, held: Collection[str], *, force: bool) -> list[Evicted]:
        """Those of which something goes."""
        pins = self._any_pins()
        clock = cache(partial(file_system_time, self._tree))
        return [one for one in done if self._may_go(one, own, held, clock, force=force, pins=pins)]

    def _may_go(
        self,
        one: Evicted,
        own: Aside,
        held: Collection[str],
        clock: Callable[[], float],
        *,
        force: bool,
        pins: bool,
    ) -> bool:
        """Whether something of it goes; what becomes of its object is noted."""
        victim = one.victim
        if not victim.whole:
            one.fate = Fate.FORGOTTEN
            return True
        try:
            is_held = (
                self._is_linked(one, own)
                or victim.object in held
                or (pins and self._is_pinned(victim.object))
            )
            is_news = not is_held and _is_news(one, clock)
        except OSError as error:
            self._failed(one, error)
            return False
        if is_held or is_news:
            one.fate = Fate.FORGOTTEN if force else Fate.HELD if is_held else Fate.NEWS
        return force or not (is_held or is_news)

    def _is_linked(self, one: Evicted, own: Aside) -> bool:
        """Whether the object has links beside its names of the cache itself; its time and its mark are noted."""
        names, links = 0, 0
        for name in names_of_object(self._tree, one.victim.object, restricted=one.victim.restricted):
            with suppress(FileNotFoundError):
                found = own.status(name)
                links = max(links, found.st_nlink)
                one.file = found.st_dev, found.st_ino
                one.changed = max(one.changed, found.st_mtime_ns)
                names += 1
            mark = name + MARK
            if os.access(mark, os.F_OK, dir_fd=own.root):
                with suppress(FileNotFoundError):
                    marked = unless_stale(os.stat, mark, dir_fd=own.root)
                    one.changed = max(one.changed, marked.st_mtime_ns)
                    one.marked = True
        return links > names

    def _is_pinned(self, sha256: str) -> bool:
        if not self._tree.remote and not os.access(pin_directory(self._tree, sha256), os.F_OK):
            return False
        return is_pinned(self._tree, sha256)

    def _bring_back(self, going: list[Evicted]) -> None:
        """What was pinned while it was evicted stays."""
        if not self._any_pins():
            return
        for one in going:
            victim = one.victim
            if one.fate is Fate.GONE and self._is_pinned(victim.object):
                PinFiles(self._tree).bring_back(victim.object, restricted=victim.restricted)
                one.fate, one.freed = Fate.FORGOTTEN, 0

    def _any_pins(self) -> bool:
        return bool(list_names(f"{self._tree.root}/{PINS}"))

    def _remove(self, one: Evicted, own: Aside, trash: Trash | None) -> None:
        victim = one.victim
        names = names_of_object(self._tree, victim.object, restricted=victim.restricted)
        try:
            gone = remove_names(
                own,
                victim.object,
                names,
                restricted=victim.restricted,
                changed=one.changed,
                marked=one.marked,
                trash=trash,
            )
        except OSError as error:
            self._failed(one, error)
            return
        if gone is False:
            one.fate = Fate.FORGOTTEN
        elif gone:
            one.freed = victim.size

    def _forget(self, digest: str, one: Evicted, own: Aside, *, force: bool) -> None:
        """Remove the key's entry if it names the object; afterwards the key is gone, or has another one."""

        def may_go(text: bytes) -> bool:
            if not _names(text, one.victim.object):
                return False
            if force or not self._is_promised(text):
                return True
            one.fate = Fate.PROMISED
            return False

        try:
            if remove_entry(own, digest, may_go)[1]:
                one.digests.append(digest)
        except OSError as error:
            self._failed(one, error)

    def _is_promised(self, text: bytes) -> bool:
        if b'"keep_until":null' in text:
            return False
        entry = parse(text)
        return entry is not None and entry.keep_until is not None and entry.keep_until > self.now()

    def _look_again(self, digest: str, one: Evicted, own: Aside) -> None:
        """There is an entry again: it goes too if it names the object and that was not published again."""
        path = self._tree.object(one.victim.object, restricted=one.victim.restricted)
        one.digests = [other for other in one.digests if other != digest]
        if not os.access(path, os.F_OK):
            self._forget(digest, one, own, force=True)

    def _failed(self, one: Evicted, error: OSError) -> None:
        victim = one.victim
        path = os.path.join(
            self._tree.root,
            error.filename or self._tree.object(victim.object, restricted=victim.restricted),
        )
        one.fate, one.error = Fate.FAILED, cache_error(error, path, "evict")


def _by_object(victim: Victim) -> str:
    return victim.object


def _by_digest(key: tuple[str, Evicted]) -> str:
    return key[0]


def _names(text: bytes, sha256: str) -> bool:
    """Whether the entry names that object; one that nobody can read may go with any."""
    if f'"object":"{sha256}"'.encode() in text:
        return True
    try:
        entry = parse(text)
    except CacheError:  # of a newer version
        return False
    return entry is None or entry.object == sha256


def _is_news(one: Evicted, clock: Callable[[], float]) -> bool:
    """Whether a key may name the object that the caller does not know of."""
    victim, changed = one.victim, one.changed / 1e9
    if victim.known is None or one.file is None:
        return False
    doubtful = len(victim.digests) < (2 if one.marked else 1)
    newer = (
        one.marked and changed > victim.known + SLACK_SECONDS
    )  # unmarked: only its own key's time is told otherwise
    if not (doubtful or newer):
        return False
    age = clock() - changed
    return -SLACK_SECONDS < age < (NEWS_SECONDS if newer else YOUNG_SECONDS)
