"""What nobody will ever ask for: entries without objects, objects without entries, files whose owner is gone.

Each is left alone while it is young: somebody may be about to finish it, here or on another host. How old it is
is told by the clock that stamps the files, which need not be this host's.
"""

from __future__ import annotations

import os
import shutil
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from stager.cache.entries import EntryFiles
from stager.cache.entry_removal import aside, give_back, remove_vacant
from stager.cache.files import remove_quietly
from stager.cache.fresh import list_names, status
from stager.cache.layout import PARTIAL, RESTRICTED, TRASH, is_digest, is_hex
from stager.cache.object_removal import names_of_object, remove_names
from stager.cache.objects import MARK, find_object, object_names
from stager.cache.owner import is_alive, is_here
from stager.cache.pin_files import PinFiles
from stager.cache.pinned import is_pinned
from stager.cache.scrub import ObjectName, objects_in_order
from stager.cache.stamp import file_system_time
from stager.cache.trash import DAMAGED, EVICTING
from stager.cache.tree import Tree

YOUNG_SECONDS = 3600.0
"""Whatever is younger is left alone."""
PARTIAL_SECONDS = 86_400.0
"""How long the bytes of a dead owner wait for somebody to go on with them."""
FOREIGN_SECONDS = 7 * 86_400.0
"""The same where nothing is known of the owner, since it is on another host."""
TRASH_SECONDS = 86_400.0
"""How long what was evicted can be brought back by hand."""
QUARANTINE_SECONDS = 30 * 86_400.0
"""How long what was found damaged can be looked at."""
ENTRY, OBJECT, FILE, THROWN = (
    "entry-without-object",
    "object-without-entry",
    "file-without-owner",
    "trash-past-its-grace",
)
KINDS = (ENTRY, OBJECT, FILE, THROWN)
_DRAFT = ".json."
_PRIVATE = (".tmp", ".new")
"""Endings of what is never gone on with."""


@dataclass(frozen=True, slots=True)
class Orphan:
    """Something that may go.

    Attributes:
        kind: one of `KINDS`.
        path: where it is.
        name: digest of the key of an entry; of an object its own; else empty.
    """

    kind: str
    path: str
    name: str = ""


class Orphans:
    """Finds and removes them.

    Args:
        tree: the cache.
        entries: its entries.
        least_seconds: whatever is younger is left alone, also where its kind may go sooner.
    """

    def __init__(self, tree: Tree, entries: EntryFiles, *, least_seconds: float = 0.0) -> None:
        self._tree = tree
        self._entries = entries
        self._least = least_seconds
        self._now = time.time()

    def begin(self) -> None:
        """Look at the clock of the file system.

        Raises:
            CacheError: the cache has gone.
        """
        self._tree.check()
        self._now = file_system_time(self._tree)

    # -- one name at a time ----------------------------------------------------------------------

    def of_entries(self, directory: str, name: str) -> Orphan | None:
        """A name in a directory of entries/, if it may go."""
        digest, draft, owner = name.partition(_DRAFT)
        path = f"{directory}/{name}"
        if draft:
            grace = self._least if _is_dead(owner) else FOREIGN_SECONDS
            return Orphan(FILE, path) if self._is_older(path, grace) and not is_alive(owner) else None
        digest = name.removesuffix(".json")
        if digest == name or not is_digest(digest) or not self._is_older(path, YOUNG_SECONDS):
            return None
        return None if self._entries.current(digest) is not None else Orphan(ENTRY, path, digest)

    def of_partials(self, path: str) -> Orphan | None:
        """A file in a directory of partial/, if it may go."""
        name = os.path.basename(path)
        owner = name.removesuffix(".new").rpartition(".")[0].rpartition(".")[2]
        if is_here(owner):
            grace = self._least if name.endswith(_PRIVATE) else PARTIAL_SECONDS
            forgotten = not is_alive(owner) and self._is_older(path, grace)
        else:
            forgotten = self._is_older(path, FOREIGN_SECONDS)
        return Orphan(FILE, path) if forgotten else None

    def of_trash(self, path: str) -> Orphan | None:
        """A name in trash/, if it may go."""
        grace = TRASH_SECONDS
        with suppress(NotADirectoryError):
            if any(name.startswith(DAMAGED) for name in list_names(path)):
                grace = QUARANTINE_SECONDS
        return Orphan(THROWN, path) if self._is_older(path, grace) else None

    # -- all of a kind ---------------------------------------------------------------------------

    def files(self) -> Iterator[Orphan]:
        """Of partial/ and trash/.

        Raises:
            OSError: a directory can't be read.
        """
        top = f"{self._tree.root}/{PARTIAL}"
        for shard in filter(is_hex, list_names(top)):
            for name in list_names(f"{top}/{shard}"):
                if found := self.of_partials(f"{top}/{shard}/{name}"):
                    yield found
        for name in list_names(f"{self._tree.root}/{TRASH}"):
            if found := self.of_trash(f"{self._tree.root}/{TRASH}/{name}"):
                yield found

    def objects(self, named: NamedObjects) -> Iterator[Orphan]:
        """Objects that no entry names and that nobody holds.

        Args:
            named: those that entries name, all of them.

        Raises:
            CacheError: the cache has gone, or a directory can't be read.
            OSError: the file system failed.
        """
        for name in objects_in_order(self._tree):
            if name.sha256 in named:
                continue
            found = find_object(self._tree, name.sha256, restricted=name.restricted)
            if found is not None and self._is_unheld(name, found[1]):
                yield Orphan(OBJECT, found[0], name.sha256)

    def _is_unheld(self, name: ObjectName, found: os.stat_result) -> bool:
        """Whether nobody has a link of it, and it and its mark are old; a link made or removed counts as a change."""
        names = object_names(self._tree, name.sha256, restricted=name.restricted)
        own = sum(os.access(path, os.F_OK) for path in names)
        marks = (mark.st_mtime for mark in _marks(self._tree, name))
        changed = max(found.st_mtime, found.st_ctime, *marks)
        return found.st_nlink <= own and self._now - changed > YOUNG_SECONDS

    # -- away with it ----------------------------------------------------------------------------

    def remove(self, orphan: Orphan) -> bool:
        """Remove it; False when it is in use again, or gone.

        Raises:
            CacheError: the cache has gone, or the file system refused.
            OSError: it is still there.
        """
        self._tree.check()
        if orphan.kind == ENTRY:
            return bool(remove_vacant(self._tree, [orphan.name]))
        if orphan.kind == OBJECT:
            return self._remove_object(orphan)
        if os.path.basename(orphan.path).startswith(EVICTING):
            give_back(self._tree, orphan.path)
        elif os.path.isdir(orphan.path):
            shutil.rmtree(orphan.path, ignore_errors=True)
        else:
            remove_quietly(orphan.path)
        return True

    def _remove_object(self, orphan: Orphan) -> bool:
        """As an object is evicted: whoever stores or pins it at the same moment keeps it."""
        tree, restricted = self._tree, orphan.path.startswith(f"{self._tree.root}/{RESTRICTED}/")
        name = ObjectName(orphan.name, restricted)
        with aside(tree) as own:  # before the look: who pins from now on waits for us
            found = find_object(tree, name.sha256, restricted=restricted)
            if found is None or not self._is_unheld(name, found[1]) or is_pinned(tree, name.sha256):
                return False
            marks = _marks(tree, name)
            gone = remove_names(
                own,
                name.sha256,
                names_of_object(tree, name.sha256, restricted=restricted),
                restricted=restricted,
                changed=max(one.st_mtime_ns for one in (found[1], *marks)),
                marked=bool(marks),
            )
            return bool(gone) and not PinFiles(tree).bring_back(name.sha256, restricted=restricted)

    def _is_older(self, path: str, seconds: float) -> bool:
        """Whether it was last changed longer ago; what is gone is not."""
        try:
            return self._now - os.stat(path, follow_symlinks=False).st_mtime >= seconds
        except OSError:
            return False


class NamedObjects:
    """The objects that entries name: 8 bytes each, sorted when the first is asked for.

    Of two objects whose digests begin with the same 8 bytes the one would be taken for the other: then an
    orphan stays.
    """

    def __init__(self) -> None:
        self._parts = array("Q")
        self._sorted = True

    def add(self, sha256: str) -> None:
        """An entry names it."""
        self._parts.append(int(sha256[:16], 16))
        self._sorted = False

    def __contains__(self, sha256: object) -> bool:
        if not self._sorted:
            self._parts = array("Q", sorted(self._parts))
            self._sorted = True
        part = int(str(sha256)[:16], 16)
        at = bisect_left(self._parts, part)
        return at < len(self._parts) and self._parts[at] == part

    def __len__(self) -> int:
        return len(self._parts)


def _marks(tree: Tree, name: ObjectName) -> list[os.stat_result]:
    """The marks that the object is shared, beside any of its names."""
    paths = object_names(tree, name.sha256, restricted=name.restricted)
    return [found for path in paths if (found := status(path + MARK)) is not None]


def _is_dead(owner: str) -> bool:
    return is_here(owner) and not is_alive(owner)
