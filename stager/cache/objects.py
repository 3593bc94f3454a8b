"""Objects by digest, in whichever layout they are."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress

from stager.cache.failures import LINK_REFUSED, cache_error
from stager.cache.fresh import status
from stager.cache.layout import SHARED_FILE_MODE, Layout
from stager.cache.pinned import is_pinned
from stager.cache.tree import Tree

MARK = ".shared"
"""Ending of the mark beside an object that more than one entry has used."""


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


def object_path(tree: Tree, sha256: str) -> str:
    """Where the object is, or would be.

    Raises:
        CacheError: layout.json can't be read.
    """
    try:
        found = find_object(tree, sha256)
    except OSError:  # said to whoever opens it
        found = None
    return tree.object(sha256) if found is None else found[0]


def object_names(tree: Tree, sha256: str, *, restricted: bool = False) -> list[str]:
    """All names that the object may have of the cache itself; the one that it gets last is the last.

    Whoever removes it removes these names in this order: then no migration brings it back.
    """
    paths = [layout.object(sha256, restricted=restricted) for layout in tree.layouts]
    return [f"{tree.root}/{path}" for path in reversed(paths)]


def place_for(tree: Tree, sha256: str, *, checked: bool = False) -> str:
    """Where to publish the object; if a migration has not got to it yet, it is there afterwards.

    `checked` says that `Tree.check` was called just now.

    Raises:
        OSError: the file system failed.
        CacheError: layout.json can't be read.
    """
    if tree.remote or not checked:
        tree.look_again(at_once=False)
    final = tree.object(sha256)
    if len(tree.layouts) > 1:
        bring_object(tree, sha256)
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
    except FileExistsError:  # the same bytes, from elsewhere
        return False
    return True


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
    """Say that removing one key is no reason to remove this object: another key may name it.

    Raises:
        CacheError: it could not be said.
    """
    mark = tree.object(sha256, restricted=restricted) + MARK
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    try:
        os.close(tree.creating(mark, lambda: os.open(mark, flags, SHARED_FILE_MODE)))
    except OSError as error:
        raise cache_error(error, mark, "make") from error


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
        if any(os.access(name + MARK, os.F_OK) for name in names):
            return False
        for name in names:
            with suppress(FileNotFoundError):
                os.unlink(name)
    except OSError as error:
        raise cache_error(error, names[-1], "remove") from error
    return True


def _is_ours_alone(names: list[str]) -> bool:
    """Whether there is such a file, and these are all its names."""
    links: Counter[tuple[int, int]] = Counter()
    counts: dict[tuple[int, int], int] = {}
    for name in names:
        with suppress(FileNotFoundError):
            found = os.stat(name)
            links[found.st_dev, found.st_ino] += 1
            counts[found.st_dev, found.st_ino] = found.st_nlink
    return bool(counts) and all(counts[file] <= links[file] for file in counts)
