"""A partial file that grows, and is hashed while it does."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from stager.cache.failures import cache_error
from stager.cache.partial import Partial
from stager.model.digests import Digest
from stager.steps import reached
from stager.transfer.buffers import BufferPool
from stager.transfer.digest import FileDigest
from stager.transfer.writer import FileWriter


class GrowingFile:
    """The partial of one try.

    Args:
        partial: claimed; stays the caller's.
        buffers: what is read goes through them.

    `in_place` are the bytes in it that count, `written` those of them that were appended here.
    """

    def __init__(self, partial: Partial, buffers: BufferPool) -> None:
        self.partial = partial
        self.in_place = partial.size
        self.written = 0
        self._buffers = buffers
        self._writer: FileWriter | None = None
        self._digest: FileDigest | None = None  # of the bytes in place
        self._sidecar: Mapping[str, object] = {}  # what is on disk beside it

    def begin(self, offset: int, total: int | None, sidecar: Mapping[str, object]) -> None:
        """Cut it to `offset`, describe it for a later try with `sidecar`, and append from there.

        `total` is how long it will be, None where that is not known.
        """
        partial = self.partial
        if self.in_place != offset:
            self.drop_digest()
            partial.truncate(offset)
            self.in_place = offset
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
        try:
            return os.pread(self.partial.fd, min(size, self.in_place), 0)
        except OSError as error:
            raise cache_error(error, self.partial.path, "read") from error

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
