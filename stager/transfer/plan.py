"""What to ask an origin and what to make of its answers: one try of one fetch, without I/O.

A driver asks `next_request`, sends it, hands the head to `on_response` and does what it is told:

* `Again`: throw the body away and ask `next_request`;
* `Receive`: cut the partial file to an offset, write `sidecar` beside it, then the body; tell `on_end`;
* `Unchanged`: the copy in the cache is still right;
* `Finish`: the bytes in place are all there are; tell `on_digest` what they hash to.

What fails at one URL of several may be had at another one: `turn` goes there.

What can't be gone on with is raised as a `FetchError`. Times are passed in, seconds since 1970 UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stager.model.digests import Digest, read_digest
from stager.model.entries import Entry
from stager.model.fetches import FetchRequest
from stager.model.urls import parse_url
from stager.transfer import refusals
from stager.transfer.asking import headers_to_ask, headers_to_resume
from stager.transfer.classify import status_error
from stager.transfer.decisions import Again, ClientCertificate, Finish, Identity, Receive, Request, Unchanged
from stager.transfer.fields import Headers, parse_content_range, proposed_name
from stager.transfer.freshness import sharing
from stager.transfer.integrity import digest_of, wants_checksum
from stager.transfer.links import duplicates
from stager.transfer.options import TransferOptions
from stager.transfer.pages import LOOK_BYTES, PageWatch
from stager.transfer.parts import Part, Parts
from stager.transfer.pieces import Beyond, in_pieces
from stager.transfer.resume import NOTHING_KNOWN, Leftover, Representation
from stager.transfer.revalidation import confirmed, freshness, is_of_other, revalidated
from stager.transfer.route import Route
from stager.transfer.sources import Sources
from stager.transfer.wire import NO_FIELDS, End

MAX_RESTARTS = 3
"""Times that one try begins again because an answer did not fit what was in place."""

_SHOWN_FOR = "shown_for"  # in a sidecar: with whose credentials the bytes came; nobody else goes on with them
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class TransferPlan:
    """One try of one fetch.

    Args:
        request: what is wanted.
        options: the site's choices.
        sources: its URLs in the order in which they are tried; by default as the request has them.
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
        sources: Sequence[str] = (),
        entry: Entry | None = None,
        leftover: int = 0,
        sidecar: Mapping[str, Any] | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        self._request, self._options, self._entry = request, options, entry
        self._trusting = options.unproven == "accept"
        self._key = parse_url(request.url)
        self._secrets, self._was_shown = secrets, bool(secrets)
        self._pages = PageWatch(options.html_hosts, "" if entry is None else entry.content_type)
        self._given = None if request.expected is None else read_digest(request.expected)
        urls = map(parse_url, sources or (request.url, *request.mirrors))
        self._sources = Sources(urls, self._given)
        self._offset = 0  # bytes in place that count
        self._in_place = False  # what the partial holds are bytes of the file
        self._resuming = False
        self._foreign = False  # what is in place came from another source
        self._mixed = False  # from several, of which one may have other bytes
        self._expected: int | None = None  # bytes of the body that is being received
        self._representation = NOTHING_KNOWN
        self._seen: Headers = NO_FIELDS  # of the answer with the bytes
        self._fresh_until, self._unproven = 0.0, False
        shown_for = (sidecar or {}).get(_SHOWN_FOR)
        mine = leftover > 0 and shown_for in {None, request.owner}
        found = Leftover.of(leftover, sidecar, self._key, self._sources) if mine else None
        if found is not None:
            self._was_shown = self._was_shown or shown_for is not None
            self._representation, self._foreign, self._offset = *found, leftover
            self._resuming = self._in_place = True
        self._arrive()

    def _arrive(self) -> None:
        """Begin at the present source."""
        self._url = source = self._sources.current
        secrets = self._secrets if source.origin == self._key.origin else None
        self._route = Route(source, self._options.max_redirects, secrets)
        self._restarts, self._no_cache = 0, False
        self._pages.has_form = False
        self._known = None if self._resuming else revalidated(self._entry, self._request, self._url)

    # -- several sources --------------------------------------------------------------------------

    @property
    def sources(self) -> Sources:
        """Which URL is read now, and which are left."""
        return self._sources

    def turn(self, in_place: int, *, later: bool = False) -> bool:
        """Go to the next source; False if there is none.

        Args:
            in_place: bytes that the partial holds.
            later: the present source is asked once more after all others.
        """
        if not self._sources.turn(later=later):
            return False
        keep = self._in_place and self._sources.proof is not None and in_place > 0
        self._offset = in_place if keep else 0
        self._in_place = self._resuming = self._foreign = keep
        if not keep:
            self._representation = NOTHING_KNOWN
            self._mixed = False
        self._arrive()
        return True

    # -- asking -----------------------------------------------------------------------------------

    @property
    def route(self) -> Route:
        """Where the next request goes: to the source, or where redirects have led to."""
        return self._route

    def present(
        self,
        secrets: Mapping[str, str],
        certificate: ClientCertificate | None = None,
        identity: Identity | None = None,
        *,
        is_secret: bool = True,
    ) -> None:
        """Send these headers with the next requests, and show this certificate, until another origin is asked."""
        self._route.show(secrets, certificate, identity)
        self._was_shown = self._was_shown or is_secret
        if is_secret and self._known is not None and not self._known.restricted:
            self._known = None  # what everybody may read does not become what few may: that is kept apart

    def next_request(self) -> Request:
        """What to send now."""
        route = self._route
        if self._resuming:  # without a validator, the digest of the whole is the proof
            proof = None if self._foreign else self._representation.if_range
            headers = headers_to_resume(self._offset, proof)
        else:
            headers = headers_to_ask(self._known)
        if self._no_cache:
            headers["Cache-Control"] = "no-cache"
        if route.secrets:
            headers.update(route.secrets)
        elif wants_checksum(route.at.host, route.at.target):
            headers["x-amz-checksum-mode"] = "ENABLED"
        return Request(route.at, headers, route.certificate, None, route.identity)

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
            return self._route.follow(headers, proven=self._sources.proof is not None)
        if status == 304:  # noqa: PLR2004
            return self._on_unchanged(headers, now)
        if status == 416 and self._resuming:  # noqa: PLR2004
            return self._on_nothing_left(headers, now)
        again = self._route.resolve_again(status)
        if again is None:
            raise status_error(self._url, status, headers, now, at=self._route.at)
        return again

    def _on_whole(self, headers: Headers, now: float) -> Again | Receive:
        if "content-range" in headers:
            if self._resuming:
                return self._start_over("a whole answer (200) with Content-Range")
            raise refusals.violation(self._url, "a whole answer (200) with Content-Range")
        length = None if (text := headers.get("content-length")) is None else int(text)
        refusals.check_size(self._url, self._request.size, length)
        self._pages.check(self._route, headers)
        found = Representation.of(headers, length)
        self._sources.relearn(found.digest, changed=self._representation.differs(headers))
        told = self._sources.wanted or found.digest or self._request.size is not None or self._trusting
        if length is None and "transfer-encoding" not in headers and not told:
            raise refusals.unproven(self._url)
        self._resuming = self._foreign = self._mixed = False
        self._known, self._offset, self._expected = None, 0, length
        return self._receive(found, headers, now)

    def _on_part(self, headers: Headers, now: float) -> Again | Receive:
        if not self._resuming:
            raise refusals.violation(self._url, "a part (206) came where none was asked for")
        part = Part.of(headers, self._offset, self._representation, foreign=self._foreign)
        if isinstance(part, str):
            return self._start_over(part)
        refusals.check_size(self._url, self._request.size, part.seen.total)
        if self._foreign:
            self._foreign = False
            self._mixed = part.first > 0
        self._offset, self._expected = part.first, part.length
        return self._receive(part.seen, headers, now)

    def _receive(self, seen: Representation, headers: Headers, now: float) -> Receive:
        self._representation = seen
        self._seen = headers
        self._fresh_until = freshness(headers, now, self._options)
        self._in_place = True
        self._sources.learn(seen.digest)
        if "link" in headers:
            self._sources.add(duplicates(headers["link"], self._route.at))
        length, most = self._expected, self._options.max_file_bytes
        if most:
            length = refusals.allowed_length(self._url, most, self._offset, length, seen.total)
        return Receive(self._offset, length, seen.total)

    def _on_nothing_left(self, headers: Headers, now: float) -> Again | Finish:
        span = parse_content_range(headers.get("content-range"))
        if span is None or span.first is not None or span.total != self._offset:
            return self._start_over("the origin has no such range (416)")
        known = self._representation
        if known.total not in {None, self._offset} or (not self._foreign and known.differs(headers)):
            return self._start_over("the file changed at the origin")
        self._fresh_until = freshness({}, now, self._options)
        return Finish(self._offset)

    def _on_unchanged(self, headers: Headers, now: float) -> Again | Unchanged:
        entry = self._known
        if entry is None:
            raise refusals.violation(self._url, "'not modified' (304) came where nothing was asked that way")
        if is_of_other(entry, headers):
            self._known = None
            return self._start_over("'not modified' (304) for another version")
        return Unchanged(confirmed(entry, headers, now, self._options))

    # -- several streams --------------------------------------------------------------------------

    @property
    def parts(self) -> Parts | None:
        """How several streams ask for parts of the file; None: nothing would prove that these belong together."""
        known, route = self._representation, self._route
        if self._foreign or self._mixed or not known.is_divisible:
            return None
        return Parts(route.at, dict(route.secrets), route.certificate, known)

    def on_misfit(self, in_place: int, reason: str) -> Again:
        """Go on with one stream, from `in_place`: what came with others, or for what is in place beyond, does not fit."""
        self._offset = in_place
        self._resuming = self._in_place = in_place > 0
        return Again(reason)

    # -- ends -------------------------------------------------------------------------------------

    def on_end(self, received: int, end: End, trailer: Headers = NO_FIELDS) -> Again | Finish:
        """What to do after a body of which `received` bytes are in place.

        Args:
            received: see there.
            end: how the body ended.
            trailer: fields that came behind it.

        Raises:
            FetchError: it is not all that was announced, or not as long as the caller says.
        """
        self._offset += received
        known = self._representation
        refusals.check_limit(self._url, self._options.max_file_bytes, self._offset)  # it was cut for that
        if end is End.BROKEN if self._expected is None else received < self._expected:
            raise refusals.incomplete(self._url, self._offset, known.total, resumable=self.can_resume)
        if self._expected is not None:
            if known.total == self._offset:
                return Finish(self._offset)
            self._resuming = True  # a shorter range than asked for, or a length still unknown
            return Again("the rest of the file")
        self._in_place = False  # should the size be another one
        refusals.check_size(self._url, self._request.size, self._offset)
        self._in_place = True
        if trailer and known.digest is None:
            known = self._representation = known._replace(digest=digest_of(trailer, whole=True))
        proven = self._wanted is not None or self._request.size is not None
        self._unproven = end is End.CLOSED and not proven
        return Finish(self._offset)

    @property
    def _wanted(self) -> Digest | None:
        """What the bytes have to hash to: what the caller says beats what any origin says."""
        return self._sources.wanted or self._representation.digest

    @property
    def algorithms(self) -> tuple[str, ...]:
        """What has to be computed besides SHA-256."""
        wanted = self._wanted
        return () if wanted is None or wanted.algorithm == "sha256" else (wanted.algorithm,)

    def on_page(self, head: Callable[[int], bytes]) -> None:
        """Look at the page that came, if it may be a login; `head` gives its first bytes, so many.

        Raises:
            CredentialRequiredError: it is one, and data was expected.
        """
        if self._pages.looks(self._route, self._seen, proven=self._wanted is not None):
            self._in_place = False  # should it be one
            self._pages.read(self._route, head(LOOK_BYTES), proven=self._given is not None)
            self._in_place = True

    def on_digest(self, sha256: str, others: Sequence[Digest] = ()) -> Again | None:
        """Compare with the digest that the caller or the origin gave; None: the bytes are right, or none was given.

        Args:
            sha256: of the bytes.
            others: what else was computed of them (`algorithms`).

        Raises:
            CredentialRequiredError: what came instead is a login page.
            DigestMismatchError: wrong again, after every cache on the way was told to ask the origin; or wrong, and
                another source may be right.
        """
        wanted = self._wanted
        if wanted is None:
            return None
        got = {"sha256": sha256, **{digest.algorithm: digest.value for digest in others}}[wanted.algorithm]
        if wanted.value == got:
            return None
        self._in_place = False
        if self._pages.has_form:
            raise refusals.login_page(self._url, self._route.at)
        if not self._mixed:
            if self._no_cache or self._sources.left:
                given, twice = self._given is not None, self._no_cache
                raise refusals.mismatch(self._url, wanted, got, self._offset, twice=twice, given=given)
            self._no_cache = True
        self._mixed = False  # else nobody knows whose bytes are wrong
        self._route.restart()
        self._resuming, self._known, self._offset = False, None, 0
        return Again("the digest does not match")

    def sidecar(self, front: int | None = None, beyond: Beyond = ()) -> dict[str, Any]:
        """What a later try needs to go on; to be on disk before the first byte of a body. See `in_pieces`."""
        written = self._representation.sidecar(self._key, self._url)
        if self._was_shown:
            written[_SHOWN_FOR] = self._request.owner
        return written if front is None else in_pieces(written, front, beyond)

    @property
    def can_resume(self) -> bool:
        """Whether a later try can go on from what is in place."""
        proven = self._sources.proof is not None and self._sources.are_several
        return self._in_place and (proven or self._representation.if_range is not None)

    def entry(self, sha256: str, now: float, others: Sequence[Digest] = ()) -> Entry:
        """The entry for the finished file; arguments as of `on_digest`."""
        seen, headers = self._representation, self._seen
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
            restricted=self._was_shown,
            owner=self._request.owner,
            digests=tuple(map(str, others)),
            sharing=sharing(headers),
            name=proposed_name(headers.get("content-disposition")),
        )

    # -- helpers ----------------------------------------------------------------------------------

    def _start_over(self, reason: str) -> Again:
        """Forget what is in place and ask for the whole."""
        self._restarts += 1
        if self._restarts > MAX_RESTARTS:
            raise refusals.violation(self._url, reason)
        self._resuming = self._in_place = False
        self._offset = 0
        return Again(reason)
