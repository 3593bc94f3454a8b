"""Taking over what a dead owner left."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from stager.cache.files import remove_quietly
from stager.cache.fresh import list_names
from stager.cache.layout import PRIVATE_FILE_MODE
from stager.cache.owner import is_alive, is_here, new_owner, retire
from stager.cache.partial import Partial, create_partial, read_sidecar, try_lock
from stager.cache.tree import Tree

_COPY_BYTES = 8 << 20
"""Bytes per copying call: large enough that calls don't count, small enough to stay out of memory."""
_NO_COPY = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF})
"""What `copy_file_range` answers where it does not exist."""
_REOPEN = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


def claim(tree: Tree, digest: str, generation: int) -> Partial:
    """A temporary for the key with that digest, with the bytes of a dead owner if there are any.

    The best leftover (one that says how to go on; the longest) is taken, other dead ones are deleted, and
    those of living owners are left alone. What makes this correct:

    - Whoever takes a leftover *over in place* renames it, and of several renames of one name exactly one
      wins; the others begin from zero. This is done only to files whose owner is proved dead: same
      kernel, same pid namespace, and that process is gone (or has given the file up, if it is ours).
    - From any other owner the bytes are *copied*: one that still lives, on another host, can't write to
      an inode that is going to be published. The lock on the file only makes that waste unlikely.
    - A leftover with a second link is an object already (its owner died between linking and cleaning);
      it is copied as well, because nobody may write to an object.

    Not guaranteed: that a living owner on another host keeps its file when locks between hosts fail. Its
    publishing then fails with a transient error, and no bytes are damaged. Nor that bytes of an
    earlier try survived a power loss whole: the digest of the complete file is what counts.

    Raises:
        OSError: the temporary could not be made.
    """
    taken: Partial | None = None
    for leftover in sorted(_leftovers(tree, digest), key=_Leftover.rank, reverse=True):
        if leftover.in_place and is_alive(leftover.owner):
            continue
        if not leftover.resumable:
            if leftover.in_place:
                remove_quietly(leftover.path)
        elif taken is None:
            taken = _take(tree, digest, generation, leftover)
        else:
            _drop(leftover)
    return taken or create_partial(tree, digest, generation)


def clear_leftovers(tree: Tree, name: str) -> None:
    """The file was published whose temporary had that name: what dead owners of this host left of it is of no use.

    Such a one may have been alive, and so passed over, when the temporary was claimed.
    """
    if not name.endswith(".part"):
        return
    with suppress(OSError):  # what can't be cleared away now waits for upkeep
        for leftover in _leftovers(tree, os.path.basename(name).partition(".")[0]):
            if leftover.in_place and not is_alive(leftover.owner):
                _drop(leftover)


@dataclass(frozen=True, slots=True)
class _Leftover:
    path: str
    owner: str
    size: int
    has_sidecar: bool

    @property
    def in_place(self) -> bool:
        return is_here(self.owner)

    @property
    def resumable(self) -> bool:
        return self.path.endswith(".part")

    @property
    def sidecar(self) -> str:
        return self.path.removesuffix(".part") + ".json"

    def rank(self) -> tuple[bool, int]:
        return self.has_sidecar, self.size


def _leftovers(tree: Tree, digest: str) -> Iterator[_Leftover]:
    directory = tree.partial_directory(digest)
    names = [name for name in list_names(directory) if name.startswith(digest)]
    for name in names:
        stem, dot, suffix = name.rpartition(".")
        if not dot or suffix not in {"part", "tmp"}:
            continue
        path = f"{directory}/{name}"
        try:
            size = os.stat(path, follow_symlinks=False).st_size
        except OSError:  # its owner was quicker
            continue
        yield _Leftover(path, stem.rpartition(".")[2], size, f"{stem}.json" in names)


def _take(tree: Tree, digest: str, generation: int, leftover: _Leftover) -> Partial | None:
    if leftover.size == 0:
        if leftover.in_place:
            _drop(leftover)
        return None  # one without bytes on another host may have been made just now
    fd = _open_dead(leftover)
    if fd is None:
        return None
    if leftover.in_place and os.fstat(fd).st_nlink == 1:
        return _take_in_place(tree, digest, generation, leftover, fd)
    try:
        return _take_copy(tree, digest, generation, leftover, fd)
    finally:
        os.close(fd)


def _take_in_place(tree: Tree, digest: str, generation: int, leftover: _Leftover, fd: int) -> Partial | None:
    owner = new_owner()
    stem = f"{tree.partial_directory(digest)}/{digest}.{generation}.{owner}"
    try:
        os.rename(leftover.path, stem + ".part")  # the claim: exactly one wins
    except OSError:
        retire(owner)
        os.close(fd)
        return None
    with suppress(OSError):  # without it the bytes can't be gone on with, and that is all
        os.rename(leftover.sidecar, stem + ".json")
    return Partial(stem, owner, fd, size=os.fstat(fd).st_size)


def _take_copy(tree: Tree, digest: str, generation: int, leftover: _Leftover, fd: int) -> Partial | None:
    before = read_sidecar(leftover.sidecar)
    partial = create_partial(tree, digest, generation)
    try:
        partial.size = _copy(fd, partial.fd)
        if before is not None:
            partial.write_sidecar(before)
        if read_sidecar(leftover.sidecar) != before:  # its owner lives and began anew meanwhile
            partial.discard()
            return None
    except BaseException:
        partial.discard()
        raise
    _remove_leftover(leftover)
    return partial


def _drop(leftover: _Leftover) -> None:
    fd = _open_dead(leftover)
    if fd is not None:
        _remove_leftover(leftover)
        os.close(fd)


def _remove_leftover(leftover: _Leftover) -> None:
    remove_quietly(leftover.path)
    remove_quietly(leftover.sidecar)


def _open_dead(leftover: _Leftover) -> int | None:
    """The leftover, open and locked; None when its owner may live or somebody else took it."""
    try:
        fd = _reopen(leftover.path, in_place=leftover.in_place)
    except OSError:  # taken by another, or not ours to read
        return None
    try:
        # What is open for reading only can't be locked against other readers everywhere (not by NFS 4).
        locked = try_lock(fd, shared=not leftover.in_place)
        same = os.path.samestat(os.fstat(fd), os.stat(leftover.path, follow_symlinks=False))
    except OSError:
        locked = same = False
    if same and (locked or (locked is None and leftover.in_place)):
        return fd
    os.close(fd)
    return None


def _reopen(path: str, *, in_place: bool) -> int:
    try:
        return os.open(path, _REOPEN if in_place else os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except PermissionError:  # its owner died between chmod and link
        if not in_place:
            raise
    if os.stat(path, follow_symlinks=False).st_nlink == 1:
        os.chmod(path, PRIVATE_FILE_MODE, follow_symlinks=True)
        return os.open(path, _REOPEN)
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)


def _copy(source: int, target: int) -> int:
    """Copy from beginning to end; the number of bytes copied."""
    done = 0
    while count := _copy_block(source, target, done):
        done += count
    return done


def _copy_block(source: int, target: int, offset: int) -> int:
    try:
        return os.copy_file_range(source, target, _COPY_BYTES, offset, offset)  # inside the server if it can
    except OSError as error:
        if error.errno not in _NO_COPY:
            raise
    block = os.pread(source, _COPY_BYTES, offset)
    return os.pwrite(target, block, offset) if block else 0
