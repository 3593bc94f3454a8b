"""Taking objects out of the cache, each with its entries: entry files, then the object.

The catalogue's row is the caller's. Killed anywhere and run again, nothing is left over: an object without
entries is found by its digest, and what was moved aside is in the trash, which upkeep empties.

What may happen at the same moment, and why it does no harm:

- *A job pins the object.* It has a hard link before we look: the object has a link too many, and stays. It makes
  one between our look and the removal: the job's link is the file now, with all its bytes, and only the cache's
  name is gone. It comes after the removal: it finds no object, which is told to the mapper, and fetched again.
- *A fetch writes an entry of the key.* If it names another object it is not lost: an entry is moved aside in one
  step and only then read, and one that does not name our object is put back, unless a newer one is there already.
  If it names our object (published again, or confirmed) we look for it once more after the object is gone: an
  entry without an object goes as well. One that is written later still is a miss to everybody who asks, and
  upkeep removes it.
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
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

from stager.cache.entries import read_entry
from stager.cache.failures import cache_error
from stager.cache.fresh import list_names
from stager.cache.layout import PINS, TRASH
from stager.cache.objects import MARK, object_names
from stager.cache.owner import new_owner, retire
from stager.cache.pin_files import PinFiles
from stager.cache.pinned import is_pinned, pin_directory
from stager.cache.trash import EVICTING, Trash
from stager.cache.tree import Tree
from stager.errors import CacheError
from stager.model.entries import Entry
from stager.steps import reached

MANY = 1024
"""From so many on, several threads share the work."""
LOCAL_THREADS, REMOTE_THREADS = 2, 8
"""Of a local file system the processor is the limit, of one on the network the time that an answer takes."""
_READ = os.O_RDONLY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Victim:
    """An object that is to go.

    Attributes:
        object: its SHA-256.
        size: its bytes.
        digests: of the keys that are to be forgotten.
        whole: whether these are all its keys; else the object stays.
        restricted: the object needs a grant.
    """

    object: str
    size: int
    digests: tuple[str, ...] = ()
    whole: bool = True
    restricted: bool = False


class Fate(StrEnum):
    """What became of a victim."""

    GONE = "gone"
    """The object and its entries are gone."""
    FORGOTTEN = "forgotten"
    """Its entries are gone; the bytes stay as long as somebody holds them, or as another key has them."""
    HELD = "held"
    """A job or a pin holds it: nothing was changed."""
    FAILED = "failed"
    """The file system refused."""


@dataclass(slots=True)
class Evicted:
    """One victim and its fate.

    Attributes:
        digests: keys that are gone.
        freed: bytes that come back.
        error: why it failed.
    """

    victim: Victim
    fate: Fate = Fate.GONE
    digests: list[str] = field(default_factory=list)
    freed: int = 0
    error: CacheError | None = None


class Evictor:
    """Evicts from one tree.

    Args:
        tree: the cache.
        trash: where objects go on a network file system, whose readers on other hosts may have them open; None:
            they are deleted at once.
    """

    def __init__(self, tree: Tree, trash: Trash | None = None) -> None:
        self._tree = tree
        self._trash = trash
        self._threads = LOCAL_THREADS if trash is None else REMOTE_THREADS

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
            force: forget the keys of held objects as well; their bytes stay until nobody holds them.
            at_once: their bytes are needed now: they do not wait in the trash.
            dry_run: change nothing, and say what would become of them.

        Raises:
            CacheError: layout.json can't be read, the trash can't be used, or the cache has gone; nothing more was
                done.
        """
        self._tree.check()
        self._tree.look_again()
        work = partial(self._evict, held=held, force=force, at_once=at_once, dry_run=dry_run)
        if len(victims) < MANY:
            return work(victims)
        ordered = sorted(victims, key=_by_object)
        size = -(-len(ordered) // self._threads)
        parts = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        with ThreadPoolExecutor(self._threads, "evict") as pool:
            return [one for done in pool.map(work, parts) for one in done]

    def _evict(
        self, victims: Sequence[Victim], *, held: Collection[str], force: bool, at_once: bool, dry_run: bool
    ) -> list[Evicted]:
        """See `evict`."""
        trash = None if at_once else self._trash
        done = [Evicted(victim) for victim in sorted(victims, key=_by_object)]
        if dry_run:
            for one in self._going(done, held, force=force):
                one.digests = list(one.victim.digests)
                one.freed = one.victim.size if one.fate is Fate.GONE else 0
            return done
        with self._aside() as aside:  # before the look for pins: who pins from now on waits for us
            going = self._going(done, held, force=force)
            reached("evict.begun")
            keys = sorted(((digest, one) for one in going for digest in one.victim.digests), key=_by_digest)
            for digest, one in keys:
                self._forget(digest, one, aside)
            reached("evict.entries")
            for one in going:
                if one.fate is Fate.GONE:
                    self._remove(one, trash)
            reached("evict.objects")
            self._bring_back(going)
            for digest, one in keys:
                if one.fate is Fate.GONE and os.access(self._tree.entry(digest), os.F_OK):
                    self._look_again(digest, one, aside)
        reached("evict.cleaned")
        self._tree.check()  # in a cache that has gone nothing is gone
        return done

    def _going(self, done: list[Evicted], held: Collection[str], *, force: bool) -> list[Evicted]:
        """Those of which something goes."""
        pins = self._any_pins()
        return [one for one in done if self._may_go(one, held, force=force, pins=pins)]

    def _may_go(self, one: Evicted, held: Collection[str], *, force: bool, pins: bool) -> bool:
        """Whether something of it goes; what becomes of its object is noted."""
        victim = one.victim
        if not victim.whole:
            one.fate = Fate.FORGOTTEN
            return True
        try:
            is_held = victim.object in held or self._is_held(victim)
            is_held = is_held or (pins and self._is_pinned(victim.object))
        except OSError as error:
            self._failed(one, error)
            return False
        if is_held:
            one.fate = Fate.FORGOTTEN if force else Fate.HELD
        return force or not is_held

    def _is_held(self, victim: Victim) -> bool:
        """Whether the object has links beside its names of the cache itself."""
        own, links = 0, 0
        for name in object_names(self._tree, victim.object, restricted=victim.restricted):
            with suppress(FileNotFoundError):
                links = max(links, self._links(name))
                own += 1
        return links > own

    def _is_pinned(self, sha256: str) -> bool:
        if self._trash is None and not os.access(pin_directory(self._tree, sha256), os.F_OK):
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

    def _links(self, name: str) -> int:
        if self._trash is None:
            return os.stat(name).st_nlink
        fd = os.open(name, _READ)  # on a network file system only opening it asks the server
        try:
            return os.fstat(fd).st_nlink
        finally:
            os.close(fd)

    def _remove(self, one: Evicted, trash: Trash | None) -> None:
        victim = one.victim
        try:
            for name in object_names(self._tree, victim.object, restricted=victim.restricted):
                if os.access(name + MARK, os.F_OK):
                    with suppress(FileNotFoundError):
                        os.unlink(name + MARK)
                with suppress(FileNotFoundError):
                    if trash is None:
                        os.unlink(name)
                    else:
                        trash.throw(name, victim.object)
                    one.freed = victim.size
        except OSError as error:
            self._failed(one, error)

    def _forget(self, digest: str, one: Evicted, aside: str) -> None:
        """Remove the key's entry if it names the object; afterwards the key is gone, or has another one."""
        try:
            for layout in reversed(
                self._tree.layouts
            ):  # the current one last: then no migration brings it back
                path = f"{self._tree.root}/{layout.entry(digest)}"
                if not self._forget_at(path, one.victim.object, f"{aside}/{digest}"):
                    return
        except OSError as error:
            self._failed(one, error)
        else:
            one.digests.append(digest)

    @staticmethod
    def _forget_at(path: str, sha256: str, private: str) -> bool:
        """Whether there is no entry at `path` afterwards."""
        try:
            os.rename(path, private)
        except FileNotFoundError:
            ours = True
        else:
            reached("evict.aside")
            ours = _names(private, sha256)
            if not ours:
                with suppress(FileExistsError):
                    os.link(private, path)
            os.unlink(private)
        link = path[: -len(".json")]
        if ours and os.access(
            link, os.F_OK, follow_symlinks=False
        ):  # last: a reader may have been at making it
            with suppress(FileNotFoundError):
                os.unlink(link)
        return ours

    def _look_again(self, digest: str, one: Evicted, aside: str) -> None:
        """There is an entry again: it goes too if it names the object and that was not published again."""
        path = self._tree.object(one.victim.object, restricted=one.victim.restricted)
        one.digests = [other for other in one.digests if other != digest]
        if not os.access(path, os.F_OK):
            self._forget(digest, one, aside)

    def _failed(self, one: Evicted, error: OSError) -> None:
        victim = one.victim
        path = error.filename or self._tree.object(victim.object, restricted=victim.restricted)
        one.fate, one.error = Fate.FAILED, cache_error(error, path, "evict")

    @contextmanager
    def _aside(self) -> Iterator[str]:
        """A directory of our own, empty again in the end. What a kill leaves in it goes with the trash."""
        owner = new_owner()
        path = f"{self._tree.root}/{TRASH}/{EVICTING}{owner}"
        try:
            self._tree.make_directory(path)
            try:
                yield path
            finally:
                for name in list_names(path):  # of those that failed half-way
                    with suppress(OSError):
                        os.unlink(f"{path}/{name}")
                os.rmdir(path)
        except OSError as error:
            raise cache_error(error, path, "use") from error
        finally:
            retire(owner)


def _by_object(victim: Victim) -> str:
    return victim.object


def _by_digest(key: tuple[str, Evicted]) -> str:
    return key[0]


def _names(path: str, sha256: str) -> bool:
    """Whether the entry names that object; one that nobody can read may go with any."""
    fd = os.open(path, _READ)
    try:
        text = read_entry(fd)
    finally:
        os.close(fd)
    if f'"object":"{sha256}"'.encode() in text:
        return True
    try:
        return Entry.from_json(text).object == sha256
    except CacheError as error:
        return type(error) is CacheError  # damaged; not of a newer version
