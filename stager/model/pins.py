"""A pin: why an object may not be evicted, and for how long.

The inputs of jobs are pins of another kind (`stager.cache.pins`): they are files that the job reads.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from stager.errors import InputError
from stager.model.urls import parse_url

PIN_VERSION = 1
"""The newest version of a pin's record that this program reads."""
USER, STAGE = "user:", "stage:"
"""How the holder of a pin begins: a person, by name; a stage request, by id."""
MAX_REASON = 1000
"""Characters."""
_ID_DIGITS = 16
_EVER = "ever"
_FILE_NAME = re.compile(rf"([0-9a-f]{{{_ID_DIGITS}}})\.(\d{{1,18}}|{_EVER})\.json")
_UNREADABLE = "its record can't be read"


@dataclass(frozen=True, slots=True)
class Pin:
    """One holder's pin of one object. Times are seconds since 1970 UTC.

    Attributes:
        object: SHA-256 of the bytes that stay.
        holder: who holds it: ``user:NAME`` or ``stage:ID``.
        key: what it was pinned as: a cache key, or nothing when only the digest was given.
        reason: why, in words.
        since: since when.
        until: until when; None: until it is taken away.
    """

    object: str
    holder: str
    key: str = ""
    reason: str = ""
    since: float = 0.0
    until: float | None = None

    @property
    def id(self) -> str:
        """The same whenever this holder pins this object as this key: pinning again prolongs."""
        return pin_id(self.holder, self.key)

    @property
    def file_name(self) -> str:
        """Name of the record, which never changes: the id, and until when. See `parse_file_name`."""
        return f"{self.id}.{_EVER if self.until is None else int(self.until)}.json"

    def is_over(self, now: float) -> bool:
        """Whether its time is up."""
        return self.until is not None and int(self.until) <= now

    def to_json(self) -> bytes:
        """One line; `from_json` is the inverse."""
        return json.dumps({"version": PIN_VERSION, **asdict(self)}).encode() + b"\n"

    @classmethod
    def from_json(cls, text: bytes) -> Pin:
        """The pin in `text`.

        Raises:
            ValueError: not a pin, or one of a newer version.
        """
        try:
            data: dict[str, Any] = json.loads(text)
            if data.pop("version") != PIN_VERSION:
                raise ValueError("of another version")
            return cls(**data)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(str(error)) from None


@dataclass(frozen=True, slots=True)
class PinView:
    """A pin as people see it; `key` without the secrets of a URL. See `Pin`."""

    id: str
    object: str
    holder: str
    key: str
    reason: str
    since: float
    until: float | None

    @classmethod
    def of(cls, pin: Pin) -> PinView:
        """What can be shown of `pin`."""
        try:
            key = parse_url(pin.key).redacted
        except InputError:
            key = pin.key
        return cls(pin.id, pin.object, pin.holder, key, pin.reason, pin.since, pin.until)


def pin_id(holder: str, key: str) -> str:
    """See `Pin.id`."""
    return sha256(f"{holder}\0{key}".encode("utf-8", "surrogatepass")).hexdigest()[:_ID_DIGITS]


def is_pin_id(word: str) -> bool:
    """Whether `word` could be the id of a pin."""
    return len(word) == _ID_DIGITS and set(word) <= set("0123456789abcdef")


def parse_file_name(name: str) -> tuple[str, float | None] | None:
    """Id and end (None: never) of the pin whose record has this name; None if no record has."""
    found = _FILE_NAME.fullmatch(name)
    if found is None:
        return None
    return found[1], None if found[2] == _EVER else float(found[2])


def unreadable_pin(sha256: str) -> Pin:
    """What stands for a record that can't be read: better kept than lost."""
    return Pin(sha256, USER + "?", reason=_UNREADABLE)


def longest(pins: list[Pin]) -> Pin:
    """Of the records of one pin the one that counts: it lasts longest, and since the first one."""
    last = max(pins, key=lambda pin: (pin.until is None, pin.until or 0.0))
    since = min(pin.since for pin in pins)
    return Pin(last.object, last.holder, last.key, last.reason, since, last.until)


def check_reason(reason: str) -> str:
    """`reason` itself, if it is a line of text.

    Raises:
        InputError: it is too long, or would draw on a terminal.
    """
    if len(reason) > MAX_REASON or not reason.isprintable():
        raise InputError(
            "the reason of the pin can't be kept",
            cause=f"one line of at most {MAX_REASON} printable characters is allowed",
            remedy="shorten it",
        )
    return reason
