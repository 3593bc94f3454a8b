"""What goes when room is needed, and what stays: limits, rules, commands, and what came of them. Pure.

Sizes are bytes, times seconds (since 1970 UTC, where they are moments).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from stager.errors import InputError
from stager.model.catalogue import DAY, CachedFile, Kind, Selection
from stager.model.redaction import redacted_text
from stager.model.urls import parse_url

_RESULT, _UNNAMED = Kind.RESULT, Kind.UNNAMED
YOUNG_SECONDS = 3600.0
"""An object without an entry is left alone for so long: its entry is perhaps on the way."""


class Why(StrEnum):
    """Why a file goes."""

    CHOSEN = "chosen"
    """A command named it, its host or its owner."""
    UNUSED = "unused"
    """Nobody used it for long."""
    EXPIRED = "expired"
    """A result past its age."""
    QUOTA = "quota"
    """Its owner has more than their share."""
    UNNAMED = "unnamed"
    """Room is needed, and no entry names it."""
    ROOM = "room"
    """Room is needed, and it is the longest unused."""


class Stay(StrEnum):
    """Why a file stays."""

    HELD = "held"
    """A job that has begun has it as an input, or it has another name outside of the cache."""
    PINNED = "pinned"
    """Somebody wants it to stay."""
    NEEDED = "needed"
    """A job that waits or is about to begin needs it."""
    PROMISED = "promised"
    """A result within its promised time."""
    PROTECTED = "protected"
    """It is on the list of what only a command may evict."""
    YOUNG = "young"
    """No entry names it and it is less than an hour old; or the same bytes were stored since, perhaps as another file."""
    SHARED = "shared"
    """Another key has the same bytes: this key is forgotten, the bytes stay."""
    FAILED = "failed"
    """The file system refused."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the cache may hold; see the settings of the same names. 0: no limit."""

    max_cache_bytes: int = 0
    max_used_percent: float = 95.0
    low_percent: float = 90.0
    input_days: float = 180.0
    result_promise_days: float = 30.0
    result_days: float = 365.0
    owner_quota_bytes: int = 0
    owner_quotas: Mapping[str, int] = field(default_factory=dict)
    protected: tuple[str, ...] = ()
    min_free_bytes: int = 0
    min_free_inodes: int = 0

    def stays(
        self, rows: Sequence[CachedFile], now: float, *, named: bool = False, force: bool = False
    ) -> Stay | None:
        """Why the object with these rows stays, whoever asks; None: it may go.

        Args:
            rows: all that have the object.
            now: the time.
            named: a command names it: what is protected from anything else goes.
            force: neither a promise nor protection counts.
        """
        if all(row.kind is _UNNAMED for row in rows):
            return Stay.YOUNG if any(row.stored_at > now - YOUNG_SECONDS for row in rows) else None
        if force:
            return None
        for row in rows:
            if now < self.promised_until(row):
                return Stay.PROMISED
        if self.protected and not named and any(self.is_protected(row.key) for row in rows):
            return Stay.PROTECTED
        return None

    def promised_until(self, file: CachedFile) -> float:
        """Until when it was promised to stay."""
        if file.keep_until is not None:
            return file.keep_until
        return file.stored_at + self.result_promise_days * DAY if file.kind is _RESULT else 0.0

    def is_protected(self, key: str) -> bool:
        """Whether only a command may evict what has that key."""
        return any(key == pattern or fnmatchcase(key, pattern) for pattern in self.protected)

    def quota(self, owner: str) -> int:
        """What that owner's files may take; 0: no limit. Nobody in particular has none unless it is named."""
        return self.owner_quotas.get(owner, self.owner_quota_bytes if owner else 0)

    def too_large(self, size: int) -> int:
        """Bytes to evict from a cache that holds `size`."""
        if not self.max_cache_bytes or size <= self.max_cache_bytes:
            return 0
        return size - int(self.max_cache_bytes * self.low_percent / 100)

    def too_few(self, free_inodes: int, inodes: int) -> int:
        """Names for files that are to be freed where so many of the file system's `inodes` are free."""
        return max(0, self.min_free_inodes - free_inodes) if inodes else 0

    def too_full(self, used: int, total: int) -> int:
        """Bytes to evict when so much of the file system's `total` is in use."""
        if self.max_used_percent >= 100 or used <= total * self.max_used_percent / 100:  # noqa: PLR2004 - percent
            return 0
        return used - int(total * self.max_used_percent / 100 * self.low_percent / 100)


@dataclass(frozen=True, slots=True)
class Purge:
    """A command to evict: what is chosen by all of its parts together.

    Attributes:
        older_than: not used for so many seconds.
        to_size: until the cache holds no more than this.
        to_free: until so much is free on its file system.
        urls: these URLs or keys.
        host: from this host.
        owner: of this owner.
        results_older_than: results stored so many seconds ago, beside what the others choose.
        force: also what is protected or promised; keys are forgotten even if somebody holds the bytes.
        dry_run: only say what would go.

    Raises:
        InputError: nothing is chosen, or a number makes no sense.
    """

    older_than: float | None = None
    to_size: int | None = None
    to_free: int | None = None
    urls: tuple[str, ...] = ()
    host: str | None = None
    owner: str | None = None
    results_older_than: float | None = None
    force: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        for number in (self.older_than, self.to_size, self.to_free, self.results_older_than):
            if number is not None and not 0 <= number < 1 << 62:
                raise InputError(
                    f"{number} is neither a size nor a time", remedy="give one that is not negative"
                )
        if not (self.chooses or self.results_older_than is not None):
            raise InputError(
                "nothing is chosen to be purged",
                remedy="say by age, size, room, URL, host or owner what is to go",
            )
        object.__setattr__(self, "urls", tuple(canonical(word) for word in self.urls))

    @property
    def chooses(self) -> bool:
        """Whether anything but results is chosen."""
        numbers = (self.older_than, self.to_size, self.to_free, self.host, self.owner)
        return bool(self.urls) or any(part is not None for part in numbers)

    @property
    def names(self) -> bool:
        """Whether it says which files are meant, not only how old they are or how much is to go."""
        return bool(self.urls or self.host is not None or self.owner is not None)

    def selection(self, now: float, **more: Any) -> Selection:
        """Which files are chosen (see `urls` besides)."""
        since = None if self.older_than is None else now - self.older_than
        return Selection(host=self.host, owner=self.owner, unused_since=since, **more)


def canonical(word: str) -> str:
    """The cache key that somebody means: a URL in its canonical form, any other key as it is."""
    try:
        return parse_url(word).text
    except InputError:
        return word


def shown(key: str) -> str:
    """The key as people may see it: without the secrets of a URL."""
    return redacted_text(key) if "://" in key else key


def chooses(selection: Selection, file: CachedFile) -> bool:
    """Whether the selection has the file: what the catalogue does with all of them."""
    return (
        (selection.host is None or file.host == selection.host)
        and (selection.owner is None or file.owner == selection.owner)
        and (selection.unused_since is None or file.last_access < selection.unused_since)
        and (selection.stored_before is None or file.stored_at < selection.stored_before)
        and (selection.kind is None or file.kind is selection.kind)
        and (selection.key is None or file.key == selection.key)
    )


# -- what came of it -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tally:
    """How much went, or stayed, for one reason (a `Why` or a `Stay`)."""

    reason: str
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Example:
    """One file that went or stayed.

    Attributes:
        key: as people may see it.
        object: SHA-256 of the bytes.
        size: bytes.
        last_access: when it was last used.
        reason: why it went or stayed.
        holders: who holds it, such as ``job 01j... (recon)`` or ``pin of anna: paper``.
        detail: what else there is to say.
    """

    key: str
    object: str
    size: int
    last_access: float
    reason: str
    holders: tuple[str, ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Purging:
    """How far a purge is."""

    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Purged:
    """What an eviction came to.

    Attributes:
        dry_run: nothing was changed: what follows would be so.
        gone: what went, by reason.
        stayed: what was chosen and stays, by reason. Of what would go only when everything before it has gone
            nothing is said.
        bytes: that came back, or will when the trash is emptied.
        trash_bytes: that came back because the trash was emptied.
        missing: bytes that could not be freed of those asked for; 0: all were.
        went: some of what went.
        left: some of what stays, and who holds it.
        size: bytes that the cache holds now.
        free: bytes that are free on its file system now.
        unknown: keys that a command named and that the cache does not have, as people may see them.
        missing_inodes: that are too few still, after what went.
    """

    dry_run: bool
    gone: tuple[Tally, ...]
    stayed: tuple[Tally, ...]
    bytes: int
    trash_bytes: int
    missing: int
    went: tuple[Example, ...]
    left: tuple[Example, ...]
    size: int
    free: int
    unknown: tuple[str, ...] = ()
    missing_inodes: int = 0

    @property
    def files(self) -> int:
        """How many files went."""
        return sum(tally.files for tally in self.gone)


@dataclass(frozen=True, slots=True)
class LimitsView:
    """The limits, where the cache stands, and what is waited for.

    Attributes:
        limits: as set.
        size: bytes that the cache holds.
        used: bytes in use on its file system, by anybody.
        total: bytes of the file system that can be used.
        free: bytes that are free.
        waiting_bytes: that fetches wait for; 0: none does.
        waiting_for: why that room can't be made now; empty: it can, or none is needed.
        looked_at: when the keeper last looked; None: not yet, or there is no server.
        last: what it evicted last.
        inodes: that the file system has; 0: it does not count them.
        free_inodes: that are free.
    """

    limits: Limits
    size: int
    used: int
    total: int
    free: int
    waiting_bytes: int = 0
    waiting_for: str = ""
    looked_at: float | None = None
    last: Purged | None = None
    inodes: int = 0
    free_inodes: int = 0
