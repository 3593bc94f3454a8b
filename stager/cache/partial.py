"""Unfinished files: made private, kept when a fetch breaks off, taken over by the next one."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from stager.cache.failures import cache_error
from stager.cache.files import remove_quietly, write_all
from stager.cache.fresh import list_names
from stager.cache.layout import PRIVATE_FILE_MODE
from stager.cache.owner import former, is_alive, is_here, new_owner, retire
from stager.cache.tree import Tree

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class Partial:
    """A private temporary that this process owns until `keep`, `discard` or the end of `FileCache.publish`.

    Attributes:
        fd: open for reading and writing at any position; -1 once it is given up.
        path: where it is until it is published.
        size: bytes that an earlier try left in it; 0 when it is fresh.
    """

    def __init__(self, stem: str, owner: str, fd: int, *, suffix: str = ".part", size: int = 0) -> None:
        self.fd = fd
        self.path = Path(stem + suffix)
        self.size = size
        self.name = stem + suffix
        self._sidecar = stem + ".json"
        self._owner = owner
        self._lock = -1
        self._resumable = suffix == ".part"

    def sidecar(self) -> dict[str, Any] | None:
        """What the earlier try wrote with `write_sidecar`; None when nothing, or nothing readable."""
        return read_sidecar(self._sidecar)

    def write_sidecar(self, data: Mapping[str, Any]) -> None:
        """Say how to go on after a crash; before the first byte, and whole or not at all.

        Raises:
            CacheError: it could not be written.
        """
        private = self._sidecar + ".new"
        try:
            try:
                fd = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE_FILE_MODE)
                try:
                    write_all(fd, json.dumps(dict(data)).encode())
                finally:
                    os.close(fd)
                os.rename(private, self._sidecar)
            except BaseException:
                remove_quietly(private)
                raise
        except OSError as error:
            raise cache_error(error, self._sidecar, "write") from error

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes.

        Raises:
            CacheError: it could not be done.
        """
        try:
            os.ftruncate(self.fd, size)
        except OSError as error:
            raise cache_error(error, self.name, "truncate") from error

    @property
    def is_overtaken(self) -> bool:
        """Whether a later try of the key is at work on this host, with a temporary of its own."""
        directory, name = os.path.split(self.name)
        digest, generation = name.split(".")[:2]
        return any(
            other.startswith(f"{digest}.") and other.endswith(".part") and _is_later(other, int(generation))
            for other in list_names(directory)
        )

    def keep(self) -> None:
        """Close; the bytes stay for the next `FileCache.claim_partial` of this key. Idempotent.

        Raises:
            CacheError: closing failed, so that the bytes may be incomplete.
        """
        if self.fd < 0:
            return
        try:
            if os.fstat(self.fd).st_size == 0:
                self.discard()
                return
            fd, self.fd = self.fd, -1
            os.close(fd)
        except OSError as error:
            raise cache_error(error, self.name, "close") from error
        finally:
            retire(self._owner)
        self._give_up()

    def _give_up(self) -> None:
        """Say by the name that nobody writes to it any more: another process of this host need not wait for our end."""
        stem = self._sidecar.removesuffix(".json")
        past = stem.removesuffix(self._owner) + former(self._owner)
        with suppress(OSError):  # under its old name it waits until this process has ended
            with suppress(FileNotFoundError):
                os.rename(self._sidecar, past + ".json")
            os.rename(self.name, past + ".part")
            self.name, self.path = past + ".part", Path(past + ".part")

    def discard(self) -> None:
        """Close and delete. Idempotent; what can't be deleted is left to the next claim or scrub."""
        fd, self.fd = self.fd, -1
        if fd < 0 and self._lock < 0:
            return
        if fd >= 0:
            with suppress(OSError):  # nobody needs these bytes
                os.close(fd)
        self.release()

    def close_checked(self) -> None:
        """Close the file, holding only its lock: on NFS this is where the last write errors come out.

        Raises:
            OSError: some bytes did not reach the server.
        """
        with suppress(OSError):  # no descriptor left: then without the lock, which only saves work
            self._lock = os.dup(self.fd)
        fd, self.fd = self.fd, -1
        os.close(fd)

    def leave(self) -> None:
        """After `close_checked`: let go; the complete bytes stay for the next claim, if there can be one."""
        if not self._resumable:
            remove_quietly(self.name)
        retire(self._owner)
        fd, self._lock = self._lock, -1
        if fd >= 0:
            with suppress(OSError):  # closed and checked before; this is only the lock
                os.close(fd)

    def release(self) -> None:
        """After `close_checked`: delete the private names and let the lock go."""
        remove_quietly(self.name)
        remove_quietly(self._sidecar)
        self.leave()


def _is_later(name: str, generation: int) -> bool:
    _, number, owner, _ = name.split(".")
    return number.isdecimal() and int(number) > generation and is_here(owner) and is_alive(owner)


def create_partial(tree: Tree, digest: str, generation: int) -> Partial:
    """A fresh, empty temporary for the key with that digest, locked.

    Raises:
        OSError: it could not be made.
    """
    owner, stem, fd = create_file(tree, digest, f"{generation}.", ".part")
    try_lock(fd)
    return Partial(stem, owner, fd)


def create_unnamed(tree: Tree, digest: str) -> Partial:
    """A temporary that nobody will go on with if its owner dies.

    Raises:
        CacheError: it could not be made.
    """
    try:
        owner, stem, fd = create_file(tree, digest, "", ".tmp")
    except OSError as error:
        raise cache_error(error, tree.partial_directory(digest), "make a file in") from error
    return Partial(stem, owner, fd, suffix=".tmp")


def create_file(tree: Tree, digest: str, infix: str, suffix: str) -> tuple[str, str, int]:
    """A private file for the key with that digest: its owner, its path without `suffix`, and its descriptor.

    Raises:
        OSError: it could not be made.
    """
    directory = tree.partial_directory(digest)
    while True:
        owner = new_owner()
        stem = f"{directory}/{digest}.{infix}{owner}"
        name = stem + suffix
        try:
            fd = tree.creating(name, partial(os.open, name, _CREATE, PRIVATE_FILE_MODE))
        except FileExistsError:  # without /proc a pid may come round again; or NFS repeated our call
            retire(owner)
        except BaseException:
            retire(owner)
            raise
        else:
            return owner, stem, fd


def try_lock(fd: int, *, shared: bool = False) -> bool | None:
    """Whether we have the lock now (the owner's, or beside other readers); None where there are no locks."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EAGAIN}:
            return False
        return None
    return True


def read_sidecar(path: str) -> dict[str, Any] | None:
    """The sidecar at `path`; None when there is none, or one that nobody can read."""
    try:
        with open(path, "rb") as file:
            data = json.loads(file.read())
    except (OSError, ValueError):  # none, or torn by a power loss: begin from zero
        return None
    return data if isinstance(data, dict) else None
