"""One file that a site already has → an object of the cache, and its entry.

A file is copied, or gets a second name in the cache. Nothing is published whose digest was not computed from the
very bytes that the object has; killed anywhere, there is no object or a whole one, and no entry or a right one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from stager.cache.failures import cache_error
from stager.cache.layout import OBJECT_MODE
from stager.cache.partial import Partial, create_unnamed
from stager.cache.store import FileCache
from stager.clock import Clock
from stager.model.entries import Entry
from stager.model.keys import key_digest
from stager.steps import reached

SMALL_BYTES = 1 << 20
"""A file up to this size is read whole: fewer calls, and no name before its final one."""
_BLOCK_BYTES = 1 << 20
_COPY_BYTES = 16 << 20
"""Bytes per copying call: large enough that calls don't count, small enough that an interruption is heard."""
_NO_COPY = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_CHANGED = "it changed while it was read"
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Outcome(StrEnum):
    """What became of a file."""

    IMPORTED = "imported"
    PRESENT = "present"
    """The cache had it already."""
    UNLISTED = "unlisted"
    """It is in a bag whose manifest does not name it."""
    KEPT = "kept"
    """The cache has other bytes under that key, from their origin: those stay."""
    MISMATCH = "mismatch"
    """It does not have the digest that it should have."""
    MISSING = "missing"
    """A manifest names it and it is not there."""
    UNFIT = "unfit"
    """Not a regular file, or of a name that can't be a key."""
    FAILED = "failed"
    """It could not be read or stored."""

    @property
    def is_good(self) -> bool:
        """Whether the cache has the bytes now."""
        return self in {Outcome.IMPORTED, Outcome.PRESENT}


@dataclass(frozen=True, slots=True)
class Source:
    """A file to adopt.

    Attributes:
        path: of the file.
        name: relative to what is imported, for people.
        key: of its entry.
        digest: what it must have, as algorithm and hexadecimal digits; None: nobody said.
    """

    path: str
    name: str
    key: str
    digest: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Adopted:
    """What became of one file; `reason` says why if it is not good."""

    name: str
    outcome: Outcome
    size: int = 0
    sha256: str = ""
    reason: str = ""


class StoppedError(Exception):
    """Somebody asked to stop in the middle of a file; nothing of it is left."""


class Adopter:
    """Adopts files; threads may share it.

    Args:
        cache: where to.
        link: give the file a second name instead of copying it.
        readable: take files too that not everybody may read; in the cache everybody may.
        owner: whom the entries count for.
        stopped: whether to stop, asked now and then.
        clock: for tests.
    """

    def __init__(
        self,
        cache: FileCache,
        *,
        link: bool,
        readable: bool,
        owner: str,
        stopped: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._cache = cache
        self._link = link
        self._readable = readable
        self._owner = owner
        self._stopped = stopped
        self._clock = clock

    def adopt(self, source: Source) -> Adopted:
        """Adopt one file; what is wrong with it is said in the answer.

        Raises:
            StoppedError: see `Adopter`.
            CacheError: the cache can't be used; the next file would fare no better.
        """
        try:
            fd = os.open(source.path, _READ)
        except OSError as error:
            return self._unreadable(source, error)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                return Adopted(source.name, Outcome.UNFIT, reason="not a regular file")
            known = self._known(source, found)
            if known is not None:
                return known
            refusal = self._refusal(found)
            if refusal:
                return Adopted(source.name, Outcome.UNFIT, found.st_size, reason=refusal)
            return self._adopt(source, fd, found)
        except OSError as error:  # of the source: what the cache says is a CacheError
            return self._unreadable(source, error)
        finally:
            os.close(fd)

    def _known(self, source: Source, found: os.stat_result) -> Adopted | None:
        """The answer if it is clear without reading the file: it has not changed since it was adopted."""
        entry = self._cache.lookup(source.key)
        if entry is None or entry.size != found.st_size:
            return None
        if source.digest is not None and source.digest != ("sha256", entry.object):
            return None
        if self._link:
            with suppress(OSError):
                if os.path.samestat(found, os.stat(self._cache.object_path(entry.object))):
                    return Adopted(source.name, Outcome.PRESENT, found.st_size, entry.object)
        if entry.validators or max(found.st_mtime, found.st_ctime) >= entry.stored_at or self._link:
            return None
        return Adopted(source.name, Outcome.PRESENT, found.st_size, entry.object)

    def _refusal(self, found: os.stat_result) -> str:
        """Why such a file is not adopted, and what to do; empty if it may be."""
        if self._link and found.st_uid != os.geteuid():
            return f"it belongs to uid {found.st_uid}, who could still change it: import without --link"
        if not (self._readable or found.st_mode & stat.S_IROTH):
            return (
                f"its mode {stat.S_IMODE(found.st_mode):04o} does not let everybody read it, and the cache would: "
                "`chmod o+r` it, or import with --readable"
            )
        return ""

    def _adopt(self, source: Source, fd: int, found: os.stat_result) -> Adopted:
        begun = self._clock.time()  # what changes from here on is newer than the entry
        if self._link:
            adopted = self._adopt_link(source, fd, found)
        elif found.st_size <= SMALL_BYTES:
            adopted = self._adopt_small(source, fd, found)
        else:
            adopted = self._adopt_copy(source, fd, found)
        if adopted.outcome is not Outcome.IMPORTED:
            return adopted
        reached("import.published")
        return self._record(source, adopted, begun)

    def _record(self, source: Source, adopted: Adopted, begun: float) -> Adopted:
        before = self._cache.lookup(source.key)
        if before is not None and before.object == adopted.sha256 and before.validators:
            return adopted  # from its origin, which said more of it than we could
        if before is not None and before.validators:
            reason = "the cache has other bytes under that URL, which came from the origin"
            return Adopted(source.name, Outcome.KEPT, adopted.size, adopted.sha256, reason)
        url = source.key if "://" in source.key else None
        self._cache.record(Entry(source.key, adopted.sha256, adopted.size, begun, url=url, owner=self._owner))
        reached("import.recorded")
        return adopted

    # -- three ways ----------------------------------------------------------------------------------

    def _adopt_small(self, source: Source, fd: int, found: os.stat_result) -> Adopted:
        data = os.read(fd, SMALL_BYTES + 1)
        if len(data) != found.st_size:
            return _changed(source)
        digests = _Digests(source)
        digests.update(data)
        if digests.differs:
            return digests.refused(source, len(data))
        self._cache.publish_bytes(source.key, data, digests.sha256)
        return Adopted(source.name, Outcome.IMPORTED, len(data), digests.sha256)

    def _adopt_copy(self, source: Source, fd: int, found: os.stat_result) -> Adopted:
        partial = self._temporary(source)
        try:
            size = self._copy(fd, partial, found.st_size)
            if size != found.st_size or _has_changed(fd, found):
                return _changed(source)
            digests = self._read(source, partial.fd, size)  # of the copy: this is what is published
            if digests.differs:
                return digests.refused(source, size)
            self._cache.publish(partial, digests.sha256, size)
        finally:
            partial.discard()
        return Adopted(source.name, Outcome.IMPORTED, size, digests.sha256)

    def _adopt_link(self, source: Source, fd: int, found: os.stat_result) -> Adopted:
        digests = self._read(source, fd, found.st_size)
        if digests.differs:
            return digests.refused(source, found.st_size)
        reason = _CHANGED
        try:
            os.fsync(fd)
            if not _has_changed(fd, found):
                self._cache.link_object(fd, digests.sha256)
                reason = self._settle(fd, found, digests.sha256)
        except OSError as error:
            if error.errno in _FULL:
                raise cache_error(error, self._cache.object_path(digests.sha256), "link") from error
            why = "it is on another file system" if error.errno == errno.EXDEV else error.strerror
            reason = f"it can't be linked: {why}; import without links"
        if reason:
            return Adopted(source.name, Outcome.FAILED, found.st_size, digests.sha256, reason)
        return Adopted(source.name, Outcome.IMPORTED, found.st_size, digests.sha256)

    def _settle(self, fd: int, found: os.stat_result, sha256: str) -> str:
        """Make the file read-only if it is the object now; why it can't be one, or nothing."""
        path = self._cache.object_path(sha256)
        if not os.path.samestat(
            found, os.stat(path)
        ):  # the same bytes from elsewhere: this file stays as it is
            whole = self._cache.has_object(sha256, found.st_size)
            return "" if whole else f"the cache's copy {path} is damaged: verify the cache first"
        os.fchmod(fd, OBJECT_MODE)  # from here on nobody opens it for writing
        if not _has_changed(fd, found):
            return ""
        os.unlink(path)
        os.fchmod(fd, stat.S_IMODE(found.st_mode))
        return _CHANGED

    # -- inside --------------------------------------------------------------------------------------

    def _temporary(self, source: Source) -> Partial:
        return create_unnamed(self._cache.tree, key_digest(source.key))

    def _copy(self, fd: int, partial: Partial, size: int) -> int:
        """Copy, inside the file system where it can; the bytes copied."""
        done, inside = 0, True
        while done <= size and not self._stop():
            count = 0
            if inside:
                try:
                    count = os.copy_file_range(fd, partial.fd, _COPY_BYTES, done, done)
                except OSError as error:
                    if error.errno in _FULL:
                        raise cache_error(error, partial.name, "write") from error
                    if error.errno not in _NO_COPY:
                        raise
                    inside = False
            if not inside:
                block = os.pread(fd, _BLOCK_BYTES, done)
                try:
                    count = os.pwrite(partial.fd, block, done) if block else 0
                except OSError as error:
                    raise cache_error(error, partial.name, "write") from error
            if not count:
                break
            done += count
        return done

    def _read(self, source: Source, fd: int, size: int) -> _Digests:
        digests = _Digests(source)
        done = 0
        while done < size and not self._stop() and (block := os.pread(fd, _BLOCK_BYTES, done)):
            digests.update(block)
            done += len(block)
        return digests

    def _stop(self) -> bool:
        if self._stopped():
            raise StoppedError
        return False

    def _unreadable(self, source: Source, error: OSError) -> Adopted:
        if error.errno == errno.ELOOP:
            return Adopted(source.name, Outcome.UNFIT, reason="a symbolic link")
        return Adopted(source.name, Outcome.FAILED, reason=error.strerror or str(error))


class _Digests:
    """SHA-256, and the digest that a manifest names if that is another one."""

    def __init__(self, source: Source) -> None:
        self._sha256 = hashlib.sha256()
        self._wanted = source.digest
        algorithm = source.digest[0] if source.digest else "sha256"
        other = algorithm != "sha256"
        self._other = hashlib.new(algorithm, usedforsecurity=False) if other else self._sha256

    def update(self, data: bytes) -> None:
        self._sha256.update(data)
        if self._other is not self._sha256:
            self._other.update(data)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def differs(self) -> bool:
        return self._wanted is not None and self._other.hexdigest() != self._wanted[1]

    def refused(self, source: Source, size: int) -> Adopted:
        algorithm, wanted = self._wanted or ("", "")
        reason = f"{algorithm} is {self._other.hexdigest()} and should be {wanted}"
        return Adopted(source.name, Outcome.MISMATCH, size, self.sha256, reason)


def _has_changed(fd: int, before: os.stat_result) -> bool:
    now = os.fstat(fd)
    return (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns)


def _changed(source: Source) -> Adopted:
    return Adopted(source.name, Outcome.FAILED, reason=_CHANGED)
