"""Where fetches run."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from stager.cache.store import FileCache
from stager.clock import SystemClock
from stager.farm.base import Emit, Farm
from stager.settings import Settings
from stager.wiring.here import aio_farm, process_farm, thread_farm

if TYPE_CHECKING:
    from stager.farm.celery import CeleryFarm
    from stager.wiring.hearing import Hearing


def fetch_seats(settings: Settings) -> int:
    """How many transfers the farm is given at once."""
    return settings.fetch_window if settings.farm == "celery" else settings.fetch_threads


FILES_IN_A_TASK = 32
"""Small files of one origin that go to a Celery worker together: a task costs as much as several of them."""


def files_in_a_seat(settings: Settings) -> int:
    """How many small files of one origin are given out together."""
    return FILES_IN_A_TASK if settings.farm == "celery" else 1


def build_farm(
    settings: Settings, cache: FileCache, emit: Emit, hearing: Hearing | None, made: ExitStack
) -> Farm:
    """The farm that setting `farm` names; closed with `made`. One of Celery workers is heard by `hearing`.

    Raises:
        SettingsError: what it needs is not installed.
    """
    farm: Farm
    match settings.farm:
        case "celery":
            assert hearing is not None
            farm = _celery(settings, cache, emit, hearing)
        case "process":
            farm = process_farm(settings, cache, emit)
        case "aio":
            farm = aio_farm(settings, cache, emit)
        case _:
            farm = thread_farm(settings, cache, emit, made)
    made.callback(farm.close)
    return farm


def _celery(settings: Settings, cache: FileCache, emit: Emit, hearing: Hearing) -> CeleryFarm:
    from stager.farm.celery import CeleryFarm
    from stager.farm.tasks import TaskSender
    from stager.signals.fetches import FetchBook
    from stager.wiring.redis import redis_address

    address = redis_address(settings)
    book = FetchBook(address, lease_seconds=settings.lease_seconds)
    farm = CeleryFarm(
        book,
        TaskSender(address),
        emit,
        lease_seconds=settings.lease_seconds,
        clock=SystemClock(),
        locate=cache.object_path,
    )
    hearing.farm = farm
    return farm
