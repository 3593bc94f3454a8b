"""Where fetches run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from stager.cache.store import FileCache
from stager.clock import SystemClock
from stager.errors import SignalsError
from stager.farm.base import Emit, Farm
from stager.farm.threads import ThreadFarm
from stager.mapper.ports import Deliver, SignalSource
from stager.model.events import JobSignal
from stager.model.fetches import Signal
from stager.model.records import Position
from stager.settings import Settings
from stager.wiring import build_fetcher

if TYPE_CHECKING:
    from stager.farm.celery import CeleryFarm
    from stager.signals.stream import StreamReader


log = logging.getLogger(__name__)


class Farming(NamedTuple):
    """A farm, and what brings its signals where they come from outside."""

    farm: Farm
    source: SignalSource | None = None


def fetch_seats(settings: Settings) -> int:
    """How many transfers the farm is given at once."""
    return settings.fetch_window if settings.farm == "celery" else settings.fetch_threads


def build_farm(settings: Settings, cache: FileCache, emit: Emit, made: ExitStack) -> Farming:
    """The farm that setting `farm` names; closed with `made`."""
    if settings.farm == "celery":
        return _celery(settings, emit, made)
    fetcher = build_fetcher(settings, cache)
    made.callback(fetcher.close)
    threads = ThreadFarm(fetcher.fetch, emit, size=settings.fetch_threads)
    made.callback(threads.close)
    return Farming(threads)


def _celery(settings: Settings, emit: Emit, made: ExitStack) -> Farming:
    from stager.farm.celery import CeleryFarm, TaskSender
    from stager.signals.fetches import FetchBook
    from stager.signals.stream import StreamReader
    from stager.wiring.redis import node_name, redis_address

    address = redis_address(settings)
    book = FetchBook(address, lease_seconds=settings.lease_seconds)
    farm = CeleryFarm(
        book, TaskSender(address), emit, lease_seconds=settings.lease_seconds, clock=SystemClock()
    )
    made.callback(farm.close)
    reader = StreamReader(
        address,
        server=f"{node_name(settings)}:{settings.state_dir}",
        on_progress=farm.alive,
        on_emptied=farm.emptied,
    )
    made.callback(reader.close)
    try:
        reader.claim()
    except SignalsError as error:  # it may come up later than we do
        log.error("%s; trying again until it can", error)  # noqa: TRY400 - it says all there is
    return Farming(farm, _Heard(reader, farm))


class _Heard:
    """A stream whose signals the farm hears before they are delivered."""

    def __init__(self, reader: StreamReader, farm: CeleryFarm) -> None:
        self._reader = reader
        self._farm = farm

    def start(self, position: Position | None, deliver: Deliver) -> None:
        def hear(signals: Sequence[Signal | JobSignal], at: Position) -> None:
            self._farm.heard(signals)
            deliver(signals, at)

        self._reader.start(position, hear)

    def recorded(self, position: Position) -> None:
        self._reader.recorded(position)
