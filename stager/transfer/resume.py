"""What a partial file must have with it to be continued: the sidecar, read and written without I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from stager.model.digests import Digest, read_digest
from stager.model.entries import Validators
from stager.model.keys import key_digest
from stager.model.urls import Url
from stager.transfer.fields import Headers, parse_date, parse_etag
from stager.transfer.integrity import digest_of
from stager.transfer.sources import Sources

SIDECAR_VERSION = 1
_CLOCK_GRAIN = 1.0
"""Seconds; HTTP dates can't tell two changes within one apart."""


class Representation(NamedTuple):
    """Which bytes an origin is sending, as far as its headers tell.

    Attributes:
        validators: as sent.
        total: bytes of the whole, None where it was not announced.
        coding: content coding of the bytes, empty for none.
        content_type: as sent, or empty.
        ranges: False where the origin says that it has none (``Accept-Ranges: none``).
        digest: what the origin says that the whole hashes to, None where it does not.
    """

    validators: Validators
    total: int | None = None
    coding: str = ""
    content_type: str = ""
    ranges: bool = True
    digest: Digest | None = None

    @classmethod
    def of(cls, headers: Headers, total: int | None, *, whole: bool = True) -> Representation:
        """The one that `headers` describe; `whole`: their body is all of it."""
        return cls(
            validators=Validators(
                etag=parse_etag(headers.get("etag")),
                last_modified=headers.get("last-modified"),
                date=headers.get("date"),
            ),
            total=total,
            coding=content_coding(headers),
            content_type=headers.get("content-type", ""),
            ranges=headers.get("accept-ranges", "").lower() != "none",
            digest=digest_of(headers, whole=whole),
        )

    @property
    def if_range(self) -> str | None:
        """What proves that a later part belongs to the same bytes: a strong ETag, else a safe date."""
        validators = self.validators
        if not self.ranges:
            return None
        if validators.etag is not None:
            return validators.strong_etag
        modified = parse_date(validators.last_modified or "")
        date = parse_date(validators.date or "")
        if modified is None or date is None or date < modified + _CLOCK_GRAIN:
            return None
        return validators.last_modified

    @property
    def is_divisible(self) -> bool:
        """Whether parts of it go together whoever brings them: only a strong tag of the plain bytes proves that."""
        strong = self.validators.strong_etag is not None and self.ranges
        return strong and self.total is not None and not self.coding

    def differs(self, headers: Headers) -> bool:
        """Whether `headers` show that they belong to other bytes."""
        etag = headers.get("etag")
        if etag is not None and self.validators.etag is not None:
            return etag != self.validators.etag
        modified = headers.get("last-modified")
        known = self.validators.last_modified
        return modified is not None and known is not None and modified != known

    def sidecar(self, url: Url, source: Url | None = None) -> dict[str, Any]:
        """JSON form, written before the first byte; `from_sidecar` is the inverse.

        Args:
            url: of the file.
            source: which of its URLs the bytes come from; None: that one.
        """
        rare: dict[str, Any] = {} if self.digest is None else {"digest": str(self.digest)}
        if source is not None and source.text != url.text:
            rare["source"] = key_digest(source.text)
        return rare | {
            "version": SIDECAR_VERSION,
            "url": url.redacted,
            "key": key_digest(url.text),
            "etag": self.validators.etag,
            "last_modified": self.validators.last_modified,
            "date": self.validators.date,
            "total": self.total,
            "coding": self.coding,
            "content_type": self.content_type,
            "ranges": self.ranges,
        }

    @classmethod
    def from_sidecar(cls, data: Mapping[str, Any] | None, url: Url) -> Representation | None:
        """What an earlier try of `url` wrote; None when it is not of this version, URL and shape."""
        if not data or data.get("version") != SIDECAR_VERSION or data.get("key") != key_digest(url.text):
            return None
        texts = [data.get(name) for name in ("etag", "last_modified", "date")]
        total = data.get("total")
        whole_number = isinstance(total, int) and not isinstance(total, bool) and total >= 0
        if any(text is not None and not _is_header_value(text) for text in texts):
            return None
        if total is not None and not whole_number:
            return None
        etag, last_modified, date = texts
        digest = data.get("digest")
        try:
            known = None if digest is None else read_digest(str(digest))
        except ValueError:
            return None
        return cls(
            validators=Validators(parse_etag(etag), last_modified, date),
            total=total,
            coding=str(data.get("coding", "")),
            content_type=str(data.get("content_type", "")),
            ranges=data.get("ranges") is True,
            digest=known,
        )


class Leftover(NamedTuple):
    """Bytes of an earlier try that can be gone on from.

    Attributes:
        found: whose bytes they are.
        foreign: the source that is asked first did not send them.
    """

    found: Representation
    foreign: bool

    @classmethod
    def of(cls, size: int, sidecar: Mapping[str, Any] | None, url: Url, sources: Sources) -> Self | None:
        """What `size` bytes with this sidecar are good for.

        A source goes on from its own bytes, or from anybody's where a digest will prove the whole; without
        one, the source that sent them is asked first.
        """
        found = Representation.from_sidecar(sidecar, url)
        if found is None or sidecar is None or (found.total is not None and size > found.total):
            return None
        sender = str(sidecar.get("source", key_digest(url.text)))
        if sources.has(sender):  # else somebody else named it
            sources.learn(found.digest, sender)
        home = sender == key_digest(sources.current.text)
        if not home and sources.proof is None:
            home = sources.bring_forward(sender)
        own = home and found.if_range is not None
        if own or (sources.proof is not None and sources.are_several):
            return cls(found, foreign=not own)
        return None


NOTHING_KNOWN = Representation(Validators())
"""Before any answer came."""


def content_coding(headers: Headers) -> str:
    """The coding of the bytes in one form: lower case, ``x-gzip`` is ``gzip``, ``identity`` is none."""
    coding = headers.get("content-encoding", "").strip().lower()
    if not coding:
        return ""
    return {"identity": "", "x-gzip": "gzip", "x-compress": "compress"}.get(coding, coding)


def _is_header_value(text: object) -> bool:
    return isinstance(text, str) and text.isprintable()
