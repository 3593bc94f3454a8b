"""Key → path: arithmetic only, no I/O.

The tree (with the usual shards ``2+2``)::

    CACHEDIR.TAG  layout.json
    objects/ab/cd/<sha256>             immutable bytes, mode 0444
    objects/ab/cd/<sha256>.shared      empty: more than one entry has used this object
    restricted/ab/cd/<sha256>          objects that need a grant, mode 0400; their entries have mode 0600
    entries/ab/cd/<sha256 of key>.json the entry
    entries/ab/cd/<sha256 of key>      symbolic link to the entry's object: a hit without parsing
    partial/ab/<sha256 of key>.<generation>.<owner>.part, .json   unfinished, with how to go on
    partial/ab/<sha256 of key>.<owner>.tmp                        unfinished, never gone on with
    jobs/<job>/inputs/<name>  jobs/<job>/results/<name>
    pins/ab/<sha256>/object, <pin id>.<until>.json                why an object stays (see `pinned`)
    trash/<date>/...
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from itertools import accumulate
from operator import itemgetter
from typing import Any

from stager.errors import CacheError, InputError, LayoutVersionError
from stager.model.keys import DIGEST_LENGTH

LAYOUT_VERSION = 2
"""The newest version of the tree that this program reads.

It writes version 1 where that says everything. Version 2 can also be flat, and have files in an earlier layout
while a migration goes on: a program that knew nothing of this would not find them.
"""
LAYOUT_FILE = "layout.json"
TAG_FILE = "CACHEDIR.TAG"
TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# This directory is a cache of stager; back-up programs may skip it.\n"
"""See https://bford.info/cachedir/."""

OBJECTS, RESTRICTED, ENTRIES, PARTIAL, JOBS, PINS, TRASH = (
    "objects",
    "restricted",
    "entries",
    "partial",
    "jobs",
    "pins",
    "trash",
)
PROBE = ".stager-probe."
"""Beginning of the names, in any directory, of what a probe of it needs for a while."""
OBJECT_MODE = 0o444
"""Nobody writes to an object, not even its owner."""
RESTRICTED_OBJECT_MODE = 0o400
"""Nor does anybody else read one that needs a grant, wherever a link to it may lie."""
ROOT_MODE = 0o755
PRIVATE_FILE_MODE = 0o600
SHARED_FILE_MODE = 0o644
"""Of an entry; one of a restricted object is for the service alone (`PRIVATE_FILE_MODE`)."""
_MODES = {
    OBJECTS: 0o755,
    ENTRIES: 0o755,
    JOBS: 0o711,
    RESTRICTED: 0o700,
    PARTIAL: 0o700,
    PINS: 0o700,
    TRASH: 0o700,
}
"""Nothing is writable for others whatever the umask; jobs/ can be crossed but not listed."""

FLAT = "flat"
"""Shards of a cache without shard directories."""
_SHARDS = re.compile(r"[1-8](\+[1-8]){0,3}")
_HEX = frozenset("0123456789abcdef")


def is_hex(name: str) -> bool:
    """Whether `name` could be a shard."""
    return bool(name) and _HEX.issuperset(name)


def entry_mode(*, restricted: bool) -> int:
    """Permissions of an entry's file."""
    return PRIVATE_FILE_MODE if restricted else SHARED_FILE_MODE


def is_digest(name: str) -> bool:
    """Whether `name` could be a SHA-256, and so a file of ours."""
    try:
        return len(name) == DIGEST_LENGTH and bytes.fromhex(name).hex() == name  # asked of millions of names
    except ValueError:
        return False


def directory_mode(relative: str) -> int:
    """Permission bits of the directory at `relative` to the root (before the umask)."""
    top, slash, _ = relative.partition("/")
    return 0o700 if top == JOBS and slash else _MODES.get(top, 0o700)


@dataclass(frozen=True)
class Layout:
    """Where things are, relative to the root.

    Args:
        shards: hexadecimal digits per directory level, such as ``2+2`` or ``4``; ``flat`` for no levels.

    Raises:
        InputError: `shards` is not of that form.
    """

    shards: str = "2+2"
    cut: Any = field(init=False, repr=False, compare=False)
    """Digest → the components of its path below objects/ or entries/."""
    up: str = field(init=False, repr=False, compare=False)
    """From the directory of an entry to the root, such as ``../../../``."""

    widths: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """Digits per directory level."""

    def __post_init__(self) -> None:
        if self.shards != FLAT and not _SHARDS.fullmatch(self.shards):
            raise InputError(
                f"{self.shards!r} are no shard widths",
                cause=f"one to four numbers from 1 to 8, joined by +, or {FLAT} are needed",
                remedy="the usual ones are 2+2",
            )
        widths = () if self.shards == FLAT else tuple(int(width) for width in self.shards.split("+"))
        ends = list(accumulate(widths))
        cuts = [slice(end - width, end) for width, end in zip(widths, ends, strict=True)]
        cut = itemgetter(*cuts, slice(None)) if cuts else _uncut  # in C: it is on the way of every hit
        object.__setattr__(self, "cut", cut)
        object.__setattr__(self, "up", "../" * (len(widths) + 1))
        object.__setattr__(self, "widths", widths)

    @property
    def levels(self) -> int:
        """Directory levels between objects/ and an object."""
        return self.up.count("/") - 1

    def sharded(self, digest: str) -> str:
        """``ab/cd/abcd...``."""
        return "/".join(self.cut(digest))

    def object(self, sha256: str, *, restricted: bool = False) -> str:
        """The object with that digest."""
        return f"{RESTRICTED if restricted else OBJECTS}/{'/'.join(self.cut(sha256))}"

    def link(self, digest: str) -> str:
        """The link of the entry of the key with that digest."""
        return f"{ENTRIES}/{'/'.join(self.cut(digest))}"

    def entry(self, digest: str) -> str:
        """The entry of the key with that digest."""
        return f"{ENTRIES}/{'/'.join(self.cut(digest))}.json"

    def partial_directory(self, digest: str) -> str:
        """Where unfinished files of that key are."""
        return f"{PARTIAL}/{digest[:2]}"


def _uncut(digest: str) -> tuple[str]:
    return (digest,)


@dataclass(frozen=True)
class Layouts:
    """What layout.json says.

    Attributes:
        current: where files are put.
        previous: where files may still be that a migration has not got to, newest first.
        settled_at: when everything had been moved, seconds since 1970 UTC; None as long as it has not.
        id: made with the cache and of no other one; empty: made by a version that gave none.
    """

    current: Layout
    previous: tuple[Layout, ...] = ()
    settled_at: float | None = None
    id: str = ""

    @property
    def all(self) -> tuple[Layout, ...]:
        """The current one, then the previous ones."""
        return (self.current, *self.previous)

    def towards(self, target: Layout) -> Layouts:
        """The same while everything is moved to `target`."""
        previous = tuple(layout for layout in self.all if layout != target)
        return Layouts(target, previous, id=self.id)

    def to_json(self) -> bytes:
        """The content of layout.json; `from_json` is the inverse."""
        simple = not self.previous and self.current.widths
        data: dict[str, Any] = {"version": 1 if simple else LAYOUT_VERSION, "shards": self.current.shards}
        data["digest"] = "sha256"
        if self.id:
            data["id"] = self.id
        if self.previous:
            data["previous"] = [layout.shards for layout in self.previous]
            data["settled_at"] = self.settled_at
        return json.dumps(data).encode() + b"\n"

    @classmethod
    def from_json(cls, text: bytes) -> Layouts:
        """The layouts in `text`.

        Raises:
            LayoutVersionError: written by a newer version of the program.
            CacheError: damaged.
        """
        try:
            data = json.loads(text)
            version, digest = int(data["version"]), data.get("digest", "sha256")
            future = version > LAYOUT_VERSION or digest != "sha256"  # and then the rest may be anything
            layouts = None if future else cls._of(data)
        except (ValueError, KeyError, TypeError, AttributeError, InputError) as error:
            raise CacheError(
                f"{LAYOUT_FILE} is damaged",
                cause=f"{type(error).__name__}: {error}",
                remedy="restore it from a backup, or delete the cache",
            ) from None
        if layouts is None:
            raise LayoutVersionError(
                f"the cache has layout version {version} with digest {digest}",
                cause=f"this program knows up to version {LAYOUT_VERSION} with digest sha256",
                remedy="upgrade the program or use another directory",
            )
        return layouts

    @classmethod
    def _of(cls, data: dict[str, Any]) -> Layouts:
        settled = data.get("settled_at")
        previous = tuple(Layout(shards) for shards in data.get("previous", ()))
        return cls(
            Layout(data["shards"]),
            previous,
            None if settled is None else float(settled),
            str(data.get("id", "")),
        )
