"""One try of one fetch that has to ask the origin: transfer, verify, publish, record.

What waits for the origin is left to a driver (`asks`), so that a try is the same on threads and in an event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from hashlib import sha256
from pathlib import Path
from typing import Any

from stager.cache.failures import cache_error
from stager.cache.partial import Partial
from stager.errors import (
    CacheError,
    CacheFullError,
    CredentialError,
    DigestMismatchError,
    FileTooLargeError,
    OriginRefusedError,
    StagerError,
)
from stager.model.entries import Entry
from stager.model.fetches import FetchOrder, FetchResult
from stager.model.urls import parse_url
from stager.steps import reached
from stager.transfer.asks import Fill, Open, Steps
from stager.transfer.classify import name_url
from stager.transfer.decisions import Again, Finish, Receive, Unchanged
from stager.transfer.digest import FileDigest
from stager.transfer.exchange import no_connection
from stager.transfer.giving_up import GivingUp
from stager.transfer.means import Means, result_of
from stager.transfer.pace import Pace
from stager.transfer.plan import TransferPlan
from stager.transfer.transport import Answer
from stager.transfer.wire import End
from stager.transfer.writer import FileWriter

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
        self._means = means
        self._cache = means.cache
        self._options = options = means.options
        self._clock = means.clock
        self._buffers = means.buffers
        self._space = means.space
        self._order = order
        self._request = order.request
        self._entry = entry
        self._started = started
        self._progress = progress
        self._on_received = received
        self._reported = started
        self._giving_up = GivingUp(order.request.url, cancelled, options, means.clock)
        self._pace = Pace(
            silence=options.read_timeout_seconds,
            window=options.low_speed_seconds,
            slowest=options.low_speed_bytes_per_second,
        )
        self._partial: Partial | None = None
        self._in_place = 0  # bytes in the partial, or in memory
        self._writer: FileWriter | None = None
        self._sidecar: dict[str, object] = {}  # what is on disk beside it
        self._digest: FileDigest | None = None  # of these bytes
        self._small: memoryview | None = None  # the body, when it is held in memory
        self._room: memoryview | None = None  # lent by the pool, to hold it
        self._received = 0
        self._written = 0  # bytes that this try brought and put into the partial
        self._promised: int | None = None  # size for which space was reserved
        self._resumed_from: int | None = None
        self._plan = plan or TransferPlan(self._request, options, entry=entry)
        self._access = means.access(self._request)

    def steps(self) -> Steps:
        """The try, from its beginning to what `Fetcher.fetch` returns or raises."""
        try:
            self._giving_up.check_cancelled()
            self._lease()
            reached("fetch.leased")
            while True:
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
                    digest = self._compute_digest()
                    wrong = self._plan.on_digest(digest)
                    if wrong is None:
                        self._on_received()
                        return self._publish(digest)
                    decision = wrong
                assert isinstance(decision, Again)
                self._giving_up.check_time(self._in_place)
        except BaseException as error:
            self._break_off(error)
            raise
        finally:
            self._release()

    def _lease(self) -> None:
        """Take over what an earlier try left; a private temporary of our own comes with the first byte."""
        if self._cache.has_partial(self._request.key):
            partial = self._claim()
            self._plan = TransferPlan(
                self._request,
                self._options,
                entry=self._entry,
                leftover=partial.size,
                sidecar=partial.sidecar(),
            )

    def _claim(self) -> Partial:
        self._partial = self._cache.claim_partial(self._request.key, self._order.generation)
        self._in_place = self._partial.size
        return self._partial

    # -- receiving --------------------------------------------------------------------------------

    def _take(self, answer: Answer, order: Receive) -> Finish | Again | None:
        """Take the body if it is all here, as that of nearly every small file is; None: it is to be received."""
        if self._partial is not None or order.length != order.total or (whole := answer.take()) is None:
            return None
        self._small = memoryview(whole)
        self._in_place = size = len(whole)
        self._received += size
        self._resumed_from = 0
        reached("fetch.written")
        return self._plan.on_end(size, End.COMPLETE)

    def _receive(self, answer: Answer, order: Receive) -> Receiving:
        if self._resumed_from is None or order.offset < self._resumed_from:
            self._resumed_from = order.offset
        length = order.length
        if self._partial is None and length is not None and length == order.total and length <= SMALL_BYTES:
            return (yield from self._receive_small(answer, order, length))
        self._drop_small()  # of an answer before
        return (yield from self._receive_file(answer, order))

    def _receive_small(self, answer: Answer, order: Receive, length: int) -> Receiving:
        """Keep the body in memory."""
        if self._room is None:
            self._room = self._buffers.take()
        self._small = self._room
        self._in_place = 0
        while answer.end is None and self._in_place < length:
            self._in_place += yield from self._fill(answer, self._small[self._in_place : length])
            self._report(order.total)
            self._giving_up.check_cancelled()
        reached("fetch.written")
        return self._plan.on_end(self._in_place, answer.end or End.BROKEN)

    def _receive_file(self, answer: Answer, order: Receive) -> Receiving:
        """Write the body to the partial, hashing beside it."""
        if order.total is not None:
            self._space.reserve(self._order.fetch, order.total - order.offset)
            self._promised = order.total
        digest = self._prepare(order)
        assert self._partial is not None
        end = None if order.length is None else order.offset + order.length
        while answer.end is None and self._in_place != end:
            buffer = digest.take()
            room = buffer if end is None else buffer[: end - self._in_place]
            count = yield from self._fill(answer, room)
            if count == 0:
                digest.give_back(buffer)
                self._giving_up.check_cancelled()
                continue
            self._write(buffer[:count])
            digest.add(buffer, count)
            reached("fetch.written")
            self._report(order.total)
            self._giving_up.check_cancelled()  # what came is in place
        self._stop_writing()
        return self._plan.on_end(self._in_place - order.offset, answer.end or End.BROKEN)

    def _prepare(self, order: Receive) -> FileDigest:
        """The partial, cut to where the body begins and described for a later try; its digest, running."""
        partial = self._partial or self._claim()
        if self._in_place != order.offset:
            self._drop_digest()
            partial.truncate(order.offset)
            self._in_place = order.offset
        self._stop_writing()
        self._writer = FileWriter(partial.fd, partial.path, order.offset, order.total)
        sidecar = self._plan.sidecar()
        if sidecar != self._sidecar:
            partial.write_sidecar(sidecar)
            self._sidecar = sidecar
        reached("fetch.sidecar")
        return self._running_digest(partial)

    def _running_digest(self, partial: Partial) -> FileDigest:
        if self._digest is None:
            self._digest = FileDigest(partial.fd, self._in_place, self._buffers).__enter__()
        return self._digest

    def _stop_writing(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _drop_digest(self) -> None:
        if self._digest is not None:
            self._digest.__exit__()
            self._digest = None

    def _fill(self, answer: Answer, room: memoryview) -> Generator[Fill, Any, int]:
        """Read until `room` is full, the body ends, or it is time to look at clock and cancel."""
        filled, seconds = yield Fill(answer, room)
        self._received += filled
        self._giving_up.check_time(self._in_place)
        too_slow = self._pace.waited(seconds, filled)
        if too_slow is not None and answer.end is None:
            raise no_connection(parse_url(self._request.url), too_slow)
        return int(filled)

    def _write(self, data: memoryview) -> None:
        partial, writer = self._partial, self._writer
        assert partial is not None
        assert writer is not None
        try:
            writer.append(data)
        except OSError as error:
            raise cache_error(error, partial.path, "write") from error
        finally:
            self._written += writer.offset - self._in_place
            self._in_place = writer.offset

    def _report(self, total: int | None) -> None:
        now = self._clock.monotonic()
        if now - self._reported < REPORT_SECONDS:
            return
        self._reported = now
        if self._promised is not None:
            self._space.written(self._order.fetch, self._promised - self._in_place)
        if self._progress is not None:
            self._progress(self._in_place, total, self._resumed_from or 0)

    # -- ends -------------------------------------------------------------------------------------

    def _compute_digest(self) -> str:
        if self._small is not None:
            return sha256(self._small[: self._in_place]).hexdigest()
        partial = self._partial
        assert partial is not None
        if self._resumed_from is None:  # everything was in place already
            self._resumed_from = self._in_place
        try:
            return self._running_digest(partial).result(self._giving_up.check_cancelled)
        except OSError as error:
            raise cache_error(error, partial.path, "read") from error
        finally:
            self._drop_digest()

    def _publish(self, digest: str) -> FetchResult:
        entry = self._plan.entry(digest, self._clock.time())
        if self._small is not None:
            location: str | Path = self._cache.publish_bytes(
                self._request.key, self._small[: self._in_place], digest
            )
        else:
            partial, self._partial = self._partial, None
            assert partial is not None
            location = self._cache.publish(partial, digest, entry.size)
        self._cache.record(entry)
        return result_of(
            self._request,
            entry,
            location,
            self._clock.monotonic() - self._started,
            cached=False,
            received=self._received,
            resumed_from=self._resumed_from or 0,
        )

    def _confirm(self, entry: Entry) -> FetchResult:
        if self._partial is not None:
            self._partial.discard()
        self._cache.record(entry)
        path = self._cache.object_path(entry.object)
        return result_of(self._request, entry, path, self._clock.monotonic() - self._started, cached=True)

    def _break_off(self, error: BaseException) -> None:
        """Keep what a later try can go on from."""
        self._stop_writing()
        self._drop_digest()
        name_url(error, self._url)
        if isinstance(error, CacheFullError) and self._promised is not None:
            error.details.setdefault("needed", max(0, self._promised - self._in_place))
        refused = isinstance(error, OriginRefusedError) and not isinstance(error, CredentialError)
        useless = refused or isinstance(error, DigestMismatchError | FileTooLargeError)
        if useless or not self._plan.can_resume or not self._in_place or self._is_overtaken():
            if self._partial is not None:
                self._partial.discard()
            return
        if self._small is not None:
            self._spill(self._small[: self._in_place])
        if self._partial is not None:
            self._partial.keep()
            if isinstance(error, StagerError) and self._written:
                error.details["progressed"] = True

    def _is_overtaken(self) -> bool:
        """Whether a later try has fetched it, or is about to: nobody would go on with these bytes.

        It happens where a farm took this try for lost, as of a data node that was cut off for a while.
        """
        if self._partial is None:
            return False
        try:
            return self._partial.is_overtaken or self._cache.lookup(self._request.key) != self._entry
        except (CacheError, OSError):  # then they may be of use
            return False

    def _spill(self, data: memoryview) -> None:
        """Write what is in memory to a partial, so that a later try can go on from it."""
        try:
            partial = self._claim()
            partial.truncate(0)
            partial.write_sidecar(self._plan.sidecar())
            self._in_place = 0
            self._writer = FileWriter(partial.fd, partial.path, 0, len(data))
            self._write(data)
            self._stop_writing()
        except StagerError:
            if self._partial is not None:
                self._partial.discard()
                self._partial = None

    def _release(self) -> None:
        if self._promised is not None:
            self._space.release(self._order.fetch)
        self._drop_digest()
        self._drop_small()

    def _drop_small(self) -> None:
        self._small = None
        if self._room is not None:
            self._buffers.give(self._room)
            self._room = None

    @property
    def _url(self) -> str:
        """For people."""
        return parse_url(self._request.url).redacted
