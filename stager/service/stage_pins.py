"""Pins what stage requests brought, and takes those pins away: file by file, beside the mapper."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

from stager import steps
from stager.clock import Clock
from stager.errors import CacheError, NotFoundError, StagerError
from stager.mapper.loop import Mapper
from stager.mapper.machine import Machine
from stager.mapper.stages import PinOrder, order_of
from stager.model.backoff import outage_wait
from stager.model.pins import pin_id
from stager.model.records import Changes
from stager.service.cache_pins import PinService
from stager.state.stages import StageStore

log = logging.getLogger(__name__)

TOGETHER = 256
"""Pins that are told to the mapper, and so recorded, in one go."""
LONGEST_WAIT_SECONDS = 30.0
"""Between two attempts to write to a cache that refuses."""
ANSWER_SECONDS = 60.0
REASON = "staged"
Told = Callable[[Machine, float], None]


class StagePins:
    """One thread, which carries out what follows from durable changes (`tell`), in their order.

    All of it may be done again: after a restart, and after an outage of the database, what is not known to be
    done is ordered anew.

    Args:
        mapper: is told what came of it.
        pins: of the cache.
        store: where deleted requests are removed from.
        clock: the time.
    """

    def __init__(self, mapper: Mapper, pins: PinService, store: StageStore, clock: Clock) -> None:
        self._mapper = mapper
        self._pins = pins
        self._store = store
        self._clock = clock
        self._orders: SimpleQueue[PinOrder | None] = SimpleQueue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stage-pins", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End; what is left is ordered anew by the next start."""
        self._closed.set()
        self._orders.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def tell(self, changes: Changes) -> None:
        """Take in what is durable; returns at once."""
        for file in changes.staged:
            order = order_of(file)
            if order is not None:
                self._orders.put(order)

    # -- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closed.is_set():
            order = self._orders.get()
            orders = [order, *self._more()]
            told = [
                self._carry_out(order) for order in orders if order is not None and not self._closed.is_set()
            ]
            try:
                self._tell([one for one in told if one is not None])
                if any(order is not None and not order.take for order in orders):
                    self._store.sweep()
            except (StagerError, TimeoutError) as error:  # ordered anew when the database is back
                log.info("pins of stage requests can't be recorded: %s", error)
            except Exception:
                log.exception("internal fault while pinning what was staged")

    def _more(self) -> list[PinOrder | None]:
        found: list[PinOrder | None] = []
        while len(found) < TOGETHER:
            try:
                found.append(self._orders.get_nowait())
            except Empty:
                break
        return found

    def _tell(self, told: Sequence[Told]) -> None:
        if told and not self._closed.is_set():

            def tell_all(machine: Machine, now: float) -> None:
                for one in told:
                    one(machine, now)

            self._mapper.repair(tell_all).result(ANSWER_SECONDS)

    def _carry_out(self, order: PinOrder) -> Told | None:
        """Do it, however long the cache refuses; what the mapper is to be told."""
        failures = 0
        while not self._closed.is_set():
            try:
                return self._once(order)
            except CacheError as error:
                failures += 1
                if order.take and not error.transient:
                    return _failed(order, error)
                wait = outage_wait(failures, 1.0, LONGEST_WAIT_SECONDS)
                log.error("%s; trying again in %.0f s", error, wait)  # noqa: TRY400 - it says all there is
                self._closed.wait(wait)
        return None

    def _once(self, order: PinOrder) -> Told:
        if not order.take:
            self._pins.release(order.sha256, pin_id(order.holder, order.key))
            steps.reached("stage.unpinned")
            return lambda machine, _: machine.stages.unpinned(order.file)
        if order.until is not None and order.until <= self._clock.time():
            return _pinned(order)  # its time is up already: nobody looked for so long
        try:
            self._pins.hold_object(order.key, order.sha256, order.holder, REASON, order.until)
        except NotFoundError:
            return _lost(order)
        steps.reached("stage.pinned")
        return _pinned(order)


def _pinned(order: PinOrder) -> Told:
    return lambda machine, now: machine.stages.pinned(order.file, order.sha256, now)


def _failed(order: PinOrder, error: CacheError) -> Told:
    return lambda machine, now: machine.stages.failed(order.file, error, now)


def _lost(order: PinOrder) -> Told:
    def tell(machine: Machine, now: float) -> None:
        fetch = machine.stages.lost(order.file, now)
        if fetch is not None:
            machine.lose(fetch)

    return tell
