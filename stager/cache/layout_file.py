"""layout.json: read, made, replaced; never written to, so that a reader sees one version or the other."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from stager.cache.failures import LINK_REFUSED
from stager.cache.files import unless_stale
from stager.cache.fresh import list_names
from stager.cache.layout import LAYOUT_FILE, SHARED_FILE_MODE, TAG_FILE, Layouts
from stager.cache.owner import is_alive, is_here, new_owner, retire
from stager.errors import CacheError, ConflictError, NotACacheError

Signature = tuple[int, int, int, int]
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_MAX_BYTES = 1 << 16
"""It is a hundred bytes."""
_TRIES = 5
_PAUSE_SECONDS = 0.05
"""An NFS server may say that there is none in the moment in which another host replaces it: then it is looked for again."""
CLAIM_NAME = f".{LAYOUT_FILE}.claim"
CLAIM_SECONDS = 60.0
"""A claim to change it is held for a moment; one of another host that is older than this is a dead owner's."""


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
    found = _read(root)
    for _ in range(_TRIES - 1):
        if found is not None or not _is_of_a_cache(root):
            break
        time.sleep(_PAUSE_SECONDS)
        found = _read(root)
    if found is None:
        return None
    text, seen = found
    try:
        return Layouts.from_json(text), seen
    except CacheError as error:
        raise type(error)(
            f"{root}: {error.what}", cause=error.cause, remedy=error.remedy, path=root
        ) from None


def _read(root: str) -> tuple[bytes, Signature] | None:
    def content() -> tuple[bytes, Signature]:
        fd = os.open(f"{root}/{LAYOUT_FILE}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, _MAX_BYTES), signature(os.fstat(fd))
        finally:
            os.close(fd)

    try:
        return unless_stale(content)
    except FileNotFoundError:
        return None


def _is_of_a_cache(root: str) -> bool:
    """Whether what is there is of a cache, which has a layout.json, or gets one in a moment."""
    return not {LAYOUT_FILE, TAG_FILE}.isdisjoint(list_names(root))


def change_layouts(root: str, change: Callable[[Layouts], Layouts]) -> None:
    """Let layout.json say what `change` makes of what it says; one process at a time.

    Raises:
        ConflictError: somebody else is changing it; it takes milliseconds, and so nobody waits for it.
        CacheError: it can't be read.
        OSError: it says what it said before.
    """
    with _claimed(root) as is_ours:
        found = read_layouts(root)
        if found is None:
            raise NotACacheError(f"{root} is not a cache", cause=f"its {LAYOUT_FILE} is gone", path=root)
        after = change(found[0])
        if after != found[0]:
            with _private(root, after.to_json()) as private:
                if not is_ours():
                    raise _conflict(root)
                unless_stale(os.rename, private, f"{root}/{LAYOUT_FILE}")


def place(root: str, name: str, content: bytes) -> None:
    """Put a file there, whole or not at all; if there is one already, it stays."""
    with _private(root, content) as private:
        try:
            unless_stale(os.link, private, f"{root}/{name}")
        except FileExistsError:
            return
        except OSError as error:
            if error.errno not in LINK_REFUSED:
                raise
            unless_stale(os.rename, private, f"{root}/{name}")


@contextmanager
def _private(root: str, content: bytes) -> Iterator[str]:
    """A file of that content that nobody else looks at; gone afterwards, unless it got another name."""
    owner = new_owner()
    private = f"{root}/.{LAYOUT_FILE}.{owner}"
    try:
        fd = unless_stale(os.open, private, _CREATE, SHARED_FILE_MODE)
        try:
            os.write(fd, content)
            os.fsync(fd)
        finally:
            os.close(fd)
        yield private
    finally:
        retire(owner)
        with suppress(FileNotFoundError):
            unless_stale(os.unlink, private)


@contextmanager
def _claimed(root: str) -> Iterator[Callable[[], bool]]:
    """Hold the claim; yields what tells whether it is still ours."""
    claim = f"{root}/{CLAIM_NAME}"
    owner = new_owner()

    def is_ours() -> bool:
        return _owner_of(claim) == owner

    try:
        _remove_drafts(root)
        _remove_dead_claim(root)
        try:
            _make_claim(claim, owner)
        except FileExistsError:
            raise _conflict(root) from None
        try:
            yield is_ours
        finally:
            if is_ours():
                with suppress(FileNotFoundError):
                    unless_stale(os.unlink, claim)
    finally:
        retire(owner)


def _conflict(root: str) -> ConflictError:
    return ConflictError(
        f"somebody else is changing the layout of the cache {root}",
        cause=f"{root}/{CLAIM_NAME} is there, and not ours",
        remedy=f"try again; after {CLAIM_SECONDS:.0f} s it counts as a dead one's",
    )


def _make_claim(claim: str, owner: str) -> None:
    fd = unless_stale(os.open, claim, _CREATE, SHARED_FILE_MODE)
    try:
        os.write(fd, owner.encode())
    finally:
        os.close(fd)


def _remove_drafts(root: str) -> None:
    """What killed processes of this host were about to put there."""
    for name in list_names(root):
        owner = name.removeprefix(f".{LAYOUT_FILE}.")
        if owner != name and is_here(owner) and not is_alive(owner):
            with suppress(FileNotFoundError):
                unless_stale(os.unlink, f"{root}/{name}")


def _remove_dead_claim(root: str) -> None:
    """Take away the claim of a dead owner: it gets a private name first, which one of several succeeds in.

    Who was late has taken another one's new claim: it comes back, and its owner looks before it makes use of it.
    """
    claim = f"{root}/{CLAIM_NAME}"
    dead = _owner_of(claim)
    if dead is None or not _is_dead(root, claim, dead):
        return
    with _private(root, b"") as aside:
        try:
            unless_stale(os.rename, claim, aside)
        except FileNotFoundError:  # somebody was quicker
            return
        if _owner_of(aside) == dead:
            return
        try:
            unless_stale(os.link, aside, claim)
        except FileExistsError:
            return
        except OSError as error:
            if error.errno not in LINK_REFUSED:
                raise
            unless_stale(os.rename, aside, claim)


def _is_dead(root: str, claim: str, owner: str) -> bool:
    if is_here(owner):
        return not is_alive(owner)
    with _private(root, b"") as file, suppress(FileNotFoundError):
        made, now = (unless_stale(os.stat, path).st_mtime for path in (claim, file))  # by the same clock
        return now - made > CLAIM_SECONDS
    return False


def _owner_of(claim: str) -> str | None:
    """Who wrote that claim; None: there is none."""

    def content() -> str:
        with open(claim, encoding="ascii") as file:
            return file.read()

    try:
        return unless_stale(content)
    except FileNotFoundError:
        return None
