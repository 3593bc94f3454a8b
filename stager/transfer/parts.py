"""A part of a file (206): which one it is, and whether it belongs to what is in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Self

from stager.model.urls import Url
from stager.transfer.asking import headers_to_resume
from stager.transfer.decisions import ClientCertificate, Request
from stager.transfer.fields import Headers, parse_content_range
from stager.transfer.resume import Representation, content_coding


class Part(NamedTuple):
    """A part that fits.

    Attributes:
        first: where its first byte belongs.
        length: its bytes.
        seen: what is known of the whole with it.
    """

    first: int
    length: int
    seen: Representation

    @classmethod
    def of(cls, headers: Headers, offset: int, known: Representation, *, foreign: bool) -> Self | str:
        """The part with these headers, or why it does not fit.

        Args:
            headers: of the answer.
            offset: from where on bytes were asked for.
            known: what is in place.
            foreign: that came from another source, whose validators mean nothing here.
        """
        span = parse_content_range(headers.get("content-range"))
        if span is None or span.first is None or span.last is None:
            return "a part (206) that does not say which"
        length = span.last - span.first + 1
        if headers.get("content-length", str(length)) != str(length):
            return "a part (206) whose length is not that of its range"
        if span.first > offset:
            return f"a part from {span.first}, asked for {offset}"
        if (not foreign and known.differs(headers)) or content_coding(headers) != known.coding:
            return "the file changed at the origin"
        total = known.total if span.total is None else span.total
        if known.total not in {None, total} or (total is not None and span.last >= total):
            return "the file's length changed at the origin"
        seen = Representation.of(headers, total, whole=False)
        if not foreign:  # some origins leave out in a part what they said of the whole
            seen = known._replace(total=total, digest=known.digest or seen.digest)
        return cls(span.first, length, seen)


class Parts(NamedTuple):
    """Parts of one file for several streams, which go together because they have the same strong tag.

    Attributes:
        url: where they are.
        secrets: headers for its origin.
        certificate: for its origin.
        known: what is in place of it.
    """

    url: Url
    secrets: Mapping[str, str]
    certificate: ClientCertificate | None
    known: Representation

    def request(self, start: int, stop: int) -> Request:
        """Ask for the bytes from `start` to `stop`."""
        headers = headers_to_resume(start, self.known.validators.strong_etag, stop)
        return Request(self.url, {**headers, **self.secrets}, self.certificate)

    def misfit(self, status: int, headers: Headers, start: int, stop: int) -> str | None:
        """Why an answer to that is of no use; None: it is the part that was asked for."""
        if status != 206:  # noqa: PLR2004 - HTTP's own numbers
            return f"the origin answered a range with status {status}"
        part = Part.of(headers, start, self.known, foreign=False)
        if isinstance(part, str):
            return part
        return None if (part.first, part.length) == (start, stop - start) else "a part that was not asked for"
