"""One large file brought by several streams, a block at a time, into one partial file.

The try that began the file leads: it reads a stream of its own, asks its driver for others beside it while
they pay, hands what is in place at the front to the hash, and says on disk how far everybody is. A stream
that is refused or breaks only ends itself; what it had claimed is claimed by another one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from stager.errors import CacheError, StagerError
from stager.steps import reached
from stager.transfer.asks import Ask, Beside, Fill, Open, Rest, Side
from stager.transfer.giving_up import GivingUp
from stager.transfer.growing import GrowingFile
from stager.transfer.means import Means
from stager.transfer.pace import Pace
from stager.transfer.pieces import Beyond
from stager.transfer.plan import TransferPlan
from stager.transfer.spans import Span, Spans
from stager.transfer.streams import Streams
from stager.transfer.transport import Answer, Pulse

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
"""Between two looks of a lead that only waits for the others."""
ROOM_BYTES = 1 << 20
"""What a stream reads at a time: it is slow, and there are several of them."""
SAVE_SECONDS = 5.0
"""How far everybody is is said on disk so often: the bytes have to be there first, which takes the disk a while."""


class Lead(NamedTuple):
    """What the try that leads does for all.

    Attributes:
        pulse: see `transport.Pulse`.
        fill: reads into memory; how many bytes.
        report: told of the bytes in place; raises to give up.
    """

    pulse: Pulse
    fill: Callable[[Answer, memoryview], Generator[Fill, Any, int]]
    report: Callable[[int], None]


class Segments:
    """The streams of one file.

    Args:
        plan: of the try; says what to ask and what fits. Not used otherwise meanwhile.
        file: with the front in place.
        beyond: what is in place beyond it; see `Spans.beyond`.
        streams: says how many there should be.
        means: of the try.
    """

    def __init__(
        self,
        plan: TransferPlan,
        file: GrowingFile,
        beyond: Beyond,
        streams: Streams,
        means: Means,
    ) -> None:
        self._plan = plan
        parts = plan.parts
        assert parts is not None
        assert parts.known.total is not None
        self._parts = parts
        self._file = file
        self._spans = Spans(parts.known.total, file.in_place, beyond)
        self._streams = streams
        self._options = means.options
        self._buffers = means.buffers
        self._clock = means.clock
        self._lock = threading.Lock()
        self._own = 1  # streams of the lead's own: none after its connection broke
        self._beside = 0  # streams besides that of the lead
        self._alone = False  # the lead goes on without others
        self._stopped = False
        self._full: CacheError | None = None  # what a stream beside met that concerns all
        self._saved = self._clock.monotonic()
        self.received = 0
        """Bytes that the streams beside brought."""

    def bring(self, lead: Lead, answer: Answer) -> Generator[Ask, Any, str | None]:
        """Bring the rest of the file; afterwards nobody writes to it any more.

        Args:
            lead: the try.
            answer: its bytes go on at the front.

        Returns:
            Why the origin does not go along, where it does not. If all is not in place without that, the
            connections broke.

        Raises:
            StagerError: as the lead's own stream; or the cache is full.
        """
        self._save()  # before anything is put after a gap: what the sidecar said so far would take that for bytes
        room = self._buffers.take()
        try:
            return (yield from self._lead(lead, answer, room))
        finally:
            self._stopped = True
            interrupt = yield from self._all_ended()
            self._buffers.give(room)
            self._advance()
            if not self._spans.complete:
                self._save()
            if interrupt is not None:
                raise interrupt

    def _all_ended(self) -> Generator[Ask, Any, BaseException | None]:
        """Wait for the streams, also if that is interrupted: the file must not be closed under one that writes.

        Returns:
            What interrupted it.
        """
        interrupt: BaseException | None = None
        ended = False
        while not ended:
            try:
                ended = yield Rest(LOOK_SECONDS, stop=True)
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001 - raised when they have ended
                interrupt = error
        return interrupt

    def _lead(self, lead: Lead, answer: Answer, room: memoryview) -> Generator[Ask, Any, str | None]:
        at = self._spans.front
        try:
            while not self._spans.complete:
                span = self._claim() if self._own else None
                yield from self._recruit()
                if span is None and not self._own and not self._beside:
                    return None
                if span is None:  # the others bring what is left
                    yield Rest(LOOK_SECONDS, stop=False)
                    self._look(lead)
                    continue
                if span.at != at or answer.end is not None:
                    answer.close()
                    answer = yield Open(self._parts.request(span.at, span.stop), lead.pulse)
                    misfit = self._parts.misfit(answer.status, answer.headers, span.at, span.stop)
                    if misfit is not None:
                        return misfit
                while span.left and answer.end is None:
                    count = yield from lead.fill(answer, room[: min(span.left, ROOM_BYTES)])
                    self._put(span, room[:count])
                    self._look(lead)
                at = span.at
                if span.left:
                    self._own = 0
                self._give_up(span)
        finally:
            answer.close()
        return None

    def _recruit(self) -> Generator[Ask, Any, None]:
        """Begin streams as long as more are wanted and the origin may have more connections."""
        while not self._alone and self._beside < self._streams.wanted - self._own:
            with self._lock:
                if not self._spans.unclaimed:
                    return
                self._beside += 1
            if not (yield Beside(self._parts.url, self._stream())):
                with self._lock:
                    self._beside -= 1
                return

    def _look(self, lead: Lead) -> None:
        """Tell of what came since, take a reading if it is time to, and whether all goes well."""
        if self._full is not None:
            raise self._full
        self._advance()
        with self._lock:
            in_place = self._spans.in_place
        now = self._clock.monotonic()
        self._streams.read(now, in_place)
        if now - self._saved >= SAVE_SECONDS:
            self._save()
        lead.report(in_place)

    def _advance(self) -> None:
        """Let the file know how far its front is."""
        with self._lock:
            front = self._spans.front
        self._file.reach(front)

    def _save(self) -> None:
        with self._lock:
            front, beyond = self._spans.front, self._spans.beyond
        self._file.describe(self._plan.sidecar(front, beyond))
        if beyond:
            reached("fetch.saved")
        self._saved = self._clock.monotonic()

    # -- in the thread of any stream --------------------------------------------------------------

    def _claim(self) -> Span | None:
        with self._lock:
            return self._spans.claim(self._streams.block(self._spans.unclaimed))

    def _put(self, span: Span, data: memoryview) -> None:
        self._file.put(span.at, data)
        with self._lock:
            self._spans.wrote(span, len(data))
            ahead = span.start > self._spans.front and bool(data)
        reached("fetch.written")
        if ahead:
            reached("fetch.ahead")

    def _give_up(self, span: Span) -> None:
        with self._lock:
            self._spans.give_up(span)

    # -- a stream beside --------------------------------------------------------------------------

    def _stream(self) -> Side:
        """Bring blocks until there are none left, or this stream does no good."""
        room = self._buffers.take()
        try:
            while self._is_wanted() and (span := self._claim()) is not None:
                try:
                    if not (yield from self._block(span, room)):
                        return
                finally:
                    self._give_up(span)
        except CacheError as error:
            self._full = error
        except StagerError as error:
            log.debug("a stream beside another one ended: %s", error)
            self._alone = True
        finally:
            self._buffers.give(room)
            with self._lock:
                self._beside -= 1

    def _is_wanted(self) -> bool:
        return not self._stopped and not self._alone and self._beside + self._own <= self._streams.wanted

    def _block(self, span: Span, room: memoryview) -> Generator[Open | Fill, Any, bool]:
        """Bring one block; whether another one may follow."""
        giving_up = GivingUp(self._parts.url.text, lambda: self._stopped, self._options, self._clock)
        answer: Answer = yield Open(self._parts.request(span.at, span.stop), giving_up.pulse)
        try:
            misfit = self._parts.misfit(answer.status, answer.headers, span.at, span.stop)
            if misfit is not None:
                log.debug("a stream beside another one was refused: %s", misfit)
                self._alone = True
                return False
            pace = Pace.of(self._options)
            while span.left and answer.end is None:
                filled, seconds = yield Fill(answer, room[: min(span.left, ROOM_BYTES)])
                self._put(span, room[:filled])
                with self._lock:
                    self.received += filled
                giving_up.check_cancelled()
                if pace.waited(seconds, filled) is not None:
                    return False
        finally:
            answer.close()
        return not span.left
