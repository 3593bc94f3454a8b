"""What to ask an origin and what to make of its answers: one try of one fetch, without I/O.

A driver asks `next_request`, sends it, hands the head to `on_response` and does what it is told:

* `Again`: throw the body away and ask `next_request`;
* `Receive`: cut the partial file to an offset, write `sidecar` beside it, then the body; tell `on_end`;
* `Unchanged`: the copy in the cache is still right;
* `Finish`: the bytes in place are all there are; tell `on_digest` what they hash to.

What can't be gone on with is raised as a `FetchError`. Times are passed in, seconds since 1970 UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin

from stager import __version__
from stager.errors import (
    DigestMismatchError,
    FetchError,
    IncompleteError,
    InputError,
    ProtocolError,
    RedirectError,
    UnprovenLengthError,
)
from stager.model.entries import Entry
from stager.model.fetches import FetchRequest
from stager.model.urls import Url, parse_url, parse_web_url
from stager.transfer.classify import file_too_large, status_error
from stager.transfer.decisions import Again, ClientCertificate, Finish, Receive, Request, Unchanged
from stager.transfer.fields import Headers, as_sent, opaque_tag, parse_content_range
from stager.transfer.freshness import fresh_until
from stager.transfer.options import TransferOptions
from stager.transfer.resume import NOTHING_KNOWN, Representation, content_coding
from stager.transfer.wire import End

MAX_RESTARTS = 3
"""Times that one try begins again because an answer did not fit what was in place."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BASE_HEADERS = {
    "User-Agent": f"stager/{__version__}",
    "Accept": "*/*",
    "Accept-Encoding": "identity",  # ranges, lengths and digests are of the bytes as they are
}


class TransferPlan:
    """One try of one fetch.

    Args:
        request: what is wanted.
        options: the site's choices.
        entry: the copy in the cache that may still be right, or None.
        leftover: bytes that an earlier try left in the partial file.
        sidecar: what that try wrote beside it.
        secrets: headers for the origin of the request's URL and for no other; see `present`.
    """

    def __init__(
        self,
        request: FetchRequest,
        options: TransferOptions,
        *,
        entry: Entry | None = None,
        leftover: int = 0,
        sidecar: Mapping[str, Any] | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        self._request = request
        self._options = options
        self._url = self._at = parse_url(request.url)
        self._visited = {self._url.text}
        self._hops = 0
        self._secrets = secrets or {}
        self._certificate: ClientCertificate | None = None
        self._was_shown = bool(secrets)
        self._restarts = 0
        self._no_cache = False
        self._offset = 0  # bytes in place that count
        self._resuming = False
        self._expected: int | None = None  # bytes of the body that is being received
        self._representation = NOTHING_KNOWN
        self._fresh_until = 0.0
        self._unproven = False
        if leftover:
            self._take_over(leftover, Representation.from_sidecar(sidecar, self._url))
        self._known = None if self._resuming else self._revalidated(entry)

    def _take_over(self, size: int, found: Representation | None) -> None:
        if found is None or found.if_range is None:
            return
        if found.total is not None and size > found.total:
            return
        self._representation = found
        self._offset = size
        self._resuming = True

    def _revalidated(self, entry: Entry | None) -> Entry | None:
        """The entry if the origin can be asked whether it changed (and the answer would be of use)."""
        if entry is None or not entry.validators or entry.content_encoding:
            return None
        wanted = self._request.sha256
        return entry if wanted in {None, entry.object} else None

    # -- asking -----------------------------------------------------------------------------------

    @property
    def at(self) -> Url:
        """What is asked for next: the URL of the request, or where redirects have led to."""
        return self._at

    @property
    def is_credentialed(self) -> bool:
        """Whether anything secret was sent with a request of this try: what came is not for everybody."""
        return self._was_shown

    def present(
        self,
        secrets: Mapping[str, str],
        certificate: ClientCertificate | None = None,
        *,
        is_secret: bool = True,
    ) -> None:
        """Send these headers with the next requests, and show this certificate, until another origin is asked."""
        self._secrets, self._certificate = secrets, certificate
        self._was_shown = self._was_shown or is_secret

    def revisit(self) -> None:
        """What the origin was told has changed (a cookie): a redirect to where we were is no circle now."""
        self._visited = {self._at.text}

    def next_request(self) -> Request:
        """What to send now."""
        headers = _BASE_HEADERS.copy()
        if self._resuming:
            headers["Range"] = f"bytes={self._offset}-"
            headers["If-Range"] = self._representation.if_range or ""
        elif self._known is not None:
            validators = self._known.validators
            if validators.etag:
                headers["If-None-Match"] = validators.etag
            elif validators.last_modified:
                headers["If-Modified-Since"] = validators.last_modified
        if self._no_cache:
            headers["Cache-Control"] = "no-cache"
        if self._secrets:
            headers.update(self._secrets)
        return Request(self._at, headers, self._certificate)

    # -- answers ----------------------------------------------------------------------------------

    def on_response(self, status: int, headers: Headers, now: float) -> Again | Receive | Unchanged | Finish:
        """What to do with the answer whose head this is.

        Raises:
            FetchError: it brings no data, and asking again at once would not either.
        """
        if status == 200:  # noqa: PLR2004 - HTTP's own numbers
            return self._on_whole(headers, now)
        if status == 206:  # noqa: PLR2004
            return self._on_part(headers, now)
        if status in _REDIRECTS:
            return self._on_redirect(headers)
        if status == 304:  # noqa: PLR2004
            return self._on_unchanged(headers, now)
        if status == 416 and self._resuming:  # noqa: PLR2004
            return self._on_nothing_left(headers, now)
        raise status_error(self._url, status, headers, now, at=self._at)

    def _on_whole(self, headers: Headers, now: float) -> Again | Receive:
        if "content-range" in headers:
            if self._resuming:
                return self._start_over("a whole answer (200) with Content-Range")
            raise self._violation("a whole answer (200) with Content-Range")
        self._resuming = False
        self._known = None
        self._offset = 0
        text = headers.get("content-length")
        self._expected = None if text is None else int(text)
        if text is None and "transfer-encoding" not in headers and not self._may_be_unproven:
            raise UnprovenLengthError(
                f"{self._url.redacted} can't be verified",
                cause="the origin announces no length, so a body cut short would look complete",
                remedy="give its sha256, or accept such bodies with the setting unproven=accept",
                url=self._url.redacted,
            )
        self._representation = Representation.of(headers, self._expected)
        self._fresh_until = self._freshness(headers, now)
        return self._receive()

    @property
    def _may_be_unproven(self) -> bool:
        return self._request.sha256 is not None or self._options.unproven == "accept"

    def _on_part(self, headers: Headers, now: float) -> Again | Receive:
        if not self._resuming:
            raise self._violation("a part (206) came where none was asked for")
        known = self._representation
        span = parse_content_range(headers.get("content-range"))
        if span is None or span.first is None or span.last is None:
            return self._start_over("a part (206) that does not say which")
        length = span.last - span.first + 1
        if headers.get("content-length", str(length)) != str(length):
            return self._start_over("a part (206) whose length is not that of its range")
        if span.first > self._offset:
            return self._start_over(f"a part from {span.first}, asked for {self._offset}")
        if known.differs(headers) or content_coding(headers) != known.coding:
            return self._start_over("the file changed at the origin")
        total = known.total if span.total is None else span.total
        if known.total not in {None, total} or (total is not None and span.last >= total):
            return self._start_over("the file's length changed at the origin")
        self._offset = span.first
        self._expected = length
        self._representation = Representation(
            known.validators, total, known.coding, known.content_type, known.ranges
        )
        self._fresh_until = self._freshness(headers, now)
        return self._receive()

    def _receive(self) -> Receive:
        most, total = self._options.max_file_bytes, self._representation.total
        if not most:
            return Receive(self._offset, self._expected, total)
        if max(total or 0, self._offset + (self._expected or 0)) > most:
            raise file_too_large(self._url, total, most)
        length = most + 1 - self._offset if self._expected is None else self._expected
        return Receive(self._offset, length, total)  # one byte more shows that it is too large

    def _on_nothing_left(self, headers: Headers, now: float) -> Again | Finish:
        span = parse_content_range(headers.get("content-range"))
        known = self._representation
        if span is None or span.first is not None or span.total != self._offset:
            return self._start_over("the origin has no such range (416)")
        if known.total not in {None, self._offset} or known.differs(headers):
            return self._start_over("the file changed at the origin")
        self._fresh_until = self._freshness({}, now)
        return Finish(self._offset)

    def _on_unchanged(self, headers: Headers, now: float) -> Again | Unchanged:
        entry = self._known
        if entry is None:
            raise self._violation("'not modified' (304) came where nothing was asked that way")
        seen = Representation.of(headers, None).validators
        if seen.etag and entry.validators.etag and opaque_tag(seen.etag) != opaque_tag(entry.validators.etag):
            self._known = None
            return self._start_over("'not modified' (304) for another version")
        merged = dict(headers)
        if entry.validators.last_modified:
            merged.setdefault("last-modified", entry.validators.last_modified)
        return Unchanged(entry.confirmed(now=now, fresh_until=self._freshness(merged, now), validators=seen))

    def _on_redirect(self, headers: Headers) -> Again:
        location = headers.get("location")
        if not location:
            raise self._violation("a redirect that does not say where to")
        try:
            target = parse_web_url(urljoin(self._at.text, as_sent(location)))
        except InputError as error:
            raise self._no_redirect(f"its target is refused: {error}") from None
        if target.text in self._visited:
            raise self._no_redirect(f"it leads in a circle, to {target.redacted} again")
        if self._hops >= self._options.max_redirects:
            raise self._no_redirect(f"more than {self._options.max_redirects} hops")
        if target.scheme != "https" and self._at.scheme == "https" and not self._may_downgrade:
            raise self._no_redirect(f"it leads from https to {target.redacted}, which anybody could alter")
        if target.origin != self._at.origin:
            self._secrets, self._certificate = {}, None
        self._visited.add(target.text)
        self._hops += 1
        self._at = target
        return Again(f"redirect to {target.redacted}")

    @property
    def _may_downgrade(self) -> bool:
        return self._request.sha256 is not None and not self._secrets and self._certificate is None

    # -- ends -------------------------------------------------------------------------------------

    def on_end(self, received: int, end: End) -> Again | Finish:
        """What to do after a body of which `received` bytes are in place.

        Raises:
            IncompleteError: it is not all that was announced.
        """
        self._offset += received
        if self._expected is not None:
            if received < self._expected:
                raise self._incomplete()
            total = self._representation.total
            if total == self._offset:
                return Finish(self._offset)
            self._resuming = True  # a shorter range than asked for, or a length still unknown
            return Again("the rest of the file")
        if self._options.max_file_bytes and self._offset > self._options.max_file_bytes:
            raise file_too_large(self._url, None, self._options.max_file_bytes)
        if end is End.BROKEN:
            raise self._incomplete()
        self._unproven = end is End.CLOSED and self._request.sha256 is None
        return Finish(self._offset)

    def on_digest(self, actual: str) -> Again | None:
        """Compare with the digest that the caller gave; None: the bytes are right, or none was given.

        Raises:
            DigestMismatchError: wrong again, after every cache on the way was told to ask the origin.
        """
        wanted = self._request.sha256
        if wanted in {None, actual}:
            return None
        if self._no_cache:
            raise DigestMismatchError(
                f"{self._url.redacted} does not have the bytes that were asked for",
                cause=f"sha256 expected {wanted}, got {actual} ({self._offset} bytes), twice",
                remedy="check the digest with the origin's owner; if the file was replaced, give the new one",
                url=self._url.redacted,
                expected=wanted,
                got=actual,
            )
        self._no_cache = True
        self._at = self._url
        self._visited, self._hops = {self._url.text}, 0
        self._resuming = False
        self._known = None
        self._offset = 0
        return Again("the digest does not match")

    def sidecar(self) -> dict[str, Any]:
        """What a later try needs to go on; to be on disk before the first byte of a body."""
        return self._representation.sidecar(self._url)

    @property
    def can_resume(self) -> bool:
        """Whether a later try can go on from what is in place."""
        return self._representation.if_range is not None

    def entry(self, sha256: str, now: float) -> Entry:
        """The entry for the finished file."""
        seen = self._representation
        return Entry(
            key=self._request.key,
            object=sha256,
            size=self._offset,
            stored_at=now,
            fresh_until=self._fresh_until,
            url=self._url.redacted,
            validators=seen.validators,
            content_type=seen.content_type,
            content_encoding=seen.coding,
            unproven=self._unproven,
            owner=self._request.owner,
        )

    # -- helpers ----------------------------------------------------------------------------------

    def _start_over(self, reason: str) -> Again:
        """Forget what is in place and ask for the whole."""
        self._restarts += 1
        if self._restarts > MAX_RESTARTS:
            raise self._violation(reason)
        self._resuming = False
        self._offset = 0
        return Again(reason)

    def _freshness(self, headers: Headers, now: float) -> float:
        options = self._options
        return fresh_until(
            headers, now, shortest=options.fresh_min_seconds, longest=options.fresh_max_seconds
        )

    def _violation(self, cause: str) -> FetchError:
        return ProtocolError(
            f"{self._url.redacted} can't be fetched",
            cause=f"the origin's answer makes no sense: {cause}",
            remedy="try again later; if it stays, tell the origin's owner",
            url=self._url.redacted,
        )

    def _no_redirect(self, cause: str) -> FetchError:
        return RedirectError(
            f"{self._url.redacted} can't be fetched",
            cause=f"the redirect from {self._at.redacted} is not followed: {cause}",
            remedy="check where the URL leads, and give the final one",
            url=self._url.redacted,
        )

    def _incomplete(self) -> FetchError:
        total = self._representation.total
        of = "" if total is None else f" of {total}"
        return IncompleteError(
            f"{self._url.redacted} came incomplete",
            cause=f"the connection ended after {self._offset}{of} bytes",
            remedy="try again; it goes on from there" if self.can_resume else "try again",
            url=self._url.redacted,
            received=self._offset,
            total=total,
        )
