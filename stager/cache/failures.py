"""What the operating system said, as one of our errors: the path, the cause, the way out."""

from __future__ import annotations

import errno
import os

from stager.errors import CacheError, CacheFullError, CacheIOError, CachePermissionError

LINK_REFUSED = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK})
"""What file systems answer that have no (more) hard links, or no symbolic ones."""

_KINDS: dict[type[CacheError], tuple[frozenset[int], str]] = {
    CacheFullError: (
        frozenset({errno.ENOSPC, errno.EDQUOT}),
        (
            "make room (`stager cache purge --to-free 10G` removes what nobody used for longest), or use a "
            "cache directory on another file system"
        ),
    ),
    CachePermissionError: (
        frozenset({errno.EACCES, errno.EPERM, errno.EROFS}),
        "check owner and mode of the directory, or use another cache directory",
    ),
    CacheIOError: (
        frozenset(
            {errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.ETIMEDOUT}
        ),
        "try again; if it stays, check the disk, the mount and the limit of open files",
    ),
}


def cache_error(error: OSError, path: str | os.PathLike[str], action: str) -> CacheError:
    """The error to raise when `action` (an infinitive, such as ``write``) on `path` failed with `error`."""
    name = os.fspath(path)
    cause = error.strerror or str(error) or type(error).__name__
    for kind, (numbers, remedy) in _KINDS.items():
        if error.errno in numbers:
            return kind(f"can't {action} {name}", cause=cause, remedy=remedy, path=name, errno=error.errno)
    return CacheError(
        f"can't {action} {name}",
        cause=cause,
        remedy="check the cache directory",
        path=name,
        errno=error.errno,
    )
