"""`FileCache`: the sharded store of files by key, and what the transfer and the mapper need of it."""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

from stager.cache import objects, pins
from stager.cache.access import AccessTimes, touch
from stager.cache.claim import claim, clear_leftovers
from stager.cache.entries import EntryFiles
from stager.cache.failures import cache_error
from stager.cache.files import STALE
from stager.cache.layout import RESTRICTED
from stager.cache.partial import Partial
from stager.cache.publish import publish, publish_bytes
from stager.cache.putting import file_writer, put_file
from stager.cache.recent import Recent
from stager.cache.sweep import sweep
from stager.cache.tree import open_tree
from stager.cache.vacant import VacantDirectories
from stager.clock import Clock, SystemClock
from stager.errors import CacheIOError, InputError, NotFoundError
from stager.model.entries import Entry
from stager.model.keys import key_digest, parse_sha256
from stager.steps import reached

if TYPE_CHECKING:
    from stager.cache.writer import Source

RECHECK_SECONDS = 1.0
"""How long a hit is answered from memory before the file system is asked again."""
_digest_again = lru_cache(256)(key_digest)  # for the steps of a fetch, each of which asks for the same key


class FileCache:
    """Files by key (any text), in a directory that many processes and hosts may share.

    Args:
        path: the directory; created if nothing is there, never writable for others.
        shards: hexadecimal digits per directory level, for a cache that does not exist yet.
        remember: keys whose path is kept in memory, so that a hit costs microseconds; a removal by
            another process is noticed within a second all the same.
        clock: for tests.

    Attributes:
        root: of the tree.
        tree: the directory and its layout, for those who look after the cache.
        access: when keys were used last.
        promise_seconds: how long what a job leaves is promised to stay.

    An object never changes: a key whose content changes gets another object. Threads may share a
    `FileCache`; a forked child may go on with its parent's.

    Raises:
        NotACacheError: something else is there; it is left as it is.
        LayoutVersionError: the cache was written by a newer version of the program.
        CacheError: it can't be read or created.
        InputError: `shards` makes no sense.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        shards: str = "2+2",
        remember: int = 65_536,
        clock: Clock | None = None,
    ) -> None:
        self.tree = open_tree(path, shards)
        self.root = Path(self.tree.root)
        self.promise_seconds = 0.0
        self._clock = clock or SystemClock()
        self._monotonic = self._clock.monotonic
        self._entries = EntryFiles(self.tree)
        self._seen: Recent[tuple[Path, float]] = Recent(remember)
        self._fresh: Recent[bool] = Recent(4096)  # objects of ours whose first entry is to come
        self._vacant = VacantDirectories(self._clock, remote=self.tree.remote)
        self.access = AccessTimes(partial(touch, self.tree), self._clock)
        self._flush = weakref.finalize(self, self.access.flush)  # also when the interpreter ends

    def __repr__(self) -> str:
        return f"FileCache({str(self.root)!r}, shards={self.tree.layout.shards!r})"

    def check(self) -> None:
        """Raise an error unless the cache that was opened is there. See `Tree.check`."""
        self.tree.check()

    # -- files by key ----------------------------------------------------------------------------

    def get(self, key: str) -> Path | None:
        """The path of the key's object, or None. The path stays good as long as the object is not removed.

        Raises:
            CacheError: the file system failed.
        """
        now = self._monotonic()
        seen = self._seen.get(key)
        if seen is not None and now - seen[1] < RECHECK_SECONDS:
            return seen[0]
        digest = key_digest(key)
        found = self._entries.resolve(digest)
        if found is None:
            self._seen.pop(key)
            return None
        path = Path(found) if seen is None or str(seen[0]) != found else seen[0]
        self._seen.set(key, (path, now))
        self.access.note(digest, now)
        return path

    def path(self, key: str) -> Path:
        """Like `get`.

        Raises:
            NotFoundError: the cache does not have the key.
        """
        found = self.get(key)
        if found is None:
            raise NotFoundError(
                f"{key!r} is not in the cache {self.root}", remedy="fetch or put it first", key=key
            )
        return found

    def contains(self, key: str) -> bool:
        """Whether `get` would find the key."""
        return self.get(key) is not None

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.contains(key)

    def open(self, key: str, mode: Literal["rb", "wb"] = "rb") -> BinaryIO:
        """The key's file, open for reading; or, with ``wb``, a file that becomes the key's when it is closed.

        A file open for reading stays readable when its key is removed or replaced. Writing is private until
        `close` publishes it; after an exception inside a ``with`` block nothing is published.

        Raises:
            NotFoundError: the cache does not have the key.
            CacheError: the file system failed.
            InputError: another mode.
        """
        if mode == "rb":
            return self._open_for_reading(key)
        if mode == "wb":
            return cast("BinaryIO", file_writer(self, key, partial(self._entry, key))[0])
        raise InputError(f"mode {mode!r} of a cached file", cause="it is read ('rb') or written anew ('wb')")

    def put(
        self,
        key: str,
        source: Source,
        *,
        owner: str = "",
        keep_until: float | None = None,
        restricted: bool = False,
    ) -> Entry:
        """Copy `source` (a path, bytes, or a file open for reading) into the cache as the key's file.

        `owner` is whose file it is; until `keep_until` (seconds since 1970 UTC) it is promised to stay. What is
        `restricted` is readable for the user that this process runs as, and for no other.

        Raises:
            InputError: the source can't be read.
            CacheError: it can't be stored; the key keeps what it had.
        """
        return put_file(
            self,
            key,
            source,
            partial(self._entry, key, owner=owner, keep_until=keep_until, restricted=restricted),
            restricted=restricted,
        )

    def remove(self, key: str) -> bool:
        """Forget the key and give its space back; whether it was there.

        The object goes at once unless a job has it as an input or another key has used it too; such an
        object is left, unnamed, for the next clean-up. Whoever has it open can go on reading it.

        Raises:
            CacheError: the file system failed; the key may still be there.
        """
        self.tree.check()
        digest = key_digest(key)
        entry, removed = self._entries.read(digest), self._entries.remove(digest)
        self._seen.pop(key)
        self.access.forget(digest)
        if entry is not None:
            objects.remove_object(self.tree, entry.object, restricted=entry.restricted)
        return removed

    def __iter__(self) -> Iterator[str]:
        return (entry.key for entry in self.entries())

    def __len__(self) -> int:
        return sum(1 for digest in self._entries.digests() if self._entries.resolve(digest) is not None)

    def entries(self) -> Iterator[Entry]:
        """All entries whose object exists, in no order, a directory at a time.

        Raises:
            CacheError: the file system failed.
        """
        yield from filter(None, map(self._entries.current, self._entries.digests()))

    def last_access(self, key: str) -> float | None:
        """When the key was last used (to about a minute), seconds since 1970 UTC; None if it is not there."""
        return self._entries.last_access(key_digest(key))

    def close(self) -> None:
        """Write access times that are still in memory. The cache can be used afterwards."""
        self.access.flush()

    # -- for the transfer ------------------------------------------------------------------------

    def lookup(self, key: str) -> Entry | None:
        """The key's entry if its object exists with the entry's size.

        Raises:
            CacheError: the file system failed, or the cache has gone.
        """
        self.tree.check()
        digest = _digest_again(key)
        entry = self._entries.current(digest)
        if entry is None or entry.key != key:
            return None
        self.access.note(digest, self._monotonic())
        return entry

    def object_path(self, sha256: str, *, restricted: bool = False) -> Path:
        """Where the object of that digest is, or would be; the public one, or the one that needs a grant.

        Raises:
            InputError: not a digest.
        """
        return Path(objects.object_path(self.tree, parse_sha256(sha256), restricted=restricted))

    def has_object(self, sha256: str, size: int | None = None) -> bool:
        """Whether there is such a public object (and it has that size)."""
        try:
            found = objects.find_object(self.tree, sha256)
        except OSError:
            return False
        return found is not None and size in {None, found[1].st_size}

    def claim_partial(self, key: str, generation: int = 1) -> Partial:
        """A private temporary for the key; takes over what a dead owner left. See `partial.claim`.

        Raises:
            CacheError: it can't be made.
        """
        digest = _digest_again(key)
        try:
            return claim(self.tree, digest, generation)
        except OSError as error:
            raise cache_error(error, self.tree.partial_directory(digest), "make a file in") from error

    def has_partial(self, key: str) -> bool:
        """Whether unfinished files of the key lie about (a living owner's too): cheaper than a claim.

        Raises:
            CacheError: the file system failed.
        """
        digest = _digest_again(key)
        directory = self.tree.partial_directory(digest)
        try:
            return self._vacant.holds(directory, digest)
        except OSError as error:
            raise cache_error(error, directory, "read") from error

    def publish(self, partial: Partial, sha256: str, size: int, *, restricted: bool = False) -> Path:
        """Make the partial's bytes visible as the object `sha256`. See `publish.publish`.

        Raises:
            CacheError: nothing became visible.
        """
        if publish(self.tree, partial, sha256, size, restricted=restricted):
            self._fresh.set(_place(sha256, restricted), True)
        clear_leftovers(self.tree, partial.name)
        return Path(self._published(sha256, restricted=restricted))

    def publish_bytes(
        self, key: str, data: bytes | memoryview, sha256: str, *, restricted: bool = False
    ) -> str:
        """`publish` for a small body in memory, the path as text. See `publish.publish_bytes`.

        Raises:
            CacheError: nothing became visible, nothing is left.
        """
        if publish_bytes(self.tree, _digest_again(key), data, sha256, restricted=restricted):
            self._fresh.set(_place(sha256, restricted), True)
        return self._published(sha256, restricted=restricted)

    def link_object(self, fd: int, sha256: str) -> None:
        """Let the open file be the object. See `objects.link_object`."""
        if objects.link_object(self.tree, fd, sha256):
            self._fresh.set(sha256, True)

    def record(self, entry: Entry) -> None:
        """Make `entry` the entry of its key, in one step.

        Raises:
            ObjectLostError: its object went meanwhile: publish it again.
            CacheError: the key keeps what it had, or has nothing.
        """
        digest = _digest_again(entry.key)
        new = self._fresh.pop(_place(entry.object, entry.restricted)) is not None
        if not new:
            objects.share_object(self.tree, entry, self._entries.read(digest))
        self._entries.write(entry, digest, new=new)
        self._seen.pop(entry.key)
        reached("publish.entry")

    # -- for the mapper --------------------------------------------------------------------------

    def job_dir(self, job: str) -> Path:
        """The job's directory, made with inputs/ and results/.

        Raises:
            InputError: no file can have the job's name.
            CacheError: it could not be made.
        """
        return Path(pins.make_job_directory(self.tree, job))

    def pin(self, job: str, name: str, sha256: str, size: int, *, restricted: bool = False) -> Path:
        """Show the object to the job as ``inputs/<name>``. See `pins.pin`.

        Raises:
            ObjectLostError: the object is gone or has another size.
            InputError: no file can have that name.
            CacheError: the file system failed.
        """
        return Path(pins.pin(self.tree, job, name, sha256, size, restricted=restricted))

    def unpin(self, job: str) -> None:
        """Remove the job's inputs; its results stay.

        Raises:
            CacheError: some inputs are still there.
        """
        pins.unpin(self.tree, job)

    def release(self, job: str) -> None:
        """The job is over and its results are kept: its inputs and its results directory go, what it printed stays.

        Raises:
            CacheError: some of it is still there.
        """
        pins.unpin(self.tree, job)
        pins.remove_results(self.tree, job)

    def sweep(self) -> int:
        """Clear away what killed processes of this host left; how many files that were (see `sweep`)."""
        return sweep(self.tree)

    # -- inside ----------------------------------------------------------------------------------

    def _open_for_reading(self, key: str) -> BinaryIO:
        for _ in range(3):  # an object may go between look-up and open; the next look-up then says so
            path = self.path(key)
            try:
                return open(path, "rb")
            except OSError as error:
                if error.errno not in {errno.ENOENT, *STALE}:
                    raise cache_error(error, path, "read") from error
                self._seen.pop(key)
        raise CacheIOError(f"the object of {key!r} comes and goes", remedy="try again", key=key)

    def _entry(self, key: str, sha256: str, size: int, **more: Any) -> Entry:
        return Entry(key, sha256, size, self._clock.time(), **more)

    def _published(self, sha256: str, *, restricted: bool) -> str:
        if self.tree.layouts[1:]:
            return objects.object_path(self.tree, sha256, restricted=restricted)
        return self.tree.object(sha256, restricted=restricted)


def _place(sha256: str, restricted: bool) -> str:
    """What tells the public object of that digest from the one that needs a grant."""
    return f"{RESTRICTED}/{sha256}" if restricted else sha256
