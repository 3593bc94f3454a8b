"""Runs a try in the thread that calls, which waits for the origin and for the disk in turn."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import cast

from stager.clock import Clock
from stager.model.fetches import FetchResult
from stager.transfer.asks import Beside, Fill, Filled, Open, Side, Steps
from stager.transfer.transport import Lane, Response, Transport

GATHER_SECONDS = 0.1
"""Longest that received bytes wait for more before they are written."""


def run(steps: Steps, transport: Transport, clock: Clock) -> FetchResult:
    """Do what `steps` ask for, to their end; raises what the try ends with."""
    beside: list[threading.Thread] = []
    try:
        ask = next(steps)
        while True:
            try:
                answer: object
                if isinstance(ask, Open | Fill):
                    answer = do(ask, transport, clock)
                elif isinstance(ask, Beside):
                    answer = _begin(ask, transport, clock, beside)
                else:
                    answer = _have_ended(beside, ask.seconds)
            except BaseException as error:  # noqa: BLE001 - the try knows what it means
                ask = steps.throw(error)
            else:
                ask = steps.send(answer)
    except StopIteration as end:
        result: FetchResult = end.value
        return result


def _begin(ask: Beside, transport: Transport, clock: Clock, beside: list[threading.Thread]) -> bool:
    """Do these steps in a thread of their own, if the origin may have one more connection."""
    lane = transport.spare(ask.url.origin)
    if lane is None:
        ask.steps.close()
        return False

    def work() -> None:
        try:
            _work(ask.steps, lane, clock)
        finally:
            lane.leave()

    thread = threading.Thread(target=work, name="stager-beside")
    thread.start()
    beside.append(thread)
    return True


def _work(steps: Side, lane: Lane, clock: Clock) -> None:
    with suppress(StopIteration):
        ask = next(steps)
        while True:
            try:
                answer = lane.open(*ask) if isinstance(ask, Open) else _fill(ask, clock)
            except BaseException as error:  # noqa: BLE001 - the steps know what it means
                ask = steps.throw(error)
            else:
                ask = steps.send(answer)


def _have_ended(beside: list[threading.Thread], seconds: float) -> bool:
    """Whether they all have, within so many seconds."""
    until = time.monotonic() + seconds
    for thread in beside:
        thread.join(max(0.0, until - time.monotonic()))
    return not any(thread.is_alive() for thread in beside)


def do(ask: Open | Fill, transport: Transport, clock: Clock) -> Response | Filled:
    """What a try asks for, waited for in this thread."""
    return transport.open(*ask) if isinstance(ask, Open) else _fill(ask, clock)


def _fill(ask: Fill, clock: Clock) -> Filled:
    response, room = cast("Response", ask.answer), ask.room  # it came from our transport
    began = now = clock.monotonic()
    filled = 0
    while filled < len(room) and now - began < GATHER_SECONDS:
        count = response.readinto(room[filled:])
        now = clock.monotonic()
        if not count:
            break
        filled += count
    return Filled(filled, now - began)
