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
from stager.mapper.ports import Deliver, SignalSource
from stager.model.events import JobSignal
from stager.model.fetches import Signal
from stager.model.records import Position
from stager.settings import Settings
from stager.wiring import check_farm_installed
from stager.wiring.here import aio_farm, process_farm, thread_farm

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


FILES_IN_A_TASK = 32
"""Small files of one origin that go to a Celery worker together: a task costs as much as several of them."""


def files_in_a_seat(settings: Settings) -> int:
    """How many small files of one origin are given out together."""
    return FILES_IN_A_TASK if settings.farm == "celery" else 1


def build_farm(settings: Settings, cache: FileCache, emit: Emit, made: ExitStack) -> Farming:
    """The farm that setting `farm` names; closed with `made`.

    Raises:
        SettingsError: what it needs is not installed.
        ServerBusyError: another server uses the Redis of a Celery farm.
    """
    farm: Farm
    match settings.farm:
        case "celery":
            return _celery(settings, emit, made)
        case "process":
            farm = process_farm(settings, cache, emit)
        case "aio":
            farm = aio_farm(settings, cache, emit)
        case _:
            farm = thread_farm(settings, cache, emit, made)
    made.callback(farm.close)
    return Farming(farm)


def _celery(settings: Settings, emit: Emit, made: ExitStack) -> Farming:
    check_farm_installed()

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
