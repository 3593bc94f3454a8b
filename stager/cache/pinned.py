"""Which objects are pinned, by whom: one look at the tree, on every host, without any database.

    pins/ab/<sha256>/object                a hard link to the object: it is held even against who does not look here
    pins/ab/<sha256>/<pin id>.<until>.json who, why, since, until; never changed once it is there

The records are what counts. The link may be missing: where there are no (more) hard links, and for a moment
while somebody unpins.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from stager.cache.failures import cache_error
from stager.cache.files import unless_stale
from stager.cache.fresh import list_names
from stager.cache.layout import PINS, is_digest, is_hex
from stager.cache.stamp import file_system_time
from stager.cache.tree import Tree
from stager.model.pins import Pin, longest, parse_file_name, unreadable_pin

LINK = "object"
RESTRICTED_LINK = "restricted"
"""The links to the public object of that digest and to the one that needs a grant: they are different files."""
LINKS = (LINK, RESTRICTED_LINK)
_MAX_BYTES = 1 << 16


def pin_directory(tree: Tree, sha256: str) -> str:
    """Where the pins of that object are."""
    return f"{tree.root}/{PINS}/{sha256[:2]}/{sha256}"


def pin_link(tree: Tree, sha256: str, *, restricted: bool = False) -> str:
    """The link by which pins hold the object."""
    return f"{pin_directory(tree, sha256)}/{RESTRICTED_LINK if restricted else LINK}"


def is_pinned(tree: Tree, sha256: str, now: float | None = None) -> bool:
    """Whether anybody's pin of that object counts now: one look that finds no directory, for most.

    Raises:
        CacheError: the file system failed.
    """
    return bool(records(tree, sha256, now))


def pinned(tree: Tree, sha256: str, now: float | None = None) -> list[Pin]:
    """The pins of that object that count now, one for each holder and key; none for most objects.

    Raises:
        CacheError: the file system failed.
    """
    by_id: dict[str, list[Pin]] = {}
    for name in records(tree, sha256, now):
        found = _read(f"{pin_directory(tree, sha256)}/{name}", sha256)
        if found is not None:
            by_id.setdefault(name.partition(".")[0], []).append(found)
    return sorted((longest(found) for found in by_id.values()), key=lambda pin: (pin.since, pin.id))


def pinned_objects(tree: Tree) -> Iterator[str]:
    """The digests of all objects with pins (some may be over), in order.

    Raises:
        CacheError: the file system failed.
    """
    top = f"{tree.root}/{PINS}"
    try:
        for shard in sorted(filter(is_hex, list_names(top))):
            yield from sorted(filter(is_digest, list_names(f"{top}/{shard}")))
    except OSError as error:
        raise cache_error(error, top, "list") from error


def records(tree: Tree, sha256: str, now: float | None = None) -> list[str]:
    """Names of the records that count now.

    Raises:
        CacheError: the file system failed.
    """
    directory = pin_directory(tree, sha256)
    try:
        names = list_names(directory) if tree.remote else _names(directory)
    except OSError as error:
        raise cache_error(error, directory, "list") from error
    if not names:
        return []
    if now is not None:
        return [name for name in names if _counts(name, now)]
    ours = time.time()
    if any(_counts(name, 0.0) and not _counts(name, ours) for name in names):
        ours = pin_time(tree)
    return [name for name in names if _counts(name, ours)]


def pin_time(tree: Tree) -> float:
    """The time by which pins end: this host's, or the file system's if that is earlier.

    A host whose clock is fast ends no pin early; one whose clock is slow keeps it for longer, which harms nobody.
    """
    return min(time.time(), file_system_time(tree))


def _names(directory: str) -> list[str]:
    try:
        return unless_stale(os.listdir, directory)
    except FileNotFoundError:
        return []


def _counts(name: str, now: float) -> bool:
    parsed = parse_file_name(name)
    return parsed is not None and (parsed[1] is None or parsed[1] > now)


def _read(path: str, sha256: str) -> Pin | None:
    """The record; None when it has just gone."""

    def content() -> bytes:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, _MAX_BYTES)
        finally:
            os.close(fd)

    try:
        pin = Pin.from_json(unless_stale(content))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise cache_error(error, path, "read") from error
    except ValueError:  # half-written by a power loss, or of a newer program
        return unreadable_pin(sha256)
    return pin if pin.object == sha256 else unreadable_pin(sha256)
