"""Collecting what a job left."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from stager.cache.store import FileCache
from stager.errors import ResultMissingError
from stager.model.events import JobResult


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
) -> tuple[JobResult, ...]:
    """Store the files below `directory` in the cache, a block at a time, each with its digest.

    They are the owner's, and promised to stay until `keep_until`.
    Only regular files count; links are not followed. With `wanted` (paths or patterns) only files
    that match one are kept. Doing it again gives the same.
    """
    patterns = tuple(wanted)
    kept = []
    for path in sorted(_files(directory)):
        name = path.relative_to(directory).as_posix()
        if patterns and not any(fnmatchcase(name, pattern) for pattern in patterns):
            continue
        entry = cache.put(result_key(job, name), path, owner=owner, keep_until=keep_until)
        kept.append(JobResult(name, entry.object, entry.size))
    return tuple(kept)


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


def _files(directory: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(directory):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield path
