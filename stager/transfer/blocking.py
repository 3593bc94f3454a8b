"""Runs a try in the thread that calls, which waits for the origin and for the disk in turn."""

from __future__ import annotations

from typing import cast

from stager.clock import Clock
from stager.model.fetches import FetchResult
from stager.transfer.asks import Fill, Filled, Open, Steps
from stager.transfer.transport import Response, Transport

GATHER_SECONDS = 0.1
"""Longest that received bytes wait for more before they are written."""


def run(steps: Steps, transport: Transport, clock: Clock) -> FetchResult:
    """Do what `steps` ask for, to their end; raises what the try ends with."""
    try:
        ask = next(steps)
        while True:
            try:
                answer = do(ask, transport, clock)
            except BaseException as error:  # noqa: BLE001 - the try knows what it means
                ask = steps.throw(error)
            else:
                ask = steps.send(answer)
    except StopIteration as end:
        result: FetchResult = end.value
        return result


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
