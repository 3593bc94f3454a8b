"""Who holds an object: jobs by hard links under their inputs' names, pins by their records."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from stager.cache.fresh import list_names
from stager.cache.layout import JOBS
from stager.cache.objects import find_object
from stager.cache.pinned import LINK, pin_directory, pinned_objects
from stager.cache.tree import Tree


def jobs_holding(tree: Tree, sha256: str, *, restricted: bool = False) -> list[tuple[str, str]]:
    """The jobs that have the object as an input: their ids, each with the name of the input.

    Costs as much as there are inputs of jobs that are not over.

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
    sizes = {(there.st_dev, there.st_ino): there.st_size for _, _, there in _inputs(tree)}
    for sha256 in pinned_objects(tree):
        with suppress(FileNotFoundError):
            there = os.stat(f"{pin_directory(tree, sha256)}/{LINK}")
            sizes[there.st_dev, there.st_ino] = there.st_size
    return sum(sizes.values())


def _inputs(tree: Tree) -> Iterator[tuple[str, str, os.stat_result]]:
    """Job, name and status of each input; what goes meanwhile is left out."""
    for job in list_names(f"{tree.root}/{JOBS}"):
        directory = f"{tree.root}/{JOBS}/{job}/inputs"
        try:
            names = list_names(directory)
        except (NotADirectoryError, PermissionError):  # of another user, who may ask himself
            continue
        for name in names:
            with suppress(FileNotFoundError):
                yield job, name, os.stat(f"{directory}/{name}")
