"""layout.json: read, made, replaced; never written to, so that a reader sees one version or the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from stager.cache.failures import LINK_REFUSED
from stager.cache.files import unless_stale
from stager.cache.layout import LAYOUT_FILE, SHARED_FILE_MODE, Layouts
from stager.cache.owner import new_owner, retire
from stager.errors import CacheError

Signature = tuple[int, int, int, int]
_MAX_BYTES = 1 << 16
"""It is a hundred bytes."""


def signature(found: os.stat_result) -> Signature:
    """What differs between two versions of the file."""
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def read_layouts(root: str) -> tuple[Layouts, Signature] | None:
    """What layout.json says; None when there is none.

    Raises:
        LayoutVersionError: written by a newer version of the program.
        CacheError: damaged.
        OSError: the file system failed.
    """

    def content() -> tuple[bytes, Signature]:
        fd = os.open(f"{root}/{LAYOUT_FILE}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, _MAX_BYTES), signature(os.fstat(fd))
        finally:
            os.close(fd)

    try:
        text, seen = unless_stale(content)
    except FileNotFoundError:
        return None
    try:
        return Layouts.from_json(text), seen
    except CacheError as error:
        raise type(error)(
            f"{root}: {error.what}", cause=error.cause, remedy=error.remedy, path=root
        ) from None


def replace_layouts(root: str, layouts: Layouts) -> None:
    """Let layout.json say this from now on; the caller sees to it that nobody else does so now.

    Raises:
        OSError: it says what it said before.
    """
    with _private(root, layouts.to_json()) as private:
        os.rename(private, f"{root}/{LAYOUT_FILE}")


def place(root: str, name: str, content: bytes) -> None:
    """Put a file there, whole or not at all; if there is one already, it stays."""
    with _private(root, content) as private:
        try:
            os.link(private, f"{root}/{name}")
        except FileExistsError:
            return
        except OSError as error:
            if error.errno not in LINK_REFUSED:
                raise
            os.rename(private, f"{root}/{name}")


@contextmanager
def _private(root: str, content: bytes) -> Iterator[str]:
    """A file of that content that nobody else looks at; gone afterwards, unless it got another name."""
    owner = new_owner()
    private = f"{root}/.{LAYOUT_FILE}.{owner}"
    try:
        fd = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, SHARED_FILE_MODE)
        try:
            os.write(fd, content)
            os.fsync(fd)
        finally:
            os.close(fd)
        yield private
    finally:
        retire(owner)
        with suppress(FileNotFoundError):
            os.unlink(private)
