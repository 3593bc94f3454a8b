"""What the catalogue says of the cache's files: rows, selections of them, totals.

A *file* is an entry with its object. Sizes are bytes, times seconds since 1970 UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from stager.errors import InputError
from stager.model.entries import ENTRY_VERSION, Entry
from stager.model.keys import key_digest
from stager.model.urls import parse_url

RESULT = "result:"
"""How the key of a job's result begins; no URL does."""
UNNAMED = "object:"
"""How the key of an object begins that no entry names (any more); no entry has it."""


class Kind(StrEnum):
    """What a file is."""

    INPUT = "input"
    """Fetched, or put by a program."""
    RESULT = "result"
    """Left by a job."""
    UNNAMED = "unnamed"
    """An object without an entry: what a URL held before it changed, or what a kill left."""


_AN_INPUT, _BEGINNINGS = Kind.INPUT, (RESULT, UNNAMED)  # at hand: it is asked of every file that might go
_INPUT, _RESULT, _UNNAMED = (kind.value for kind in Kind)  # reading an enumeration's value takes a while


class Sort(StrEnum):
    """Orders of a list of files."""

    SIZE = "size"
    """Largest first."""
    ACCESS = "access"
    """Longest unused first."""
    AGE = "age"
    """Oldest first."""
    HITS = "hits"
    """Most used first."""
    URL = "url"
    """By key."""


@dataclass(frozen=True, slots=True)
class CachedFile:
    """One file of the cache.

    Attributes:
        digest: SHA-256 of the key, 64 hexadecimal digits; of an unnamed object that of `unnamed_key`.
        key: cache key; for a fetched file its canonical URL.
        object: SHA-256 of the bytes.
        size: bytes.
        stored_at: when they were stored or last confirmed.
        last_access: when they were last used.
        hits: how often, as far as was noticed; accesses within ten minutes count as one.
        owner: who wanted it first; empty: nobody in particular.
        host: host of its URL; empty: it has none.
        fresh_until: until when it is used without asking the origin; None: for ever.
        keep_until: until when it was promised to stay; None: no promise.
        restricted: the object needs a grant.
    """

    digest: str
    key: str
    object: str
    size: int
    stored_at: float
    last_access: float
    hits: int = 0
    owner: str = ""
    host: str = ""
    fresh_until: float | None = None
    keep_until: float | None = None
    restricted: bool = False

    @property
    def kind(self) -> Kind:
        """What it is, which its key says."""
        if not self.key.startswith(_BEGINNINGS):
            return _AN_INPUT
        return Kind.RESULT if self.key.startswith(RESULT) else Kind.UNNAMED

    @property
    def shown(self) -> str:
        """The key as people may see it: without the secrets of a URL."""
        try:
            return parse_url(self.key).redacted
        except InputError:
            return self.key

    def unnamed(self) -> CachedFile:
        """Its object, when no entry names it any more; owner and host are still those of the key."""
        key = unnamed_key(self.object)
        return replace(self, digest=key_digest(key), key=key, fresh_until=None, keep_until=None, hits=0)

    @classmethod
    def of(cls, entry: Entry, digest: str, last_access: float) -> CachedFile:
        """The file of an entry."""
        return cls(
            digest,
            entry.key,
            entry.object,
            entry.size,
            entry.stored_at,
            last_access,
            owner=entry.owner,
            host=host_of(entry.key),
            fresh_until=entry.fresh_until,
            keep_until=entry.keep_until,
            restricted=entry.restricted,
        )


FileRow = tuple[
    bytes, str, bytes, int, float, float, str, str, str, float | None, float | None, bool, bytes | None
]
"""A file as plain values, which is how a million of them are handed on: those of `ROW`, digests as bytes."""
ROW = (
    "digest", "key", "object", "size", "stored_at", "last_access", "owner", "host", "kind",
    "fresh_until", "keep_until", "restricted", "former",
)  # fmt: skip
"""The order of a `FileRow`; `former`: digest of the key that had an unnamed object before, if that is known."""


def row_of(file: CachedFile, former: str | None = None) -> FileRow:
    """The file as plain values."""
    return (
        bytes.fromhex(file.digest),
        storable(file.key),
        bytes.fromhex(file.object),
        file.size,
        file.stored_at,
        file.last_access,
        storable(file.owner),
        storable(file.host),
        file.kind.value,
        file.fresh_until,
        file.keep_until,
        file.restricted,
        None if former is None else bytes.fromhex(former),
    )


def file_of(row: FileRow, *, key: str | None = None, hits: int = 0) -> CachedFile:
    """The file of plain values (with its `key` as it really is, where that is known)."""
    return CachedFile(
        row[0].hex(),
        row[1] if key is None else key,
        row[2].hex(),
        *row[3:6],
        hits,
        *row[6:8],
        fresh_until=row[9],
        keep_until=row[10],
        restricted=row[11],
    )


def row_of_entry(data: Mapping[str, Any], digest: bytes, last_access: float) -> FileRow:
    """The row of an entry that is given as its JSON says it; a third of the time of making objects of it.

    Raises:
        ValueError, KeyError, TypeError: not an entry that this program can use.
    """
    if data["version"] > ENTRY_VERSION:
        raise ValueError("an entry of a newer version")
    key, size, restricted = data["key"], data["size"], data["restricted"]
    named = bytes.fromhex(data["object"])
    if len(named) != len(digest) or not isinstance(key, str) or not isinstance(size, int) or size < 0:
        raise ValueError("a value that no entry has")
    kind = _INPUT
    if key.startswith((RESULT, UNNAMED)):
        kind = _RESULT if key.startswith(RESULT) else _UNNAMED
    fresh, keep = data["fresh_until"], data.get("keep_until")
    return (
        digest,
        storable(key),
        named,
        size,
        float(data["stored_at"]),
        last_access,
        storable(data.get("owner", "")),
        host_of(key),
        kind,
        None if fresh is None else float(fresh),
        None if keep is None else float(keep),
        bool(restricted),
        None,
    )


def unnamed_row(
    sha256: str, size: int, stored_at: float, *, restricted: bool = False, former: str | None = None
) -> FileRow:
    """The row of an object that no entry names."""
    key = unnamed_key(sha256)
    file = CachedFile(key_digest(key), key, sha256, size, stored_at, stored_at, restricted=restricted)
    return row_of(file, former)


def storable(text: str) -> str:
    """`text` as every database takes it: what is no character, and NUL, is replaced."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def unnamed_key(sha256: str) -> str:
    """The key under which the catalogue lists an object that no entry names."""
    return UNNAMED + sha256


def host_of(key: str) -> str:
    """The host (and port) of a key that is a canonical URL; empty for any other."""
    scheme, separator, rest = key.partition("://")
    if not separator or not scheme.isalnum():
        return ""
    return rest.partition("/")[0].rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which files are meant; what is None or empty does not matter.

    Attributes:
        host: host of the URL (with port, if it is in the URL).
        owner: who wanted it.
        unused_since: last used before this time.
        stored_before: stored before this time.
        kind: what it is.
        key: this one alone.
    """

    host: str | None = None
    owner: str | None = None
    unused_since: float | None = None
    stored_before: float | None = None
    kind: Kind | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """A part of the cache: objects are counted once, however many keys they have."""

    name: str
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Totals:
    """The whole of it, and its parts: by host, by owner, by time since the last use, by size, by kind."""

    files: int
    bytes: int
    hosts: tuple[Share, ...]
    owners: tuple[Share, ...]
    ages: tuple[Share, ...]
    sizes: tuple[Share, ...]
    kinds: tuple[Share, ...]


DAY = 86_400.0
AGES: tuple[tuple[str, float], ...] = (
    ("< 1 hour", DAY / 24),
    ("< 1 day", DAY),
    ("< 1 week", 7 * DAY),
    ("< 30 days", 30 * DAY),
    ("< 90 days", 90 * DAY),
    ("< 1 year", 365 * DAY),
    ("older", float("inf")),
)
"""Classes of time since the last use, with their upper ends in seconds."""
SIZES: tuple[tuple[str, float], ...] = (
    ("< 64 KiB", 1 << 16),
    ("< 1 MiB", 1 << 20),
    ("< 16 MiB", 1 << 24),
    ("< 256 MiB", 1 << 28),
    ("< 4 GiB", 1 << 32),
    ("< 64 GiB", 1 << 36),
    ("larger", float("inf")),
)
"""Classes of size, with their upper ends in bytes."""
