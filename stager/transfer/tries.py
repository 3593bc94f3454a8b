"""One try of one fetch that has to ask the origin: transfer, verify, publish, record.

What waits for the origin is left to a driver (`asks`), so that a try is the same on threads and in an event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from hashlib import sha256
from pathlib import Path
from typing import Any

from stager.errors import (
    CacheError,
    CacheFullError,
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
from stager.transfer.asks import Fill, Open, Steps
from stager.transfer.checksums import digests_of
from stager.transfer.classify import name_url
from stager.transfer.decisions import Again, Finish, Receive, Unchanged
from stager.transfer.exchange import no_connection
from stager.transfer.giving_up import GivingUp
from stager.transfer.growing import GrowingFile
from stager.transfer.known import with_digest
from stager.transfer.means import Means, result_of
from stager.transfer.pace import Pace
from stager.transfer.plan import TransferPlan
from stager.transfer.race import Race
from stager.transfer.transport import Answer
from stager.transfer.wire import End

SMALL_BYTES = 1 << 20
"""A body of a known length up to this, which fits in a buffer, is held in memory: no partial file, no second thread."""
REPORT_SECONDS = 0.1
"""Shortest time between two reports of progress."""

ProgressReport = Callable[[int, int | None, int], None]
"""Bytes in place, of how many (None: not known), offset at which this try went on."""

Receiving = Generator[Fill, Any, Again | Finish]
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
        self._space = means.space
        self._means = means
        self._order = order
        self._request = order.request
        self._entry = entry
        self._started = started
        self._progress = progress
        self._on_received = received
        self._reported = started
        self._giving_up = GivingUp(order.request.url, cancelled, options, means.clock)
        self._pace = Pace.of(options)
        self._filled_in = 0.0  # seconds that the last bytes took
        self._file: GrowingFile | None = None
        self._small: memoryview | None = None  # the body, when it is held in memory
        self._small_size = 0  # bytes of it
        self._room: memoryview | None = None  # lent by the pool, to hold it
        self._received = 0
        self._promised: int | None = None  # size for which space was reserved
        self._resumed_from: int | None = None
        self._plan = plan or means.plan(self._request, entry=entry)
        self._race: Race | None = None  # between several sources
        self._access = means.access(self._request)

    def steps(self) -> Steps:
        """The try, from its beginning to what `Fetcher.fetch` returns or raises."""
        try:
            self._giving_up.check_cancelled()
            self._lease()
            reached("fetch.leased")
            if self._entry is not None and self._request.digest is not None and self._knows_digest():
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
            partial = self._claim().partial
            self._plan = self._means.plan(
                self._request, entry=self._entry, leftover=partial.size, sidecar=partial.sidecar()
            )

    def _claim(self) -> GrowingFile:
        partial = self._cache.claim_partial(self._request.key, self._order.generation)
        self._file = GrowingFile(partial, self._buffers)
        return self._file

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
        self._drop_small()  # so little is soon here again
        self._race.turn(error, self._in_place)
        self._pace = Pace.of(self._options)
        self._giving_up.answered()

    # -- receiving --------------------------------------------------------------------------------

    def _take(self, answer: Answer, order: Receive) -> Finish | Again | None:
        """Take the body if it is all here, as that of nearly every small file is; None: it is to be received."""
        if self._file is not None or order.length != order.total or (whole := answer.take()) is None:
            return None
        self._small = memoryview(whole)
        self._small_size = size = len(whole)
        self._received += size
        self._resumed_from = 0
        reached("fetch.written")
        return self._plan.on_end(size, End.COMPLETE)

    def _receive(self, answer: Answer, order: Receive) -> Receiving:
        if self._resumed_from is None or order.offset < self._resumed_from:
            self._resumed_from = order.offset
        length = order.length
        if self._race is None and self._plan.sources.left:
            self._race = Race(self._plan, self._means.standings, self._clock)
        if self._file is None and length is not None and length == order.total and length <= SMALL_BYTES:
            return (yield from self._receive_small(answer, order, length))
        self._drop_small()  # of an answer before
        return (yield from self._receive_file(answer, order))

    def _receive_small(self, answer: Answer, order: Receive, length: int) -> Receiving:
        """Keep the body in memory."""
        if self._room is None:
            self._room = self._buffers.take()
        self._small = self._room
        self._small_size = 0
        while answer.end is None and self._small_size < length:
            self._small_size += yield from self._fill(answer, self._small[self._small_size : length])
            self._report(self._small_size, order.total)
            self._giving_up.check_cancelled()
        reached("fetch.written")
        return self._plan.on_end(self._small_size, answer.end or End.BROKEN)

    def _receive_file(self, answer: Answer, order: Receive) -> Receiving:
        """Write the body to the partial, hashing beside it."""
        if order.total is not None:
            self._space.reserve(self._order.fetch, order.total - order.offset)
            self._promised = order.total
        file = self._file or self._claim()
        file.begin(order.offset, order.total, self._plan.sidecar())
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
            self._report(file.in_place, order.total)
            self._giving_up.check_cancelled()  # what came is in place
            if self._race is not None and answer.end is None:
                self._race.received(count, self._filled_in, None if end is None else end - file.in_place)
        file.stop()
        return self._plan.on_end(file.in_place - order.offset, answer.end or End.BROKEN, answer.trailer)

    def _fill(self, answer: Answer, room: memoryview) -> Generator[Fill, Any, int]:
        """Read until `room` is full, the body ends, or it is time to look at clock and cancel."""
        filled, seconds = yield Fill(answer, room)
        self._received += filled
        self._giving_up.check_time(self._in_place)
        self._filled_in = seconds
        too_slow = self._pace.waited(seconds, filled)
        if too_slow is not None and answer.end is None:
            raise no_connection(parse_url(self._request.url), too_slow)
        return int(filled)

    def _report(self, in_place: int, total: int | None) -> None:
        now = self._clock.monotonic()
        if now - self._reported < REPORT_SECONDS:
            return
        self._reported = now
        if self._promised is not None:
            self._space.written(self._order.fetch, self._promised - in_place)
        if self._progress is not None:
            self._progress(in_place, total, self._resumed_from or 0)

    # -- ends -------------------------------------------------------------------------------------

    def _compute_digests(self) -> tuple[str, tuple[Digest, ...]]:
        """SHA-256 of what came, and the other digests that the plan wants; a page is looked at."""
        more = self._plan.algorithms
        if self._small is not None:
            body = self._small[: self._small_size]
            self._plan.on_page(lambda size: bytes(body[:size]))
            return sha256(body).hexdigest(), digests_of(body, more) if more else ()
        file = self._file
        assert file is not None
        if self._resumed_from is None:  # everything was in place already
            self._resumed_from = file.in_place
        self._plan.on_page(file.head)
        return file.hashed(more, self._giving_up.check_cancelled)

    def _publish(self, digest: str, others: tuple[Digest, ...]) -> FetchResult:
        entry = self._plan.entry(digest, self._clock.time(), others)
        if self._small is not None:
            location: str | Path = self._cache.publish_bytes(
                self._request.key, self._small[: self._small_size], digest
            )
        else:
            file, self._file = self._file, None
            assert file is not None
            location = self._cache.publish(file.partial, digest, entry.size)
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
            resumed_from=self._resumed_from or 0,
            tried=() if self._race is None else self._race.tried,
        )

    def _confirm(self, entry: Entry) -> FetchResult:
        if self._file is not None:
            self._file.partial.discard()
        self._cache.record(entry)
        path = self._cache.object_path(entry.object)
        return result_of(self._request, entry, path, self._clock.monotonic() - self._started, cached=True)

    def _break_off(self, error: BaseException) -> None:
        """Keep what a later try can go on from."""
        file = self._file
        if file is not None:
            file.stop()
            file.drop_digest()
        in_place = self._in_place
        name_url(error, self._url)
        if isinstance(error, CacheFullError) and self._promised is not None:
            error.details.setdefault("needed", max(0, self._promised - in_place))
        refused = isinstance(error, OriginRefusedError) and not isinstance(error, CredentialError)
        useless = refused or isinstance(error, DigestMismatchError | FileTooLargeError)
        if useless or not self._plan.can_resume or not in_place or self._is_overtaken():
            if file is not None:
                file.partial.discard()
            return
        if self._small is not None:
            file = self._spill(self._small[: self._small_size])
        if file is not None:
            file.partial.keep()
            if isinstance(error, StagerError) and file.written:
                error.details["progressed"] = True

    def _is_overtaken(self) -> bool:
        """Whether a later try has fetched it, or is about to: nobody would go on with these bytes.

        It happens where a farm took this try for lost, as of a data node that was cut off for a while.
        """
        if self._file is None:
            return False
        try:
            return self._file.partial.is_overtaken or self._cache.lookup(self._request.key) != self._entry
        except (CacheError, OSError):  # then they may be of use
            return False

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
        if self._promised is not None:
            self._space.release(self._order.fetch)
        if self._file is not None:
            self._file.drop_digest()
        self._drop_small()

    def _drop_small(self) -> None:
        self._small, self._small_size = None, 0
        if self._room is not None:
            self._buffers.give(self._room)
            self._room = None

    @property
    def _in_place(self) -> int:
        """Bytes that are there, in the file or in memory."""
        return self._small_size if self._file is None else self._file.in_place

    @property
    def _url(self) -> str:
        """For people."""
        return parse_url(self._request.url).redacted
