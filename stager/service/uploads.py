"""What nodes that do not see the cache bring back over HTTP: results and what jobs printed, whole or not at all.

A file comes in parts, each from where the last one ended: neither a node nor a server that is killed in between
costs more than the part in hand. What has come of it lies beside the results until all of it is there and has
its digest.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from threading import Lock
from weakref import WeakValueDictionary

from stager.cache.failures import cache_error
from stager.cache.store import FileCache
from stager.errors import ConflictError, DigestMismatchError, InputError, NotFoundError, UnderWayError
from stager.mapper.dispatch.claims import NodeClaim
from stager.mapper.dispatch.results import result_key
from stager.model.records import JobRecord
from stager.model.uploads import Upload, Uploaded
from stager.state.store import Store

BLOCK_BYTES = 1 << 20
WAIT_SECONDS = 30.0
"""A call waits so long for the one before, below what nodes wait for an answer, so that calls do not pile up."""


class UploadService:
    """Takes them for one cache. A run is named by the job's id and the epoch under which it was handed over.

    Args:
        cache: where they go.
        store: knows which run of a job counts.
    """

    def __init__(self, cache: FileCache, store: Store) -> None:
        self._cache = cache
        self._store = store
        self._guard = Lock()
        self._locks: WeakValueDictionary[Path, Lock] = WeakValueDictionary()

    def claim(self, job: str, epoch: int, node: str) -> str:
        """Take the hand-over for a node; who has it, which is that node also if it had it before.

        Raises:
            NotFoundError: no such job.
            ConflictError: the run is not the one that counts.
            CacheError: the claim can't be written.
        """
        self._running(job, epoch)
        directory = self._cache.job_dir(job)
        try:
            return NodeClaim(directory, epoch).take(node)
        except OSError as error:
            raise cache_error(error, directory, "write") from error

    def holder(self, job: str, epoch: int) -> str | None:
        """Which node has the hand-over; None: none has.

        Raises:
            CacheError: the claim can't be read.
        """
        directory = self._cache.job_dir(job)
        try:
            return NodeClaim(directory, epoch).holder()
        except OSError as error:
            raise cache_error(error, directory, "read") from error

    def look(self, upload: Upload) -> Uploaded:
        """How much of it is here.

        Raises:
            NotFoundError, ConflictError: as of `claim`.
            CacheError: the cache can't be read.
        """
        self._running(upload.job, upload.epoch)
        if self._is_here(upload):
            return Uploaded(upload.size, complete=True)
        with _told("look at", part := self._part(upload)):
            return Uploaded(part.stat().st_size if part.exists() else 0, complete=False)

    def append(self, upload: Upload, offset: int, blocks: Iterable[bytes]) -> Uploaded:
        """Take the part that begins at `offset`; with the last one the file is there.

        Raises:
            ConflictError: another part is expected, or the run is not the one that counts.
            DigestMismatchError: it is not what was announced; it is to be sent anew.
            UnderWayError: the call before is not over; ask again.
            NotFoundError, InputError, CacheError: as of `look`.
        """
        self._running(upload.job, upload.epoch)
        part = self._part(upload)
        with self._alone(part), _told("write", part):
            if self._is_here(upload):
                return Uploaded(upload.size, complete=True)
            fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                there = os.fstat(fd).st_size
                if there != offset:
                    raise _goes_on(upload, there, offset)
                at = self._write(fd, upload, offset, blocks)
                if at < upload.size:
                    return Uploaded(at, complete=False)
                os.fsync(fd)
            finally:
                os.close(fd)
            try:
                self._finish(upload, part)
            except FileNotFoundError:  # another server finished it, or the job's directory is gone
                if not self._is_here(upload):
                    raise _goes_on(upload, 0, at) from None
        return Uploaded(upload.size, complete=True)

    # -- parts -----------------------------------------------------------------------------------

    @contextmanager
    def _alone(self, part: Path) -> Iterator[None]:
        """One call at a time for one part: a node that waited too long asks while the call before goes on."""
        with self._guard:
            lock = self._locks.setdefault(part, Lock())
        if not lock.acquire(timeout=WAIT_SECONDS):
            raise UnderWayError(
                "the last part is not taken yet", cause="all of it is read and stored now", remedy="ask again"
            )
        try:
            yield
        finally:
            lock.release()

    def _write(self, fd: int, upload: Upload, at: int, blocks: Iterable[bytes]) -> int:
        for block in blocks:
            if at + len(block) > upload.size:
                raise InputError(
                    f"{upload.name} is longer than {upload.size} bytes", cause="so much was announced"
                )
            at += os.pwrite(fd, block, at)
        return at

    def _finish(self, upload: Upload, part: Path) -> None:
        digest = _digest(part)
        if digest != upload.sha256:
            part.unlink()
            raise DigestMismatchError(
                f"{upload.name} of job {upload.job} was not taken",
                cause=f"its SHA-256 is {digest}, {upload.sha256} was announced",
                remedy="send it again",
            )
        record = self._running(upload.job, upload.epoch)  # all of it may have taken long
        if upload.is_printed:
            part.chmod(0o644)
            part.replace(self._printed(upload))
            return
        with part.open("rb") as file:
            self._cache.put(
                result_key(upload.job, upload.result),
                file,
                owner=record.owner,
                keep_until=time.time() + self._cache.promise_seconds,
                restricted=upload.restricted,
            )
        part.unlink()

    def _is_here(self, upload: Upload) -> bool:
        if upload.is_printed:
            path = self._printed(upload)
            return path.exists() and path.stat().st_size == upload.size and _digest(path) == upload.sha256
        entry = self._cache.lookup(result_key(upload.job, upload.result))
        return entry is not None and entry.object == upload.sha256

    def _printed(self, upload: Upload) -> Path:
        return self._cache.job_dir(upload.job) / upload.name

    def _part(self, upload: Upload) -> Path:
        return self._cache.job_dir(upload.job) / "results" / f".{upload.epoch}.{upload.sha256}.part"

    def _running(self, job: str, epoch: int) -> JobRecord:
        found = self._store.job(job)
        if found is None:
            raise NotFoundError(f"no job {job!r}", remedy="see `stager jobs`")
        if found.record.epoch != epoch or not found.record.handed:
            raise ConflictError(
                f"run {epoch} of job {job} is not the one that counts",
                cause=f"the last is {found.record.epoch}" if found.record.epoch != epoch else "it is over",
                remedy="give that run up",
            )
        return found.record


def _goes_on(upload: Upload, there: int, offset: int) -> ConflictError:
    return ConflictError(
        f"{upload.name} goes on at byte {there}",
        cause=f"a part from {offset} on was sent",
        remedy="ask where it goes on",
        offset=there,
    )


def _digest(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _told(what: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise cache_error(error, path, what) from error
