"""What the cache's services answer: the same in Python, over HTTP and on the command line.

Sizes are bytes, times seconds since 1970 UTC.
"""

from __future__ import annotations

from dataclasses import dataclass

from stager.model.catalogue import CachedFile, Totals


@dataclass(frozen=True, slots=True)
class Listing:
    """Some files of a selection.

    Attributes:
        files: those asked for.
        total: how many the whole selection has.
        walked_at: when the cache was last read from end to end; None: never, so that files may be missing.
    """

    files: list[CachedFile]
    total: int
    walked_at: float | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """What a key's file is: its key (without the secrets of a URL), the digest of its bytes, how many."""

    key: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Holder:
    """Who keeps an object from eviction.

    Attributes:
        kind: ``job`` or ``pin``.
        name: of the job or the pin.
        until: when a pin ends; None: not by itself.
        reason: of a pin.
    """

    kind: str
    name: str
    until: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FileDetail:
    """All that is known of one file.

    Attributes:
        file: the file.
        path: of its object, on hosts that have the cache at the same place as the server.
        url: where it came from, without secrets; None: it was put, or left by a job.
        etag: as the origin gave it.
        last_modified: as the origin gave it.
        content_type: as the origin said, or empty.
        content_encoding: coding in which the bytes are stored (empty: as they are).
        unproven: the origin gave no length and no digest.
        verified_at: when the bytes were last read and found right; None: never since they were stored.
        versions: objects that the key had before and that are still there, newest first.
        keys: other keys of the same object.
        holders: who keeps the object from eviction.
    """

    file: CachedFile
    path: str
    url: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    content_type: str = ""
    content_encoding: str = ""
    unproven: bool = False
    verified_at: float | None = None
    versions: tuple[CachedFile, ...] = ()
    keys: tuple[str, ...] = ()
    holders: tuple[Holder, ...] = ()


@dataclass(frozen=True, slots=True)
class CacheSpace:
    """Room on the cache's file system, and what could be made.

    Attributes:
        size: of the file system, without what is kept back for its administrator: in use and free.
        free: for this user, by statvfs.
        reserved: promised to fetches that run.
        evictable: what an eviction of all that nobody holds would free.
        trash_files: files that were evicted and wait for their deletion.
        trash_bytes: what they take.
        max_cache_bytes: limit on what the cache holds; 0: none.
        max_used_percent: limit on what is in use of the file system.
        inodes: that the file system has; 0: it does not count them.
        free_inodes: that are free.
    """

    size: int
    free: int
    reserved: int
    evictable: int
    trash_files: int
    trash_bytes: int
    max_cache_bytes: int
    max_used_percent: float
    inodes: int = 0
    free_inodes: int = 0


@dataclass(frozen=True, slots=True)
class CacheTotals:
    """How much there is, and how much room."""

    totals: Totals
    space: CacheSpace
    walked_at: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """How catalogue and tree differ. Of each kind the first few are named.

    Attributes:
        files: in the tree.
        missing: files that the catalogue lacks.
        gone: files that it lists and that are no more.
        changed: files of which it says another size or object.
        first_missing: some of them, by key.
        first_gone: some of them, by key.
        first_changed: some of them, by key.
    """

    files: int
    missing: int = 0
    gone: int = 0
    changed: int = 0
    first_missing: tuple[str, ...] = ()
    first_gone: tuple[str, ...] = ()
    first_changed: tuple[str, ...] = ()

    @property
    def differ(self) -> bool:
        """Whether there is any difference."""
        return bool(self.missing or self.gone or self.changed)


@dataclass(frozen=True, slots=True)
class Walked:
    """How far a walk through the cache is.

    Attributes:
        files: met so far.
        share: of the whole walk that is done, 0 to 1.
    """

    files: int
    share: float


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild of the catalogue came to.

    Attributes:
        files: in the catalogue now.
        gone: rows of files that are no more.
        seconds: how long it took.
    """

    files: int
    gone: int
    seconds: float
