"""Removing entries that were judged, and never one that somebody writes at the same moment.

An entry is read and judged, then put aside under a private name in one step. If that turns out to be another file
than the one that was read, it is judged as well: it goes too, or gets its name back, unless a newer one has it
already. What a kill leaves aside gets its name back when its owner is known to be dead (`give_back`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from stager.cache.aside import Aside, put_back
from stager.cache.entries import read_entry
from stager.cache.failures import cache_error
from stager.cache.files import unless_stale
from stager.cache.fresh import list_names
from stager.cache.layout import TRASH, is_digest
from stager.cache.object_removal import give_back_objects
from stager.cache.objects import find_object
from stager.cache.owner import is_alive, is_here, new_owner, retire
from stager.cache.trash import EVICTING
from stager.cache.tree import Tree
from stager.errors import CacheError
from stager.model.entries import Entry
from stager.model.keys import key_digest
from stager.steps import reached

Judge = Callable[[bytes], bool]
"""Whether an entry that says this may go."""
_READ = os.O_RDONLY | os.O_CLOEXEC
_NOT_EMPTY = frozenset({errno.ENOTEMPTY, errno.EEXIST})
_ENDING = len(".json")


def remove_entry(own: Aside, digest: str, judge: Judge) -> tuple[bool, bool]:
    """Remove the key's entry if it may go; whether one was removed, and whether there is none afterwards.

    Raises:
        OSError: it may still be there.
    """
    removed = False
    for layout in reversed(own.tree.layouts):  # the current one last: then no migration brings it back
        path = layout.entry(digest)
        found = _remove_at(own, path, digest, judge)
        if found is False:
            return removed, False
        removed = removed or found is True
        link = path[:-_ENDING]
        # last: a reader may have been at making it
        if os.access(link, os.F_OK, dir_fd=own.root, follow_symlinks=False):
            with suppress(FileNotFoundError):
                own.remove(link)
    return removed, True


def _remove_at(own: Aside, path: str, digest: str, judge: Judge) -> bool | None:
    """Whether the entry at `path` is gone; None: there was none."""
    try:
        fd, read, text = unless_stale(_open, path, own.root)
    except FileNotFoundError:
        return None
    try:
        if not judge(text):
            return False
        reached("evict.judged")
        private = own.put(path, digest)
        if private is None:
            return None
        same = os.path.samestat(read, own.status(private))
    finally:
        os.close(fd)
    reached("evict.aside")
    if same or judge(_read(private, own.root)):
        own.remove(private)
        return True
    own.back(private, path)
    return False


@contextmanager
def aside(tree: Tree) -> Iterator[Aside]:
    """A directory to put entries aside, gone in the end.

    Raises:
        CacheError: it can't be used.
    """
    owner = new_owner()
    path = f"{tree.root}/{TRASH}/{EVICTING}{owner}"
    try:
        tree.make_directory(path)
        own = Aside(tree, path)
        try:
            yield own
        finally:
            own.close()
            give_back(tree, path)  # of those that failed half-way
    except OSError as error:
        raise cache_error(error, error.filename or path, "use") from error
    finally:
        retire(owner)


def remove_vacant(tree: Tree, digests: Iterable[str]) -> list[str]:
    """Remove the entries of these keys whose object is not there; those that were removed.

    Raises:
        CacheError: some may still be there.
    """
    with aside(tree) as own:
        return [
            digest for digest in digests if remove_entry(own, digest, lambda text: _is_vacant(tree, text))[0]
        ]


def give_back_entries(tree: Tree) -> int:
    """Give what killed processes of this host left aside its name back; how many entries that were.

    Raises:
        OSError: some of it is still there.
    """
    trash = f"{tree.root}/{TRASH}"
    owners = [name.removeprefix(EVICTING) for name in list_names(trash) if name.startswith(EVICTING)]
    dead = [owner for owner in owners if is_here(owner) and not is_alive(owner)]
    return sum(give_back(tree, f"{trash}/{EVICTING}{owner}") for owner in dead)


def give_back(tree: Tree, directory: str) -> int:
    """Give the entries there their names back whose object exists, and remove the directory; how many those were.

    A key that has an entry by now keeps that.

    Raises:
        OSError: some are still there.
        CacheError: layout.json can't be read.
    """
    count = 0
    names = list_names(directory)
    objects = set(give_back_objects(tree, directory, names))  # first: entries come back only where theirs is
    for digest in names:
        if digest in objects:
            continue
        private = f"{directory}/{digest}"
        with suppress(FileNotFoundError):
            if is_digest(digest) and not _is_vacant(tree, _read(private), digest):
                count += put_back(tree, private, tree.entry(digest))
            else:
                unless_stale(os.unlink, private)
    try:
        unless_stale(os.rmdir, directory)
    except OSError as error:
        if error.errno not in {*_NOT_EMPTY, errno.ENOENT}:
            raise
    return count


def parse(text: bytes) -> Entry | None:
    """The entry; None: nobody can read it.

    Raises:
        CacheError: it is of a newer version.
    """
    try:
        return Entry.from_json(text)
    except CacheError as error:
        if type(error) is CacheError:
            return None
        raise


def _is_vacant(tree: Tree, text: bytes, digest: str | None = None) -> bool:
    """Whether the entry leads nowhere; one of a newer version may lead somewhere."""
    try:
        entry = parse(text)
    except CacheError:
        return False
    if entry is None or digest not in {None, key_digest(entry.key)}:
        return True
    found = find_object(tree, entry.object, restricted=entry.restricted)
    return found is None or found[1].st_size != entry.size


def _open(path: str, root: int | None = None) -> tuple[int, os.stat_result, bytes]:
    """The entry, open, so that no other file can be taken for it; its status, and what it says."""
    fd = os.open(path, _READ, dir_fd=root)
    try:
        return fd, os.fstat(fd), read_entry(fd)
    except BaseException:
        os.close(fd)
        raise


def _read(path: str, root: int | None = None) -> bytes:
    fd, _, text = unless_stale(_open, path, root)
    os.close(fd)
    return text
