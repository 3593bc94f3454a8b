"""Entries on disk: key → object.

The JSON is the truth. The symbolic link beside it names the same object and is what a hit reads, because
following it costs a third of reading and parsing. It is made by the first who reads the entry, since many
entries are written and never asked for here. A crash leaves the two equal, or the link missing:

- Who writes an entry removes an unequal link before (a crash) and after (a reader who was at it).
- Who makes a link reads the entry again afterwards, and removes the link if it is unequal by then.

If they differ all the same (an NFS client that sees the directory as it was), `EntryFiles.current` puts the
link right; until then a hit that follows it gets an object that the key had a moment ago, complete and
verified like any other.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from stager.cache.failures import LINK_REFUSED, cache_error
from stager.cache.files import is_private, remove_quietly, sync_directory, unless_stale, write_all
from stager.cache.fresh import list_names, refresh
from stager.cache.layout import (
    ENTRIES,
    OBJECTS,
    Layout,
    entry_mode,
    is_digest,
    is_hex,
)
from stager.cache.nameless import link_nameless, open_nameless
from stager.cache.objects import bring_object, find_object
from stager.cache.owner import new_owner, retire
from stager.cache.tree import Tree
from stager.errors import CacheError
from stager.model.entries import Entry
from stager.model.keys import DIGEST_LENGTH

_LINK_TRIES = _DRAFT_TRIES = 3
"""Another writer may put its link where ours was about to go; a draft may be gone before it has its name."""
_WRITE_TRIES = 8
"""The layout may be replaced while something is written."""
_MAX_BYTES = 1 << 20
"""An entry is some hundred bytes; more than this is none."""
_USUAL_BYTES = 1 << 14
"""Read at first: to get and give back a buffer of a megabyte takes three times as long as all the rest of it."""
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class EntryFiles:
    """Reads and writes entries; keys are named by their digest."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._root = tree.root
        self._entries = f"{tree.root}/{ENTRIES}/"
        self._use(tree.layout)

    def _use(self, layout: Layout) -> None:
        """Keep at hand what a hit needs of the layout."""
        self._sharded = layout.cut
        self._target = f"{layout.up}{OBJECTS}/"
        self._skip = len(layout.up) - 1
        self._length = len(f"{layout.up}{layout.object('0' * DIGEST_LENGTH)}")
        self._layout = layout

    def resolve(self, digest: str) -> str | None:
        """The path of the object of that key, which exists; None when the key has none.

        Raises:
            CacheError: the file system failed.
        """
        try:
            target = os.readlink(self._entries + "/".join(self._sharded(digest)))
        except OSError:  # none, or no link: the JSON knows
            pass
        else:
            path = self._root + target[self._skip :]
            own = len(target) == self._length and target.startswith(self._target)
            if own and os.access(path, os.F_OK):
                return path
        found = self._find(digest)
        return None if found is None else found[1]

    def current(self, digest: str) -> Entry | None:
        """The entry of that key if its object is there with its size; the link is made to agree.

        Raises:
            CacheError: the file system failed.
        """
        found = self._find(digest)
        return None if found is None else found[0]

    def _find(self, digest: str) -> tuple[Entry, str] | None:
        """See `current`; and where the object is."""
        read = self._read(digest)
        entry = None if read is None else _parse(read[0])
        if read is None or entry is None:
            return None
        text, layout = read
        path = self._object(entry)
        if path is None:
            return None
        if layout is not self._layout:
            self._use(self._tree.layout)
        linkable = layout is self._layout and path == self._tree.object(entry.object)
        if linkable and not entry.restricted:
            with suppress(OSError):  # a cache that is read-only for us: then without the link
                if self._set_link(digest, entry.object) and (now := self._text(digest)) != text:
                    self._drop_link(digest, _parse(now))
        return entry, path

    def _object(self, entry: Entry) -> str | None:
        """Where the object of the entry is, with its size; None when it is not there."""
        path = self._tree.object(entry.object, restricted=entry.restricted)
        try:
            found = find_object(self._tree, entry.object, restricted=entry.restricted)
        except OSError as error:
            raise cache_error(error, path, "read") from error
        if found is None or found[1].st_size != entry.size or not stat.S_ISREG(found[1].st_mode):
            return None
        return found[0]

    def read(self, digest: str) -> Entry | None:
        """The entry as it is on disk; None when there is none, or one that nobody can read.

        An entry of a newer version counts as none: the file is fetched again, which is never wrong.

        Raises:
            CacheError: the file system failed.
        """
        found = self._read(digest)
        return None if found is None else _parse(found[0])

    def _read(self, digest: str) -> tuple[bytes, Layout] | None:
        """What the entry says, and in which layout it is."""
        path = ""

        def look(layout: Layout) -> tuple[bytes, Layout] | None:
            nonlocal path
            path = f"{self._root}/{layout.entry(digest)}"
            text = _read(self._tree, path)
            return None if text is None else (text, layout)

        try:
            return self._tree.seek(look)
        except OSError as error:
            raise cache_error(error, path, "read") from error

    def _text(self, digest: str) -> bytes | None:
        """What the entry says in the current layout."""
        return _read(self._tree, self._tree.entry(digest))

    def write(self, entry: Entry, digest: str, *, new: bool = False) -> bool:
        """Make `entry` the entry of the key with that digest; whether its object is another one than before.

        `new` says that the object was made just now: then it is another one, and the key seldom has an entry,
        which is tried first. The entry of what was promised to stay (a result: its job's own copy goes next) is
        durable on return. Any other is not, nor needs it: after a power cut its file is fetched again.

        Raises:
            CacheError: the old entry stays, or there is none.
        """
        text = entry.to_json()
        changed = False
        try:
            for _ in range(_WRITE_TRIES):
                layouts = self._tree.layouts
                changed = self._write(entry, digest, text, new=new) or changed
                for layout in layouts[1:]:
                    self._remove(digest, layout)
                self._tree.look_again()
                if self._tree.layouts is layouts:
                    break  # else a migration began, and looks only for what was there before
                bring_object(self._tree, entry.object, restricted=entry.restricted, places=layouts)
            if entry.keep_until is not None:
                with suppress(FileNotFoundError):  # a migration has not got to it: it was there before
                    sync_directory(
                        os.path.dirname(self._tree.object(entry.object, restricted=entry.restricted))
                    )
                sync_directory(os.path.dirname(self._tree.entry(digest)))
        except OSError as error:
            raise cache_error(error, self._tree.entry(digest), "write") from error
        return changed

    def _write(self, entry: Entry, digest: str, text: bytes, *, new: bool) -> bool:
        path, durable = self._tree.entry(digest), entry.keep_until is not None
        if new and self._create(
            path, self._tree.link(digest), text, entry_mode(restricted=entry.restricted), durable=durable
        ):
            return True
        linked = self._drop_link(digest, entry)
        old = None if linked or new else self.read(digest)
        self._replace(path, text, entry_mode(restricted=entry.restricted), durable=durable)
        self._drop_link(digest, entry)
        return new or entry.object != (old.object if old else linked)

    def remove(self, digest: str) -> bool:
        """Forget the key; whether there was an entry.

        Raises:
            CacheError: it may still be there.
        """
        removed = False
        try:
            for _ in range(_WRITE_TRIES):
                layouts = self._tree.layouts
                for layout in reversed(layouts):  # the current one last: then no migration brings it back
                    removed = self._remove(digest, layout) or removed
                self._tree.look_again()
                if self._tree.layouts is layouts:
                    break
        except OSError as error:
            raise cache_error(error, self._tree.entry(digest), "remove") from error
        return removed

    def _remove(self, digest: str, layout: Layout) -> bool:
        self._drop_link(digest, None, layout)
        try:
            unless_stale(os.unlink, f"{self._root}/{layout.entry(digest)}")
        except FileNotFoundError:
            return False
        self._drop_link(digest, None, layout)
        return True

    def digests(self) -> Iterator[str]:
        """The keys' digests, in no order, one directory in memory at a time; foreign files are passed over.

        During a migration each comes once all the same, at the price of remembering those not yet moved.

        Raises:
            CacheError: a directory can't be read.
        """
        self._tree.look_again()
        layouts, seen = self._tree.layouts, set[bytes]()
        try:
            for layout in reversed(layouts):  # what is moved meanwhile comes later, not never
                for digest in _walk(f"{self._root}/{ENTRIES}", layout.widths):
                    name = bytes.fromhex(digest) if len(layouts) > 1 else b""
                    if name not in seen:
                        yield digest
                    if layout is not layouts[0]:
                        seen.add(name)
        except OSError as error:
            raise cache_error(error, error.filename or self._root, "list") from error

    def last_access(self, digest: str) -> float | None:
        """When the key was last used, as recorded; seconds since 1970 UTC."""

        def look(layout: Layout) -> float | None:
            try:
                return unless_stale(os.stat, f"{self._root}/{layout.entry(digest)}").st_mtime
            except FileNotFoundError:
                return None

        try:
            return self._tree.seek(look)
        except OSError as error:
            raise cache_error(error, self._tree.entry(digest), "read") from error

    def _drop_link(self, digest: str, entry: Entry | None, layout: Layout | None = None) -> str:
        """Remove the link unless it names the object of `entry`; the digest that it named, or nothing.

        Raises:
            OSError: it may still be there.
        """
        link = f"{self._root}/{(layout or self._tree.layout).link(digest)}"
        try:
            linked = os.readlink(link).rpartition("/")[2]
        except OSError:  # none, or not a link
            return ""
        if entry is None or entry.restricted or entry.object != linked:
            with suppress(FileNotFoundError):
                unless_stale(os.unlink, link)
        return linked

    def _set_link(self, digest: str, sha256: str) -> bool:
        """Let the link name that object; whether it did not before."""
        link = self._tree.link(digest)
        target = f"{self._tree.layout.up}{self._tree.layout.object(sha256)}"
        for _ in range(_LINK_TRIES):
            try:
                unless_stale(os.symlink, target, link)
            except FileExistsError:
                try:
                    if unless_stale(os.readlink, link) == target:
                        return False
                except OSError as error:
                    if error.errno not in {errno.ENOENT, errno.EINVAL}:
                        raise
                with suppress(FileNotFoundError):
                    unless_stale(os.unlink, link)
            except OSError as error:
                if error.errno in LINK_REFUSED:  # no symbolic links here: every hit reads the JSON
                    return False
                raise
            else:
                return True
        return False

    def _create(self, path: str, link: str, content: bytes, mode: int, *, durable: bool) -> bool:
        """Make the first entry of a key; False if there is one, or if that takes a name."""
        fd = open_nameless(self._tree, path, mode)
        if fd is None:
            return False
        try:
            if os.access(link, os.F_OK, follow_symlinks=False):  # of an entry that somebody deleted
                return False
            write_all(fd, content)
            if durable:
                os.fsync(fd)
            return link_nameless(self._tree, fd, path)
        except FileExistsError:
            return False
        finally:
            os.close(fd)

    def _replace(self, path: str, content: bytes, mode: int, *, durable: bool) -> None:
        """Give the name `path` to a file with that content, in one step.

        A draft may be gone: cleared away by who takes us for dead, or renamed (made) already, by a call that NFS repeats.
        """
        for left in reversed(range(_DRAFT_TRIES)):
            owner = new_owner()
            private = f"{path}.{owner}"
            try:
                fd = self._tree.creating(private, partial(os.open, private, _CREATE, mode))
                try:
                    write_all(fd, content)
                    if durable:
                        os.fsync(fd)
                finally:
                    os.close(fd)
                unless_stale(os.rename, private, path)
            except BaseException as error:
                remove_quietly(private)
                if not (left and isinstance(error, FileNotFoundError | FileExistsError)):
                    raise
            else:
                return
            finally:
                retire(owner)


def read_entry(fd: int) -> bytes:
    """What the open file says."""
    text = os.read(fd, _USUAL_BYTES)
    return text if len(text) < _USUAL_BYTES else text + os.read(fd, _MAX_BYTES)


def _parse(text: bytes | None) -> Entry | None:
    try:
        return None if text is None else Entry.from_json(text)
    except CacheError:
        return None


def _read(tree: Tree, path: str) -> bytes | None:
    """What the file says; None when there is none for us, and none that another host made just now."""

    def content() -> bytes | None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError:
            if is_private(path):
                return None
            raise
        try:
            return read_entry(fd)
        finally:
            os.close(fd)

    if not tree.growing:  # else the directory itself is likely to be missing
        with suppress(FileNotFoundError):
            return unless_stale(content)
    directory = path.rpartition("/")[0]
    tree.growing = not (refresh(directory) if tree.remote else os.access(directory, os.F_OK))
    if tree.growing:
        return None
    with suppress(FileNotFoundError):
        return unless_stale(content)
    return None


def _walk(directory: str, widths: tuple[int, ...]) -> Iterator[str]:
    try:
        names = list_names(directory)
    except NotADirectoryError:
        return
    for name in names:
        if widths:
            if len(name) == widths[0] and is_hex(name):
                yield from _walk(f"{directory}/{name}", widths[1:])
        elif name.endswith(".json") and is_digest(name[:-5]):
            yield name[:-5]
