"""One try of one fetch that has to ask the origin: transfer, verify, publish, record.

What waits for the origin is left to a driver (`asks`), so that a try is the same on threads and in an event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from hashlib import sha256
from pathlib import Path
from typing import Any

from stager.errors import (
    CacheFullError,
    CacheTooSmallError,
    CredentialError,
    DigestMismatchError,
    FetchError,
    FileTooLargeError,
    OriginRefusedError,
    StagerError,
)
from stager.model.digests import Digest
from stager.model.entries import Entry
from stager.model.fetches import FetchOrder, FetchResult
from stager.model.urls import parse_url
from stager.steps import reached
from stager.transfer.account import Account, ProgressReport
from stager.transfer.asks import Ask, Fill, Open, Steps
from stager.transfer.checksums import digests_of
from stager.transfer.classify import name_url
from stager.transfer.decisions import Again, Finish, Receive, Unchanged
from stager.transfer.exchange import no_connection
from stager.transfer.giving_up import GivingUp
from stager.transfer.growing import GrowingFile
from stager.transfer.held import HeldBody
from stager.transfer.known import with_digest
from stager.transfer.means import Means, result_of
from stager.transfer.overlap import compare
from stager.transfer.pace import Pace
from stager.transfer.pieces import Beyond, Pieces
from stager.transfer.plan import TransferPlan
from stager.transfer.race import Race
from stager.transfer.segments import Lead, Segments
from stager.transfer.streams import Streams
from stager.transfer.transport import Answer
from stager.transfer.wire import End

SMALL_BYTES = 1 << 20
"""A body of a known length up to this, which fits in a buffer, is held in memory: no partial file, no second thread."""
Receiving = Generator[Ask, Any, Again | Finish]
"""A part of a try's steps that ends with what the plan says."""


class Try:
    """The state of one try: where the bytes are (memory or partial file), and how many came.

    Args:
        entry: what the cache has for it, or None.
        started: when it began, on the monotonic clock.
        plan: of the request, if its origin was asked already.
        order, progress, cancelled, received: see `Fetcher.fetch`.
    """

    def __init__(
        self,
        means: Means,
        order: FetchOrder,
        entry: Entry | None,
        started: float,
        progress: ProgressReport | None,
        cancelled: Callable[[], bool],
        received: Callable[[], None],
        plan: TransferPlan | None = None,
    ) -> None:
        self._cache = means.cache
        self._options = options = means.options
        self._clock = means.clock
        self._buffers = means.buffers
        self._means = means
        self._order = order
        self._request = order.request
        self._entry = entry
        self._started = started
        self._account = Account(order.fetch, means.space, progress, means.clock, started)
        self._on_received = received
        self._giving_up = GivingUp(order.request.url, cancelled, options, means.clock)
        self._pace = Pace.of(options)
        self._filled_in = 0.0  # seconds that the last bytes took
        self._file: GrowingFile | None = None
        self._small = HeldBody(means.buffers)
        self._received = 0
        self._plan = plan or means.plan(self._request, entry=entry)
        self._race: Race | None = None  # between several sources
        self._access = means.access(self._request)
        self._beyond: Beyond = ()  # what an earlier try left after a gap
        self._may_split = True

    def steps(self) -> Steps:
        """The try, from its beginning to what `Fetcher.fetch` returns or raises."""
        try:
            self._giving_up.check_cancelled()
            self._lease()
            reached("fetch.leased")
            if self._may_know_digest and self._knows_digest():
                assert self._entry is not None
                return self._confirm(self._entry)
            while True:
                try:
                    if self._access is not None:
                        yield from self._access.prepare(self._plan, self._giving_up.pulse)
                    answer = yield Open(self._plan.next_request(), self._giving_up.pulse)
                    try:
                        self._giving_up.answered()
                        decision = self._means.decide(self._plan, answer, self._access)
                        if isinstance(decision, Receive):
                            decision = self._take(answer, decision) or (
                                yield from self._receive(answer, decision)
                            )
                    finally:
                        answer.close()
                    if isinstance(decision, Unchanged):
                        return self._confirm(decision.entry)
                    if isinstance(decision, Finish):
                        digest, others = self._compute_digests()
                        wrong = self._plan.on_digest(digest, others)
                        if wrong is None:
                            self._on_received()
                            return self._publish(digest, others)
                        decision = wrong
                    assert isinstance(decision, Again)
                    self._giving_up.check_time(self._in_place)
                except FetchError as error:
                    self._go_elsewhere(error)
        except BaseException as error:
            self._break_off(error)
            raise
        finally:
            self._release()

    def _lease(self) -> None:
        """Take over what an earlier try left; a private temporary of our own comes with the first byte."""
        if self._cache.has_partial(self._request.key):
            file = self._claim()
            pieces = Pieces.of(file.partial.size, file.partial.sidecar())
            file.in_place, self._beyond = pieces.front, pieces.beyond
            before = max(0, pieces.front - self._options.overlap_bytes)  # the rest is compared
            self._plan = self._means.plan(
                self._request, entry=self._entry, leftover=before, sidecar=pieces.sidecar
            )

    def _claim(self) -> GrowingFile:
        partial = self._cache.claim_partial(self._request.key, self._order.generation)
        self._file = GrowingFile(partial, self._buffers, partial.size)
        return self._file

    @property
    def _may_know_digest(self) -> bool:
        return self._entry is not None and not self._entry.restricted and self._request.digest is not None

    def _knows_digest(self) -> bool:
        """Whether the file in the cache has the digest that is wanted, of whatever algorithm."""
        entry, expected = self._entry, self._request.expected
        assert entry is not None
        assert expected is not None
        self._entry = with_digest(self._cache, entry, expected, self._giving_up.check_cancelled)
        return self._entry.answers(expected, self._request.size)

    def _go_elsewhere(self, error: FetchError) -> None:
        """Go on at another source, if there is one; else raise."""
        self._giving_up.check_time(self._in_place)
        if self._race is None:
            if not self._plan.sources.left:
                raise error
            self._race = Race(self._plan, self._means.standings, self._clock)
        if self._file is not None:
            self._file.stop()
        self._small.drop()  # so little is soon here again
        self._race.turn(error, self._in_place)
        self._pace = Pace.of(self._options)
        self._giving_up.answered()

    # -- receiving --------------------------------------------------------------------------------

    def _take(self, answer: Answer, order: Receive) -> Finish | Again | None:
        """Take the body if it is all here, as that of nearly every small file is; None: it is to be received."""
        if self._file is not None or order.length != order.total or (whole := answer.take()) is None:
            return None
        size = self._small.hold(whole)
        self._received += size
        self._account.begin(0)
        reached("fetch.written")
        return self._plan.on_end(size, End.COMPLETE)

    def _receive(self, answer: Answer, order: Receive) -> Receiving:
        self._account.begin(order.offset if not order.offset or self._file is None else self._file.in_place)
        length = order.length
        if self._race is None and self._plan.sources.left:
            self._race = Race(self._plan, self._means.standings, self._clock)
        if self._file is None and length is not None and length == order.total and length <= SMALL_BYTES:
            return (yield from self._receive_small(answer, order, length))
        self._small.drop()  # of an answer before
        return (yield from self._receive_file(answer, order))

    def _receive_small(self, answer: Answer, order: Receive, length: int) -> Receiving:
        """Keep the body in memory."""
        small = self._small
        room = small.begin(length)
        while answer.end is None and small.size < length:
            small.grow((yield from self._fill(answer, room[small.size :])))
            self._account.report(small.size, order.total)
            self._giving_up.check_cancelled()
        reached("fetch.written")
        return self._plan.on_end(small.size, answer.end or End.BROKEN)

    def _receive_file(self, answer: Answer, order: Receive) -> Receiving:
        """Write the body to the partial, hashing beside it."""
        self._account.reserve(order.total, order.offset)
        file = self._file or self._claim()
        begin = order.offset
        if 0 < begin < file.in_place:
            same = yield from compare(file, begin, answer, self._buffers, self._fill)
            if same is None:
                return self._plan.on_misfit(0, "a part does not fit what is in place")
            begin += same
            if begin < file.in_place:
                return self._plan.on_end(same, answer.end or End.BROKEN)
        streams = None
        if self._may_split and self._plan.parts is not None:
            streams = Streams.of(order, self._options, self._clock.monotonic(), begin)
        if streams is not None and self._beyond and begin == file.in_place:
            return (yield from self._receive_split(answer, order, file, streams))
        self._beyond = ()
        file.begin(begin, order.total, self._plan.sidecar())
        digest = file.hash(self._plan.algorithms)
        end = None if order.length is None else order.offset + order.length
        while answer.end is None and file.in_place != end:
            buffer = digest.take()
            room = buffer if end is None else buffer[: end - file.in_place]
            count = yield from self._fill(answer, room)
            if count == 0:
                digest.give_back(buffer)
                self._giving_up.check_cancelled()
                continue
            file.append(buffer[:count])
            digest.add(buffer, count)
            reached("fetch.written")
            self._account.report(file.in_place, order.total)
            self._giving_up.check_cancelled()  # what came is in place
            if self._race is not None and answer.end is None:
                self._race.received(count, self._filled_in, None if end is None else end - file.in_place)
            if streams is not None and streams.read(self._clock.monotonic(), file.in_place) > 1:
                return (yield from self._receive_split(answer, order, file, streams))
        file.stop()
        return self._plan.on_end(file.in_place - order.offset, answer.end or End.BROKEN, answer.trailer)

    def _receive_split(
        self, answer: Answer, order: Receive, file: GrowingFile, streams: Streams
    ) -> Receiving:
        """Let several streams bring the rest."""
        file.stop()
        file.hash(self._plan.algorithms)
        segments = Segments(self._plan, file, self._beyond, streams, self._means)

        def report(in_place: int) -> None:
            self._account.report(in_place, order.total)
            self._giving_up.check_cancelled()
            self._giving_up.check_time(in_place)

        try:
            refused = yield from segments.bring(Lead(self._giving_up.pulse, self._fill, report), answer)
        finally:
            self._received += segments.received
        if refused is not None:
            self._may_split = False
            return self._plan.on_misfit(file.in_place, refused)
        return self._plan.on_end(file.in_place - order.offset, answer.end or End.BROKEN)

    def _fill(self, answer: Answer, room: memoryview) -> Generator[Fill, Any, int]:
        """Read until `room` is full, the body ends, or it is time to look at clock and cancel."""
        filled, seconds = yield Fill(answer, room)
        self._received += filled
        self._giving_up.answered()
        self._giving_up.check_time(self._in_place)
        self._filled_in = seconds
        too_slow = self._pace.waited(seconds, filled)
        if too_slow is not None and answer.end is None:
            raise no_connection(parse_url(self._request.url), too_slow)
        return int(filled)

    # -- ends -------------------------------------------------------------------------------------

    def _compute_digests(self) -> tuple[str, tuple[Digest, ...]]:
        """SHA-256 of what came, and the other digests that the plan wants; a page is looked at."""
        more = self._plan.algorithms
        body = self._small.data
        if body is not None:
            self._plan.on_page(lambda size: bytes(body[:size]))
            return sha256(body).hexdigest(), digests_of(body, more) if more else ()
        file = self._file
        assert file is not None
        self._account.begin(file.in_place)  # if everything was in place already
        self._plan.on_page(file.head)
        return file.hashed(more, self._giving_up.check_cancelled)

    def _publish(self, digest: str, others: tuple[Digest, ...]) -> FetchResult:
        entry = self._plan.entry(digest, self._clock.time(), others)
        if self._small.data is not None:
            location: str | Path = self._cache.publish_bytes(
                self._request.key, self._small.data, digest, restricted=entry.restricted
            )
        else:
            file, self._file = self._file, None
            assert file is not None
            location = self._cache.publish(file.partial, digest, entry.size, restricted=entry.restricted)
        self._cache.record(entry)
        if self._race is not None:
            self._race.won()
        return result_of(
            self._request,
            entry,
            location,
            self._clock.monotonic() - self._started,
            cached=False,
            received=self._received,
            resumed_from=self._account.resumed_from or 0,
            tried=() if self._race is None else self._race.tried,
            credentials=self._shown,
        )

    @property
    def _shown(self) -> tuple[str, ...]:
        return () if self._access is None else self._access.shown_ids

    def _confirm(self, entry: Entry) -> FetchResult:
        if self._file is not None:
            self._file.partial.discard()
        self._cache.record(entry)
        path = self._cache.object_path(entry.object, restricted=entry.restricted)
        seconds = self._clock.monotonic() - self._started
        return result_of(self._request, entry, path, seconds, cached=True, credentials=self._shown)

    def _break_off(self, error: BaseException) -> None:
        """Keep what a later try can go on from."""
        file = self._file
        if file is not None:
            file.stop()
            file.drop_digest()
        in_place = self._in_place
        name_url(error, self._url)
        self._means.absences.note(self._request, error, self._clock.time())
        if isinstance(error, CacheFullError) and self._account.promised is not None:
            error.details.setdefault("needed", max(0, self._account.promised - in_place))
        useless = isinstance(error, DigestMismatchError | FileTooLargeError | CacheTooSmallError)
        if file is None or not file.is_as_found:  # else it may be another owner's, who is not refused
            refused = isinstance(error, OriginRefusedError) and not isinstance(error, CredentialError)
            useless = useless or refused or not self._plan.can_resume
        overtaken = file is not None and file.is_overtaken(self._cache, self._request.key, self._entry)
        if useless or not in_place or overtaken:
            if file is not None:
                file.partial.discard()
            return
        if self._small.data is not None:
            file = self._spill(self._small.data)
        if file is not None:
            file.partial.keep()
            if isinstance(error, StagerError) and file.written:
                error.details["progressed"] = True

    def _spill(self, data: memoryview) -> GrowingFile | None:
        """Write what is in memory to a partial, so that a later try can go on from it."""
        try:
            file = self._claim()
            file.begin(0, len(data), self._plan.sidecar())
            file.append(data)
            file.stop()
        except StagerError:
            if self._file is not None:
                self._file.partial.discard()
                self._file = None
            return None
        return file

    def _release(self) -> None:
        self._account.close()
        if self._file is not None:
            self._file.drop_digest()
        self._small.drop()

    @property
    def _in_place(self) -> int:
        """Bytes that are there, in the file or in memory."""
        return self._small.size if self._file is None else self._file.in_place

    @property
    def _url(self) -> str:
        """For people."""
        return parse_url(self._request.url).redacted
