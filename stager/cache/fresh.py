"""Names that another host made just now.

An NFS client that was told once that a name does not exist says so for half a minute after another host
made it, unless the directory that holds the name is opened. The same goes for the name of that directory:
those above are opened as far up as names are missing. None of it costs anything where the name is found.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from itertools import islice

from stager.cache.files import STALE, STALE_TRIES


def refresh(directory: str) -> bool:
    """Let what other hosts made in the directory be seen; whether it is there."""
    if _opens(directory):
        return True
    above = os.path.dirname(directory)
    return above != directory and refresh(above) and _opens(directory)


def list_names(directory: str | os.PathLike[str]) -> list[str]:
    """What is in the directory; nothing if there is none.

    Raises:
        OSError: the file system failed.
    """
    for _ in range(STALE_TRIES):
        try:
            return os.listdir(directory)
        except FileNotFoundError:
            if not refresh(os.fspath(directory)):
                return []
        except OSError as error:  # another host removed it, and perhaps made it again
            if error.errno not in STALE:
                raise
            refresh(os.path.dirname(directory))
    return os.listdir(directory)


def status(path: str) -> os.stat_result | None:
    """Of the file at `path`; None when there is none.

    Raises:
        OSError: the file system failed.
    """
    again = False
    for _ in range(STALE_TRIES):
        try:
            return os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            if again or not refresh(os.path.dirname(path)):
                return None
            again = True
        except OSError as error:
            if error.errno not in STALE:
                raise
    return os.stat(path)


def list_pieces(directory: str, size: int) -> Iterator[list[str]]:
    """What is in a directory that may have millions of names, some at a time; nothing if there is none.

    Raises:
        OSError: the file system failed.
    """
    for left in reversed(range(STALE_TRIES)):
        try:
            with os.scandir(directory) as found:
                while names := [item.name for item in islice(found, size)]:
                    yield names
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:  # another host removed it, and with it what was listed
            if error.errno not in STALE or not left:
                raise
            refresh(os.path.dirname(directory))
        else:
            return


def _opens(directory: str) -> bool:
    try:
        os.close(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno not in {errno.ENOENT, errno.ENOTDIR}
    return True
