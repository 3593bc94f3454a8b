"""A partial file that grows, and is hashed while it does."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from stager.cache.failures import cache_error
from stager.cache.partial import Partial
from stager.cache.store import FileCache
from stager.errors import CacheError
from stager.model.digests import Digest
from stager.model.entries import Entry
from stager.steps import reached
from stager.transfer.buffers import BufferPool
from stager.transfer.digest import FileDigest
from stager.transfer.writer import FileWriter


class GrowingFile:
    """The partial of one try.

    Args:
        partial: claimed; stays the caller's.
        buffers: what is read goes through them.
        in_place: see there.

    `in_place` are the bytes in it that count, `written` those of them that were appended here.
    """

    def __init__(self, partial: Partial, buffers: BufferPool, in_place: int) -> None:
        self.partial = partial
        self.in_place = in_place
        self.written = 0
        self._buffers = buffers
        self._writer: FileWriter | None = None
        self._digest: FileDigest | None = None  # of the bytes in place
        self._sidecar: Mapping[str, object] = {}  # what is on disk beside it

    @property
    def is_as_found(self) -> bool:
        """Whether it is still what an earlier try left."""
        return not self._sidecar

    def begin(self, offset: int, total: int | None, sidecar: Mapping[str, object]) -> None:
        """Cut it to `offset`, describe it for a later try with `sidecar`, and append from there.

        `total` is how long it will be, None where that is not known.
        """
        partial = self.partial
        if self.in_place != offset:
            self.drop_digest()
            self.in_place = offset
        partial.truncate(offset)
        self.stop()
        self._writer = FileWriter(partial.fd, partial.path, offset, total)
        if sidecar != self._sidecar:
            partial.write_sidecar(sidecar)
            self._sidecar = sidecar
        reached("fetch.sidecar")

    def append(self, data: memoryview) -> None:
        """Write `data` behind what is in place.

        Raises:
            CacheError: not all of it is there; `in_place` tells how much.
        """
        writer = self._writer
        assert writer is not None
        try:
            writer.append(data)
        except OSError as error:
            raise cache_error(error, self.partial.path, "write") from error
        finally:
            self.written += writer.offset - self.in_place
            self.in_place = writer.offset

    def put(self, offset: int, data: memoryview) -> None:
        """Write `data` at `offset`, beyond what is in place; by any thread.

        Raises:
            CacheError: not all of it is there.
        """
        try:
            while data:
                count = os.pwrite(self.partial.fd, data, offset)
                offset += count
                data = data[count:]
        except OSError as error:
            raise cache_error(error, self.partial.path, "write") from error

    def reach(self, front: int) -> None:
        """What was `put` before `front` is in place now, without a gap."""
        count = front - self.in_place
        if count > 0:
            self.in_place = front
            self.written += count
            if self._digest is not None:
                self._digest.found(count)

    def describe(self, sidecar: Mapping[str, object]) -> None:
        """Let `sidecar` speak of bytes beyond what is in place: they are on stable storage before it says so.

        Raises:
            CacheError: it could not be done.
        """
        try:
            os.fdatasync(
                self.partial.fd
            )  # after a power cut there would be holes where it says that there are bytes
        except OSError as error:
            raise cache_error(error, self.partial.path, "write") from error
        self.partial.write_sidecar(sidecar)
        self._sidecar = sidecar

    def hashed(self, more: Sequence[str], pulse: Callable[[], None]) -> tuple[str, tuple[Digest, ...]]:
        """SHA-256 of all bytes in place, and what else is asked for; `pulse` raises to give up.

        Raises:
            CacheError: the file can't be read again.
        """
        try:
            digest = self.hash(more)
            return digest.result(pulse), digest.others
        except OSError as error:
            raise cache_error(error, self.partial.path, "read") from error
        finally:
            self.drop_digest()

    def head(self, size: int) -> bytes:
        """Its first bytes.

        Raises:
            CacheError: it can't be read.
        """
        return self.read(0, min(size, self.in_place))

    def read(self, offset: int, size: int) -> bytes:
        """So many bytes from `offset` on.

        Raises:
            CacheError: it can't be read.
        """
        try:
            return os.pread(self.partial.fd, size, offset)
        except OSError as error:
            raise cache_error(error, self.partial.path, "read") from error

    def is_overtaken(self, cache: FileCache, key: str, entry: Entry | None) -> bool:
        """Whether a later try has fetched it, or is about to: nobody would go on with these bytes.

        It happens where a farm took this try for lost, as of a data node that was cut off for a while. `entry` is
        what the key had when this try began.
        """
        try:
            return self.partial.is_overtaken or cache.lookup(key) != entry
        except (CacheError, OSError):  # then they may be of use
            return False

    def stop(self) -> None:
        """Append no more. Idempotent."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def drop_digest(self) -> None:
        """Hash no more. Idempotent."""
        if self._digest is not None:
            self._digest.__exit__()
            self._digest = None

    def hash(self, more: Sequence[str]) -> FileDigest:
        """What hashes it from now on, and lends the buffers to read into; `more`: algorithms besides SHA-256.

        It begins anew, with what is in place, when it is to compute more than it does.
        """
        if self._digest is not None and not self._digest.covers(more):
            self.drop_digest()
        if self._digest is None:
            self._digest = FileDigest(self.partial.fd, self.in_place, self._buffers, more).__enter__()
        return self._digest
