"""Objects by digest, in whichever layout they are."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, TypeVar

from stager.cache.failures import LINK_REFUSED, cache_error
from stager.cache.files import STALE_TRIES, remove_quietly, unless_stale
from stager.cache.fresh import status
from stager.cache.layout import SHARED_FILE_MODE, Layout
from stager.cache.owner import new_owner, retire
from stager.cache.pinned import is_pinned
from stager.cache.tree import Tree
from stager.errors import ObjectLostError
from stager.model.entries import Entry

T = TypeVar("T")

MARK = ".shared"
"""Ending of the mark beside an object that more than one entry has used."""
_LOST_TRIES = 4
"""Of several who evict and remove the same bytes one may come at each moment."""


def find_object(tree: Tree, sha256: str, *, restricted: bool = False) -> tuple[str, os.stat_result] | None:
    """Where the object is, and its status; None when there is none.

    Raises:
        OSError: the file system failed.
        CacheError: layout.json can't be read.
    """

    def look(layout: Layout) -> tuple[str, os.stat_result] | None:
        path = f"{tree.root}/{layout.object(sha256, restricted=restricted)}"
        found = status(path)
        return None if found is None else (path, found)

    return tree.seek(look)


def object_path(tree: Tree, sha256: str, *, restricted: bool = False) -> str:
    """Where the object is, or would be.

    Raises:
        CacheError: layout.json can't be read.
    """
    try:
        found = find_object(tree, sha256, restricted=restricted)
    except OSError:  # said to whoever opens it
        found = None
    return tree.object(sha256, restricted=restricted) if found is None else found[0]


def open_object(tree: Tree, sha256: str, *, restricted: bool = False) -> BinaryIO | None:
    """The object, open for reading, which it stays when it is removed; None when there is none.

    Raises:
        CacheError: it can't be read.
    """
    try:
        for _ in range(STALE_TRIES):
            found = find_object(tree, sha256, restricted=restricted)
            if found is None:
                return None
            with suppress(FileNotFoundError):  # it went, or a migration moved it: look again
                return unless_stale(lambda: open(found[0], "rb"))  # noqa: B023 - called at once
    except OSError as error:
        raise cache_error(error, tree.object(sha256, restricted=restricted), "read") from error
    return None


def object_names(tree: Tree, sha256: str, *, restricted: bool = False) -> list[str]:
    """All names that the object may have of the cache itself; the one that it gets last is the last.

    Whoever removes it removes these names in this order: then no migration brings it back.
    """
    paths = [layout.object(sha256, restricted=restricted) for layout in tree.layouts]
    return [f"{tree.root}/{path}" for path in reversed(paths)]


def place_for(tree: Tree, sha256: str, *, restricted: bool = False, checked: bool = False) -> str:
    """Where to publish the object; if a migration has not got to it yet, it is there afterwards.

    `checked` says that `Tree.check` was called just now.

    Raises:
        OSError: the file system failed.
        CacheError: layout.json can't be read.
    """
    if tree.remote or not checked:
        tree.look_again(at_once=False)
    final = tree.object(sha256, restricted=restricted)
    if len(tree.layouts) > 1:
        bring_object(tree, sha256, restricted=restricted)
    return final


def bring_object(
    tree: Tree, sha256: str, *, restricted: bool = False, places: tuple[Layout, ...] = ()
) -> None:
    """If the object is in one of these layouts (by default the previous ones), let it be in the current one too.

    Raises:
        OSError: the file system failed.
    """
    final = tree.object(sha256, restricted=restricted)
    for layout in places or tree.layouts[1:]:
        path = f"{tree.root}/{layout.object(sha256, restricted=restricted)}"
        if path != final and status(path) is not None and status(final) is None:
            with suppress(FileNotFoundError):  # the migration was quicker
                give_name(tree, path, final)


def link_object(tree: Tree, fd: int, sha256: str) -> bool:
    """Let the open file, whose digest is known and which nobody changes any more, be the object.

    The file itself, not what is at its path by now.

    Returns:
        Whether the object is new.

    Raises:
        OSError: it can't be linked; nothing became visible.
        CacheError: layout.json can't be read.
    """
    final = place_for(tree, sha256)
    source = f"/proc/self/fd/{fd}"
    try:
        tree.creating(final, lambda: os.link(source, final, src_dir_fd=fd, follow_symlinks=True))
    except FileExistsError:
        with suppress(FileNotFoundError):
            if not os.path.samestat(os.fstat(fd), os.stat(final)):  # else its time is that of somebody's file
                renew(final)
        return False
    return True


def renew(final: str) -> None:
    """An old object without an entry is about to get one: who clears such objects away leaves the young ones."""
    with suppress(OSError):  # of another user: then who clears away finds the entry
        os.utime(final)


def give_name(tree: Tree, path: str, final: str) -> bool:
    """Let the file at `path` have the name `final` as well; whether it was given it.

    Where there are no links the file is moved, and a symbolic link is left, for those who know the old path.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the file system failed.
    """
    try:
        tree.creating(final, lambda: os.link(path, final))
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in LINK_REFUSED:
            raise
    else:
        return True
    if os.path.lexists(final) or os.path.islink(path):
        return False
    tree.creating(final, lambda: os.rename(path, final))
    with suppress(OSError):  # nor symbolic ones, or somebody was quicker
        os.symlink(os.path.relpath(final, os.path.dirname(path)), path)
    return True


def mark_shared(tree: Tree, sha256: str, *, restricted: bool = False) -> None:
    """Say that removing one key is no reason to remove this object: another key may name it, as from now.

    Raises:
        CacheError: it could not be said.
    """
    mark = tree.object(sha256, restricted=restricted) + MARK
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    try:
        fd = tree.creating(mark, lambda: os.open(mark, flags, SHARED_FILE_MODE))
        try:
            with suppress(OSError):  # of another user
                os.utime(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise cache_error(error, mark, "make") from error


def share_object(tree: Tree, entry: Entry, before: Entry | None) -> None:
    """Let an entry name an object that was there already: mark it, unless `before` named it, and look for it then.

    Raises:
        ObjectLostError: it is not there; whoever publishes it again has it.
        CacheError: the file system failed.
    """
    sha256, restricted = entry.object, entry.restricted
    if before is None or before.object != sha256:
        mark_shared(tree, sha256, restricted=restricted)
    path = tree.object(sha256, restricted=restricted)
    try:
        found = find_object(tree, sha256, restricted=restricted)
        if found is not None and tree.remote:  # only opening it asks the server
            os.close(unless_stale(os.open, found[0], os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ESTALE}:
            raise cache_error(error, path, "find") from error
        found = None
    if found is None:
        raise ObjectLostError(
            f"object {sha256} is gone",
            cause="it was removed just now, with another key that had the same bytes",
            remedy="store it again",
            sha256=sha256,
        )


def unless_lost(action: Callable[[], T], source: BinaryIO | None = None) -> T:
    """Do `action`, which publishes an object and records its entry; again, but not for ever, if the object goes meanwhile.

    Args:
        action: what to do.
        source: what it reads; it is read again from where it was, if that can be done.

    Raises:
        ObjectLostError: it went each time.
        CacheError: as `action` does.
    """
    start = source.tell() if source is not None and source.seekable() else None
    for _ in range(_LOST_TRIES - 1 if source is None or start is not None else 0):
        with suppress(ObjectLostError):
            return action()
        if source is not None and start is not None:
            source.seek(start)
    return action()


def remove_object(tree: Tree, sha256: str, *, restricted: bool = False) -> bool:
    """Remove the object unless a job or a pin holds it or another key has used it too; whether it was removed.

    Raises:
        CacheError: it may still be there.
    """
    tree.look_again()
    names = object_names(tree, sha256, restricted=restricted)
    try:
        if not _is_ours_alone(names) or is_pinned(tree, sha256):
            return False
        if any(_is_marked(tree, name) for name in names):
            return False
        removed = [_take_away(tree, name) for name in names if os.access(name, os.F_OK)]
    except OSError as error:
        raise cache_error(error, names[-1], "remove") from error
    return any(removed)


def _take_away(tree: Tree, name: str) -> bool:
    """Remove that name of an object, unless somebody marks it as shared meanwhile; whether it is gone.

    He marks it and then looks whether it is there; we take it away and then look for the mark.
    """
    owner = new_owner()
    sha256 = os.path.basename(name)
    private = f"{tree.partial_directory(sha256)}/{sha256}.{owner}.tmp"
    try:
        tree.creating(private, lambda: os.rename(name, private))
        if _is_marked(tree, name):
            give_name(tree, private, name)
            return False
    except FileNotFoundError:  # somebody else was quicker
        return False
    finally:
        remove_quietly(private)
        retire(owner)
    return True


def _is_marked(tree: Tree, name: str) -> bool:
    """Whether the object of that name is marked as shared, by whatever host."""
    return status(name + MARK) is not None if tree.remote else os.access(name + MARK, os.F_OK)


def _is_ours_alone(names: list[str]) -> bool:
    """Whether there is such a file, and these are all its names."""
    links: Counter[tuple[int, int]] = Counter()
    counts: dict[tuple[int, int], int] = {}
    for name in names:
        with suppress(FileNotFoundError):
            found = unless_stale(os.stat, name)
            links[found.st_dev, found.st_ino] += 1
            counts[found.st_dev, found.st_ino] = found.st_nlink
    return bool(counts) and all(counts[file] <= links[file] for file in counts)
