"""Composition root: settings in, working objects out. Nothing else but the command line reads settings."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Self

from stager.cache.store import FileCache
from stager.clock import SystemClock
from stager.farm.base import Fetch
from stager.farm.threads import ThreadFarm
from stager.model.backoff import RetryPolicy
from stager.model.fetches import FetchRequest
from stager.service.batch import Report, fetch_here
from stager.service.fetching import FetchService
from stager.service.spread import fetch_spread
from stager.settings import Settings, current_settings

if TYPE_CHECKING:
    from stager.transfer.fetcher import Fetcher
    from stager.transfer.options import TransferOptions


def build_cache(settings: Settings) -> FileCache:
    """The file cache; its directory is made if need be.

    Raises:
        CacheError: the directory is something else, or can't be used.
    """
    return FileCache(settings.cache_dir, shards=settings.shards)


@lru_cache(maxsize=1)
def default_cache() -> FileCache:
    """The cache at the configured path, one for the process: `stager.urlcache`."""
    return build_cache(current_settings())


def retry_policy(settings: Settings) -> RetryPolicy:
    """How fetches are tried again."""
    return RetryPolicy(
        attempts=settings.retry_attempts,
        first_seconds=settings.retry_first_seconds,
        longest_seconds=settings.retry_longest_seconds,
        deadline_seconds=settings.retry_deadline_seconds,
    )


def build_fetch_service(settings: Settings, fetch: Fetch) -> FetchService:
    """Fetches on threads of this process; `fetch` is one try (see `build_fetcher`)."""
    return FetchService(
        fetch=fetch,
        threads=settings.fetch_threads,
        origin_connections=settings.origin_connections,
        retry=retry_policy(settings),
    )


MANY = 32
"""Files from which on forking processes pays."""


def fetch_all(
    settings: Settings,
    cache: FileCache,
    requests: Sequence[FetchRequest],
    *,
    progress: bool,
    tick: Callable[[], None],
) -> Generator[Report, None, None]:
    """Fetch all, in the way that is fastest for so many: few on threads, many in processes."""
    processes = settings.fetch_processes or settings.cores
    if len(requests) > MANY and processes > 1 and threading.active_count() == 1:
        import stager.transfer.fetcher
        import stager.transfer.http  # noqa: F401 - once, before the fork

        yield from fetch_spread(
            partial(build_fetcher, settings, cache),
            requests,
            processes=processes,
            origin_connections=settings.origin_connections,
            retry=retry_policy(settings),
            progress=progress,
            tick=tick,
        )
    else:
        with closing(build_fetcher(settings, cache)) as fetcher:
            yield from fetch_here(build_fetch_service(settings, fetcher.fetch), requests, tick)


def build_fetcher(settings: Settings, cache: FileCache, origin_connections: int | None = None) -> Fetcher:
    """Makes tries of fetches over HTTP, with at most `origin_connections` (by default as set) to one origin."""
    from stager.transfer.fetcher import Fetcher
    from stager.transfer.http import HttpTransport
    from stager.transfer.limited import LimitedTransport

    connections = origin_connections or settings.origin_connections

    transport = HttpTransport(
        connections=connections,
        connect_timeout_seconds=settings.connect_timeout_seconds,
        ca_bundle=settings.ca_bundle,
    )
    limited = LimitedTransport(transport, connections)
    return Fetcher(cache, limited, options=transfer_options(settings))


def default_fetcher(cache: FileCache) -> Fetcher:
    """What a `FetchService` fetches with that was given nothing else: the site's settings hold."""
    return build_fetcher(current_settings(), cache)


def transfer_options(settings: Settings) -> TransferOptions:
    """What the site chose about transfers."""
    from stager.transfer.options import TransferOptions

    return TransferOptions(
        read_timeout_seconds=settings.read_timeout_seconds,
        low_speed_bytes_per_second=settings.low_speed_bytes_per_second,
        low_speed_seconds=settings.low_speed_seconds,
        max_redirects=settings.max_redirects,
        unproven=settings.unproven,
        fresh_min_seconds=settings.fresh_min_seconds,
        fresh_max_seconds=settings.fresh_max_seconds,
    )


class JobServer:
    """A job server in this process: its threads run from `start` (or ``with``) to `close`.

    Args:
        settings: where everything is and how much of it may run at once.

    Raises:
        ServerBusyError: another server uses the state directory.
        CacheError, StateError: the cache or the database can't be used.
    """

    def __init__(self, settings: Settings) -> None:
        from stager.mapper.admission import Admission
        from stager.mapper.dispatch.local import LocalDispatcher
        from stager.mapper.loop import Mapper
        from stager.mapper.machine import Machine
        from stager.service.ids import IdMaker
        from stager.service.jobs import JobService
        from stager.service.watch import Watch
        from stager.state.lock import StateLock
        from stager.state.store import Store

        clock = SystemClock()
        ids = IdMaker(clock)
        slots = settings.job_slots or settings.cores
        with ExitStack() as made:
            lock = StateLock(settings.state_dir)
            made.callback(lock.close)
            self.cache = build_cache(settings)
            store = Store(settings.database_url or f"sqlite:///{settings.state_dir / 'stager.db'}")
            made.callback(store.close)
            fetcher = build_fetcher(settings, self.cache)
            made.callback(fetcher.close)

            def new_machine() -> Machine:
                admission = Admission(slots=settings.fetch_threads, per_origin=settings.origin_connections)
                return Machine(admission, retry_policy(settings), job_slots=slots, fetch_ids=ids)

            watch = Watch()
            self._mapper = Mapper(new_machine, store, clock=clock, jitter=random.random, on_change=watch.tell)
            self._dispatcher = LocalDispatcher(
                self.cache,
                settings.state_dir / "runs",
                self._mapper.job_signal,
                grace_seconds=settings.job_grace_seconds,
            )
            made.callback(self._dispatcher.close)
            self._farm = ThreadFarm(fetcher.fetch, self._mapper.fetch_signal, size=settings.fetch_threads)
            made.callback(self._farm.close)
            made.callback(self._mapper.stop)
            self.jobs = JobService(self.cache, store, self._mapper, watch, clock=clock, ids=ids)
            self._made = made.pop_all()

    def start(self) -> None:
        """Go on with what is not over, and take commands."""
        self.cache.sweep()
        self._mapper.start(self._farm, self._dispatcher)

    def close(self) -> None:
        """Stop. Transfers are broken off and resumed by the next start; jobs go on running meanwhile."""
        self._made.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
