"""Collecting what a job left."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO, cast

from stager.cache.failures import cache_error
from stager.cache.removal import DIRECTORY
from stager.cache.store import FileCache
from stager.errors import InputError, ResultMissingError
from stager.model.events import JobResult

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_FILE = frozenset({errno.ELOOP, errno.ENOENT, errno.ENXIO, errno.ENODEV})
"""What `_FILE` answers for links, for what has gone, and for sockets and devices."""


def result_key(job: str, name: str) -> str:
    """Cache key of a job's result; no URL looks like it."""
    return f"result:{job}/{name}"


def keep_results(
    cache: FileCache,
    job: str,
    directory: Path,
    wanted: Iterable[str],
    *,
    owner: str = "",
    keep_until: float | None = None,
    restricted: bool = False,
) -> tuple[JobResult, ...]:
    """Store the files below `directory` in the cache, a block at a time, each with its digest.

    They are the owner's, and promised to stay until `keep_until`. Those of a job that had restricted inputs are
    `restricted`: nobody knows what of these is in them.
    Only regular files count; links are not followed, nor is one in the place of `directory` or of the one above.
    With `wanted` (paths or patterns) only files that match one are kept. Doing it again gives the same.

    Raises:
        InputError: one can't be read.
        CacheError: one can't be stored, or the directory can't be read.
    """
    patterns = tuple(wanted)
    kept = []
    try:
        top = _open(directory)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise cache_error(error, directory, "open") from error
    try:
        for name, file in _files(top, patterns):
            with file:
                entry = cache.put(
                    result_key(job, name), file, owner=owner, keep_until=keep_until, restricted=restricted
                )
            kept.append(JobResult(name, entry.object, entry.size))
    finally:
        os.close(top)
    return tuple(sorted(kept, key=lambda result: result.name.split("/")))


def check_results(kept: Iterable[JobResult], wanted: Iterable[str]) -> ResultMissingError | None:
    """The error that names the first result that was promised and is not there."""
    names = [result.name for result in kept]
    for pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in names):
            found = ", ".join(names) or "nothing"
            return ResultMissingError(
                f"result {pattern!r} is missing",
                cause=f"the command succeeded and left {found} in $STAGER_RESULTS",
                remedy="write it there, or take it out of the job's results",
            )
    return None


def _open(directory: Path) -> int:
    job = os.open(directory.parent, DIRECTORY)
    try:
        return os.open(directory.name, DIRECTORY, dir_fd=job)
    finally:
        os.close(job)


def _files(top: int, patterns: Sequence[str]) -> Iterator[tuple[str, BinaryIO]]:
    """Name and content of each wanted regular file below the open directory, whatever is swapped meanwhile."""
    for folder, _, names, fd in os.fwalk(".", dir_fd=top):
        for base in names:
            name = os.path.normpath(f"{folder}/{base}")
            if patterns and not any(fnmatchcase(name, pattern) for pattern in patterns):
                continue
            try:
                opened = os.open(base, _FILE, dir_fd=fd)
            except OSError as error:
                if error.errno in _NO_FILE:
                    continue
                raise InputError(f"can't read result {name!r}", cause=error.strerror or str(error)) from error
            if stat.S_ISREG(os.fstat(opened).st_mode):
                yield name, cast("BinaryIO", os.fdopen(opened, "rb", buffering=0))
            else:
                os.close(opened)
