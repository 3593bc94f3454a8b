"""What the cache knows about a key: which object holds its bytes, and how to ask whether they changed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

from stager.errors import CacheError, InputError, LayoutVersionError
from stager.model.keys import parse_sha256

ENTRY_VERSION = 1
"""Version of the JSON form of an entry."""


@dataclass(frozen=True, slots=True)
class Validators:
    """What a later conditional request can send, as the origin gave it."""

    etag: str | None = None
    last_modified: str | None = None
    date: str | None = None

    @property
    def strong_etag(self) -> str | None:
        """The ETag if it proves identity byte for byte (not ``W/"..."``)."""
        etag = self.etag
        return etag if etag and len(etag) > 1 and etag[0] == etag[-1] == '"' else None

    def __bool__(self) -> bool:
        return bool(self.etag or self.last_modified)


@dataclass(frozen=True, slots=True)
class Entry:
    """The entry of one cache key.

    Attributes:
        key: the text whose SHA-256 names the entry; for a fetched file its canonical URL.
        object: SHA-256 of the bytes, 64 hexadecimal digits.
        size: bytes.
        stored_at: when the bytes were stored or last confirmed, seconds since 1970 UTC.
        fresh_until: until when they may be used without asking the origin, same clock; None: for ever.
        url: where they came from, without secrets; None for a file that was put.
        validators: for the next conditional request.
        content_type: as the origin said, or empty.
        content_encoding: coding in which the bytes are stored (empty: as they are).
        unproven: the origin gave no length and no digest, so completeness was taken on trust.
        restricted: the object needs a grant.
        owner: who wanted it first; empty: nobody in particular.
        keep_until: until when it was promised to stay (a result), seconds since 1970 UTC; None: no promise.
        digests: other digests that the bytes were found to have, each ``ALGORITHM:HEX``.
        sharing: what the origin said about giving the bytes to others: ``private``, ``no-store``, or empty.
        name: file name that the origin proposed, or empty.
    """

    key: str
    object: str
    size: int
    stored_at: float
    fresh_until: float | None = None
    url: str | None = None
    validators: Validators = field(default_factory=Validators)
    content_type: str = ""
    content_encoding: str = ""
    unproven: bool = False
    restricted: bool = False
    owner: str = ""
    keep_until: float | None = None
    digests: tuple[str, ...] = ()
    sharing: str = ""
    name: str = ""

    def answers(self, expected: str | None, size: int | None) -> bool:
        """Whether the bytes are known to have this digest (in its one form) and size; None: any."""
        if expected is not None and expected != self.object and expected not in self.digests:
            return False
        return size in {None, self.size}

    def is_fresh(self, now: float) -> bool:
        """Whether the bytes may be used without asking the origin."""
        return self.fresh_until is None or now < self.fresh_until

    def confirmed(self, *, now: float, fresh_until: float | None, validators: Validators) -> Entry:
        """The entry after the origin said that nothing changed (304); validators it repeated replace ours."""
        merged = Validators(
            etag=validators.etag or self.validators.etag,
            last_modified=validators.last_modified or self.validators.last_modified,
            date=validators.date or self.validators.date,
        )
        return replace(self, stored_at=now, fresh_until=fresh_until, validators=merged)

    def to_json(self) -> bytes:
        """One line of UTF-8 JSON; `from_json` is the inverse.

        Written out, since every fetch does it: a third of the time of handing a dictionary to the encoder.
        """
        validators = self.validators
        return (
            f'{{"version":{ENTRY_VERSION},"key":{_quoted(self.key)},"object":{_quoted(self.object)},'
            f'"size":{self.size},"stored_at":{_number(self.stored_at)},'
            f'"fresh_until":{_number(self.fresh_until)},"url":{_text(self.url)},'
            f'"validators":{{"etag":{_text(validators.etag)},'
            f'"last_modified":{_text(validators.last_modified)},"date":{_text(validators.date)}}},'
            f'"content_type":{_quoted(self.content_type)},"content_encoding":{_quoted(self.content_encoding)},'
            f'"unproven":{_FLAG[self.unproven]},"restricted":{_FLAG[self.restricted]},'
            f'"owner":{_quoted(self.owner)},"keep_until":{_number(self.keep_until)}{self._rare()}}}\n'
        ).encode("ascii")

    def _rare(self) -> str:
        """What few entries have; others go without its names."""
        if not (self.digests or self.sharing or self.name):
            return ""
        rare = {"digests": self.digests, "sharing": self.sharing, "name": self.name}
        return "".join(f',"{name}":{_encode(value)}' for name, value in rare.items() if value)

    @classmethod
    def from_json(cls, text: bytes) -> Entry:
        """The entry in `text`.

        Raises:
            LayoutVersionError: written by a newer version.
            CacheError: not an entry (torn by a power loss, or damaged).
        """
        try:
            data: dict[str, Any] = json.loads(text)
            version = data.pop("version")
            if version > ENTRY_VERSION:
                raise LayoutVersionError(
                    f"entry of version {version}",
                    cause=f"this program reads up to {ENTRY_VERSION}",
                    remedy="upgrade it",
                )
            data["validators"] = Validators(**data["validators"])
            if "digests" in data:
                data["digests"] = tuple(data["digests"])
            entry = cls(**data)
            digest_is_one = parse_sha256(entry.object) == entry.object  # it becomes part of a path
            if not (digest_is_one and entry.size >= 0 and isinstance(entry.key, str)):
                raise ValueError("a value that no entry has")  # noqa: TRY301 - worded below
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InputError) as error:
            raise CacheError("unreadable cache entry", cause=f"{type(error).__name__}: {error}") from None
        return entry


_encode = json.JSONEncoder(separators=(",", ":")).encode
_quoted = json.encoder.encode_basestring_ascii  # what `_encode` calls for text
_FLAG = {False: "false", True: "true"}


def _text(value: str | None) -> str:
    return "null" if value is None else _quoted(value)


def _number(value: float | None) -> str:
    return "null" if value is None else repr(value) if isfinite(value) else _encode(value)
