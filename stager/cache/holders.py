"""Who holds an object: jobs by hard links under their inputs' names, pins by their records."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from stager.cache.files import unless_stale
from stager.cache.fresh import list_names, refresh
from stager.cache.layout import JOBS, is_digest
from stager.cache.objects import find_object
from stager.cache.pinned import LINKS, pin_directory, pinned_objects
from stager.cache.removal import DIRECTORY
from stager.cache.tree import Tree

_NONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM})
"""What a job's directory answers that has no inputs to read."""


def jobs_holding(tree: Tree, sha256: str, *, restricted: bool = False) -> list[tuple[str, str]]:
    """The jobs that have the object as an input: their ids, each with the name of the input.

    Costs as much as there are inputs of jobs that are not over, and one call for each other job.

    Raises:
        OSError: the file system failed.
    """
    found = find_object(tree, sha256, restricted=restricted)
    if found is None:
        return []
    own = found[1].st_dev, found[1].st_ino
    return sorted((job, name) for job, name, there in _inputs(tree) if (there.st_dev, there.st_ino) == own)


def held_bytes(tree: Tree) -> int:
    """Bytes of all objects that jobs or pins hold, each counted once.

    Raises:
        OSError: the file system failed.
    """
    return sum(held_files(tree).values())


def held_files(tree: Tree) -> dict[tuple[int, int], int]:
    """The files (device and inode) that jobs or pins hold, with their bytes.

    Raises:
        OSError: the file system failed.
    """
    sizes = {(there.st_dev, there.st_ino): there.st_size for _, _, there in _inputs(tree)}
    for sha256 in pinned_objects(tree):
        for link in LINKS:
            with suppress(FileNotFoundError):
                there = unless_stale(os.stat, f"{pin_directory(tree, sha256)}/{link}")
                sizes[there.st_dev, there.st_ino] = there.st_size
    return sizes


def names_of_inputs(tree: Tree) -> Iterator[tuple[str, list[str]]]:
    """Of each job that has inputs, their directory and their names.

    A job can put anything in place of its directory; one that can't be read, or is none, is passed over.

    Raises:
        OSError: the file system failed.
    """
    for job in list_names(f"{tree.root}/{JOBS}"):
        directory = f"{tree.root}/{JOBS}/{job}/inputs"
        names = unless_stale(_names, tree, directory)
        if names:
            yield directory, names


def _names(tree: Tree, directory: str) -> list[str]:
    if tree.remote:
        refresh(directory)
    try:
        fd = os.open(directory, DIRECTORY)
    except OSError as error:
        if error.errno in _NONE:
            return []
        raise
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


def _inputs(tree: Tree) -> Iterator[tuple[str, str, os.stat_result]]:
    """Job, name and status of each input; what goes meanwhile, or is none of the cache's, is left out."""
    for directory, names in names_of_inputs(tree):
        for name in names:
            found = _object(tree, f"{directory}/{name}")
            if found is not None:
                yield os.path.basename(os.path.dirname(directory)), name, found


def _object(tree: Tree, path: str) -> os.stat_result | None:
    """Status of the input there: a regular file, or an object that a link leads to."""
    with suppress(OSError):  # gone, not for us to read, or a link that leads nowhere
        found = os.stat(path, follow_symlinks=False)
        if not stat.S_ISLNK(found.st_mode):
            return found if stat.S_ISREG(found.st_mode) else None
        sha256 = os.path.basename(os.readlink(path))
        there = os.stat(path)
        for restricted in (False, True) if is_digest(sha256) else ():
            own = find_object(tree, sha256, restricted=restricted)
            if own is not None and os.path.samestat(own[1], there):
                return there
    return None
