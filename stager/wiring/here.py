"""Farms on this machine: threads of the server, its own event loop, or a process of its own."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from stager.cache.store import FileCache
from stager.farm.base import Emit
from stager.settings import Settings
from stager.wiring import build_fetcher, build_reach, build_space, transfer_options
from stager.wiring.credentials import build_wallet

if TYPE_CHECKING:
    from stager.farm.aio import AioFarm
    from stager.farm.process import ProcessFarm
    from stager.farm.side_threads import SideThreads
    from stager.farm.threads import ThreadFarm
    from stager.transfer.aio_fetcher import AioFetcher

FETCH_PROCESS = (sys.executable, "-m", "stager", "fetch-process")


def process_farm(settings: Settings, cache: FileCache, emit: Emit) -> ProcessFarm:
    """A farm in a process of its own, with the same settings."""
    from stager.farm.process import ProcessFarm

    return ProcessFarm(FETCH_PROCESS, settings.model_dump(mode="json"), emit, locate=cache.object_path)


def thread_farm(settings: Settings, cache: FileCache, emit: Emit, made: ExitStack) -> ThreadFarm:
    """A farm on threads of this process; its fetcher is closed with `made`."""
    from stager.farm.threads import ThreadFarm

    fetcher = build_fetcher(settings, cache)
    made.callback(fetcher.close)
    return ThreadFarm(fetcher.fetch, emit, size=settings.fetch_threads)


def aio_farm(settings: Settings, cache: FileCache, emit: Emit) -> AioFarm:
    """A farm in an event loop of this process."""
    from stager.farm.aio import AioFarm
    from stager.transfer.aio import AioTransport
    from stager.transfer.aio_fetcher import AioFetcher
    from stager.wiring.schemes import other_schemes

    reach = build_reach(settings)

    def make(off: SideThreads) -> AioFetcher:
        transport = AioTransport(
            connections=settings.origin_connections,
            connect_timeout_seconds=settings.connect_timeout_seconds,
            ca_bundle=settings.ca_bundle,
            reach=reach,
            max_head_bytes=settings.max_head_bytes,
        )
        space = build_space(settings, cache)
        options = transfer_options(settings)
        others = other_schemes(settings, reach)
        wallet = build_wallet(settings)
        return AioFetcher(
            cache, transport, off.do, options=options, space=space, others=others, wallet=wallet
        )

    return AioFarm(make, emit, size=settings.fetch_threads)
