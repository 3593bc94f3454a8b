"""Reading the tree itself: what files there are, a piece at a time, whatever changes meanwhile.

A file is an entry whose object is there with the entry's size. Objects that no entry names are found by their
names. While a migration goes on files are looked for in all layouts, the oldest first: a file that is moved has
its new name before it loses the old one, so it is met at least once.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from stager.cache.files import unless_stale
from stager.cache.fresh import list_names, list_pieces
from stager.cache.layout import ENTRIES, OBJECTS, RESTRICTED, Layout, is_digest
from stager.cache.objects import find_object
from stager.cache.shards import is_shard
from stager.cache.tree import open_existing_tree
from stager.model.catalogue import FileRow, row_of_entry, unnamed_row

PIECE = 1024
"""Names looked at in one go."""
_MAX_BYTES = 1 << 20
"""An entry is some hundred bytes; more than this is none."""
_decode = json.JSONDecoder().raw_decode
_ENDING = ".json"
_READ = os.O_RDONLY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the tree that can be read on its own, in another process too.

    Attributes:
        folder: entries, objects or restricted.
        layout: whose directories they are.
        shards: directories of its first level; of a flat layout the empty name.
    """

    folder: str
    layout: Layout
    shards: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """An object that is there, by its name."""

    sha256: str
    restricted: bool


class TreeReader:
    """Reads one cache, which exists.

    Args:
        root: of the cache.
        cache_id: of the cache that it has to be; None: any.

    Raises:
        NotACacheError: there is none.
        CacheError: it is another one, or can't be read.
    """

    def __init__(self, root: str | os.PathLike[str], cache_id: str | None = None) -> None:
        self.tree = open_existing_tree(root, cache_id)
        self.root = self.tree.root

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """In which files may be now; another process may change them. Raises `CacheGoneError`."""
        self.tree.check()
        self.tree.look_again()
        return self.tree.layouts

    # -- all there is ----------------------------------------------------------------------------

    def parts(self, folder: str, size: int = 4) -> list[Part]:
        """The tree below `folder` in parts of at most `size` directories of the first level.

        Raises:
            OSError: a directory can't be read.
        """
        found = []
        for layout in reversed(self.layouts):
            names = sorted(list_names(f"{self.root}/{folder}")) if layout.widths else [""]
            shards = [name for name in names if not name or is_shard(name, layout.widths)]
            starts = range(0, len(shards), size)
            found += [Part(folder, layout, tuple(shards[start : start + size])) for start in starts]
        return found

    def entries(self, part: Part, *, checked: bool = True) -> Iterator[list[FileRow]]:
        """The files of a part, at most `PIECE` at a time, in the order of the keys' digests if it has levels.

        Args:
            part: of the entries.
            checked: look at each object; else an entry is believed, which takes three quarters of the time.

        Raises:
            OSError: the file system failed.
        """
        rows: list[FileRow] = []
        for directory, names in self._listed(part):
            with _opened(directory) as at:
                for name in names:
                    if name.endswith(_ENDING) and is_digest(name[:-5]):
                        row = self._row(directory, name, at, checked=checked)
                        if row is not None:
                            rows.append(row)
            if len(rows) >= PIECE:
                yield rows
                rows = []
        yield rows

    def objects(self, part: Part) -> Iterator[list[Seen]]:
        """The objects of a part, by their names alone, at most about `PIECE` at a time.

        Raises:
            OSError: the file system failed.
        """
        for names in self.object_names(part):
            yield [Seen(name, part.folder == RESTRICTED) for name in names]

    def object_names(self, part: Part) -> Iterator[list[str]]:
        """The same, as digests; never an empty list; in order if the part has levels.

        Raises:
            OSError: the file system failed.
        """
        found: list[str] = []
        for _, names in self._listed(part):
            found += [name for name in names if is_digest(name)]
            if len(found) >= PIECE:
                yield found
                found = []
        if found:
            yield found

    def _listed(self, part: Part) -> Iterator[tuple[str, list[str]]]:
        for shard in part.shards:
            top = f"{self.root}/{part.folder}/{shard}".rstrip("/")
            for directory in _leaves(top, part.layout.widths[1:]):
                if part.layout.widths:
                    yield directory, sorted(list_names(directory))
                    continue
                for names in list_pieces(directory, PIECE):
                    yield directory, names

    # -- some of it ------------------------------------------------------------------------------

    def rows(self, digests: Iterable[str]) -> dict[str, FileRow]:
        """The files of the keys with these digests, as they are now; those that are not there are left out.

        Raises:
            CacheError: layout.json can't be read.
            OSError: the file system failed.
        """
        found = {}
        digests = list(digests)
        for digest in digests:
            row = self.tree.seek(lambda layout, digest=digest: self._look(layout, digest))  # type: ignore[misc]
            if row is not None:
                found[digest] = row
        if len(found) < len(digests):
            self.tree.check()  # in a cache that has gone nothing is gone
        return found

    def unnamed(self, seen: Iterable[tuple[Seen, str | None]]) -> list[FileRow]:
        """The rows of objects that no entry names (with the digest of the key that had them), if they are there.

        Raises:
            CacheError: layout.json can't be read.
            OSError: the file system failed.
        """
        rows = []
        for one, former in seen:
            found = find_object(self.tree, one.sha256, restricted=one.restricted)
            if found is not None and stat.S_ISREG(found[1].st_mode):
                made = min(found[1].st_mtime, time.time())
                rows.append(
                    unnamed_row(one.sha256, found[1].st_size, made, restricted=one.restricted, former=former)
                )
        return rows

    def beginning(self, letters: str) -> list[Seen]:
        """Objects whose digests begin with these hexadecimal digits, in order; the shards lead to them.

        Raises:
            OSError: a directory can't be read.
        """
        found = set()
        for layout in reversed(self.layouts):
            for folder in (OBJECTS, RESTRICTED):
                for directory in _leaves_of(f"{self.root}/{folder}", layout.widths, letters):
                    names = (name for name in list_names(directory) if is_digest(name))
                    found |= {Seen(name, folder == RESTRICTED) for name in names if name.startswith(letters)}
        return sorted(found, key=lambda one: one.sha256)

    def object_path(self, one: Seen) -> str:
        """Where the object is, or would be.

        Raises:
            OSError: the file system failed.
        """
        found = find_object(self.tree, one.sha256, restricted=one.restricted)
        return self.tree.object(one.sha256, restricted=one.restricted) if found is None else found[0]

    # -- inside ----------------------------------------------------------------------------------

    def _look(self, layout: Layout, digest: str) -> FileRow | None:
        directory, _, name = f"{self.root}/{layout.entry(digest)}".rpartition("/")
        return self._row(directory, name)

    def _row(
        self, directory: str, name: str, at: int | None = None, *, checked: bool = True
    ) -> FileRow | None:
        """The row of the entry of that name; None: it is gone, nobody can use it, or its object is not there."""
        try:
            text, accessed = _content(directory, name, at)
        except (FileNotFoundError, NotADirectoryError, PermissionError):  # gone, or of a restricted object
            return None
        try:
            data, _ = _decode(text.decode())
            row = row_of_entry(data, bytes.fromhex(name[:-5]), accessed)
            there = not checked or self._has_object(data["object"], row[3], restricted=row[11])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None  # torn by a power loss, or of a newer version: fetched again when somebody wants it
        return row if there else None

    def _has_object(self, sha256: str, size: int, *, restricted: bool) -> bool:
        try:
            found = os.stat(self.tree.object(sha256, restricted=restricted))
        except OSError:  # looked for elsewhere, and again on a network file system
            elsewhere = find_object(self.tree, sha256, restricted=restricted)
            if elsewhere is None:
                return False
            found = elsewhere[1]
        return found.st_size == size and stat.S_ISREG(found.st_mode)


def walk(reader: TreeReader) -> Iterator[list[FileRow] | list[Seen]]:
    """All files, then all objects by their names, a piece at a time.

    Raises:
        OSError: the file system failed.
    """
    for part in reader.parts(ENTRIES):
        yield from reader.entries(part)
    for folder in (OBJECTS, RESTRICTED):
        for part in reader.parts(folder):
            yield from reader.objects(part)


@contextmanager
def _opened(directory: str) -> Iterator[int | None]:
    """The directory, so that the names in it are found at once; None: it can't be opened (any more)."""
    try:
        at = os.open(directory, _READ | os.O_DIRECTORY)
    except OSError:
        yield None
        return
    try:
        yield at
    finally:
        os.close(at)


def _content(directory: str, name: str, at: int | None) -> tuple[bytes, float]:
    """What the entry's file says, and its time, as its server knows it; nothing was used later than now."""
    if at is not None:
        try:
            return _content_once(name, at)
        except OSError:
            pass  # another host may have made the directory again: by its whole path then
    return unless_stale(_content_once, f"{directory}/{name}")


def _content_once(path: str, at: int | None = None) -> tuple[bytes, float]:
    fd = os.open(path, _READ, dir_fd=at)
    try:
        found = os.fstat(fd)
        text = os.read(fd, min(found.st_size, _MAX_BYTES))  # a larger buffer would cost more than all else
    finally:
        os.close(fd)
    return text, min(found.st_mtime, time.time())


def _leaves(directory: str, widths: Sequence[int]) -> Iterator[str]:
    if not widths:
        yield directory
        return
    for name in sorted(list_names(directory)):
        if is_shard(name, tuple(widths)):
            yield from _leaves(f"{directory}/{name}", widths[1:])


def _leaves_of(directory: str, widths: Sequence[int], letters: str) -> Iterator[str]:
    """The directories of the last level that may have names which begin like that."""
    if not widths:
        yield directory
        return
    wanted = letters[: widths[0]]
    for name in list_names(directory):
        if is_shard(name, tuple(widths)) and name.startswith(wanted):
            yield from _leaves_of(f"{directory}/{name}", widths[1:], letters[widths[0] :])
