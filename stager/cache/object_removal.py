"""Removing the names of objects, and never those of one that somebody stores at the same moment.

Who stores bytes that are there already marks the object as shared, and then looks whether it is still there (see
`objects.share_object`). Who removes it puts its names aside, and then looks for the mark. One of the two sees the
other: either the one who stores finds nothing and publishes the bytes again, or the one who removes finds a mark
that was not there before, and gives the names back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress

from stager.cache.aside import Aside, put_back
from stager.cache.files import unless_stale
from stager.cache.layout import OBJECTS, RESTRICTED, is_digest
from stager.cache.objects import MARK
from stager.cache.trash import Trash
from stager.cache.tree import Tree
from stager.steps import reached


def names_of_object(tree: Tree, sha256: str, *, restricted: bool = False) -> list[str]:
    """All names that the object may have of the cache itself, relative to the root; see `objects.object_names`."""
    if len(tree.layouts) == 1:
        return [tree.layouts[0].object(sha256, restricted=restricted)]
    return [layout.object(sha256, restricted=restricted) for layout in reversed(tree.layouts)]


def remove_names(
    own: Aside,
    sha256: str,
    names: Sequence[str],
    *,
    restricted: bool = False,
    changed: int,
    marked: bool,
    trash: Trash | None = None,
) -> bool | None:
    """Remove the object with these names unless somebody stores the same bytes meanwhile.

    Args:
        own: where names go first.
        sha256: its digest.
        names: of the object, relative to the root.
        restricted: it needs a grant.
        changed: when object and marks were last changed, as far as the caller knows, in nanoseconds.
        marked: whether it had a mark.
        trash: where it goes; None: it is deleted.

    Returns:
        Whether it is gone; None: there was neither object nor mark.

    Raises:
        OSError: it may still be there, or aside.
    """
    top = RESTRICTED if restricted else OBJECTS
    taken: list[tuple[str, str]] = []  # private paths, and endings of the names that they had
    try:
        for number, name in enumerate(names):
            for what in (MARK, "") if marked else ("",):  # the mark first: a later one is a new one
                private = own.put(name + what, f"{sha256}.{number}.{top}{what}")
                if private is not None:
                    taken.append((private, what))
        reached("evict.taken")
        if not _is_stored_again(own, names, taken, changed):
            for private, what in taken:
                if trash is None or what:
                    own.remove(private)
                else:
                    trash.throw(f"{own.tree.root}/{private}", sha256)
            return True if taken else None
    except BaseException:
        with suppress(OSError):
            _give_back(own, sha256, taken, restricted=restricted)
        raise
    _give_back(own, sha256, taken, restricted=restricted)
    return False


def _give_back(own: Aside, sha256: str, taken: Sequence[tuple[str, str]], *, restricted: bool) -> None:
    path = own.tree.layout.object(sha256, restricted=restricted)
    for private, what in sorted(taken, key=lambda each: each[1]):  # the object before its mark
        with suppress(FileNotFoundError):  # of several names one is enough
            own.back(private, path + what)


def _is_stored_again(
    own: Aside, names: Sequence[str], taken: Sequence[tuple[str, str]], changed: int
) -> bool:
    if any(own.status(private).st_mtime_ns > changed for private, _ in taken):
        return True
    return any(own.has(name + MARK) for name in names)


def give_back_objects(tree: Tree, directory: str, names: Sequence[str]) -> Iterator[str]:
    """Of the names in a directory that a killed eviction left, see to those of objects and marks; these names.

    An object whose mark is at its place, or aside with it, has been stored again, perhaps by somebody who was
    told so: it comes back. Any other goes, as it was to.

    Raises:
        OSError: some are still there.
    """
    found = [(name, *name.split(".", 2)) for name in names if name.count(".") >= 2 and is_digest(name[:64])]  # noqa: PLR2004 - digest.number.what
    marked = {sha256 for _, sha256, _, what in found if what.endswith(MARK)}
    for name, sha256, _, what in found:
        top, mark, _ = what.partition(MARK)
        path = tree.object(sha256, restricted=top == RESTRICTED)
        private = f"{directory}/{name}"
        with suppress(FileNotFoundError):
            if sha256 in marked or os.access(path + MARK, os.F_OK):
                put_back(tree, private, path + mark)
            else:
                unless_stale(os.unlink, private)
        yield name
