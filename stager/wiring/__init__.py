"""Composition root: settings in, working objects out. Nothing else but the command line reads settings.

Here what fetches without a server; beside it the server, its farms, the places of its jobs, and workers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import lru_cache, partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from stager.cache.store import FileCache
from stager.errors import SettingsError
from stager.farm.base import Fetch
from stager.model.backoff import RetryPolicy
from stager.model.catalogue import DAY
from stager.model.fetches import FetchRequest
from stager.service.batch import Report, fetch_here
from stager.service.fetching import FetchService
from stager.service.spread import fetch_spread
from stager.settings import Settings, current_settings

if TYPE_CHECKING:
    from stager.cache.space import Promises, Space
    from stager.credentials.wallet import Wallet
    from stager.transfer.fetcher import Fetcher
    from stager.transfer.options import TransferOptions
    from stager.transfer.reach import Reach


def build_cache(settings: Settings) -> FileCache:
    """The file cache; its directory is made if need be.

    Raises:
        CacheError: the directory is something else, or can't be used.
    """
    cache = FileCache(settings.cache_dir, shards=settings.shards)
    cache.promise_seconds = settings.result_promise_days * DAY
    if settings.server:
        from stager.wiring.accesses import report_accesses

        report_accesses(settings, cache)
    return cache


@lru_cache(maxsize=1)
def default_cache() -> FileCache:
    """The cache at the configured path, one for the process: `stager.urlcache`."""
    return build_cache(current_settings())


def check_farm_installed() -> None:
    """A farm needs packages that one machine does not.

    Raises:
        SettingsError: they are not there.
    """
    missing = [name for name in ("celery", "redis") if find_spec(name) is None]
    if missing:
        raise SettingsError(
            f"the package {missing[0]} is not installed",
            cause="a farm of Celery workers needs it",
            remedy="pip install 'stager[farm]'",
        )


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


def build_space(settings: Settings, cache: FileCache, promises: Promises | None = None) -> Space:
    """The room of the cache; `promises` are those of this process alone unless given."""
    from stager.cache.space import LocalPromises, Space

    return Space(
        cache.root,
        promises or LocalPromises(),
        keep_free=settings.min_free_bytes,
        keep_free_inodes=settings.min_free_inodes,
        at_most=settings.max_cache_bytes,
    )


def build_fetcher(
    settings: Settings,
    cache: FileCache,
    origin_connections: int | None = None,
    promises: Promises | None = None,
    wallet: Wallet | None = None,
    *,
    alone: bool = True,
) -> Fetcher:
    """Makes tries of fetches, with at most `origin_connections` (by default as set) to one origin.

    `wallet` has the credentials; by default those of this machine. Not `alone`: there are others like it, and all of
    them together are to have so many connections.
    """
    from stager.transfer.fetcher import Fetcher
    from stager.transfer.http import HttpTransport
    from stager.transfer.limited import LimitedTransport
    from stager.transfer.schemes import SchemesTransport
    from stager.wiring.credentials import build_wallet
    from stager.wiring.schemes import other_transports

    connections = origin_connections or settings.origin_connections

    reach = build_reach(settings)
    transport = HttpTransport(
        connections=connections,
        connect_timeout_seconds=settings.connect_timeout_seconds,
        ca_bundle=settings.ca_bundle,
        reach=reach,
        max_head_bytes=settings.max_head_bytes,
    )
    transports = {"http": transport, "https": transport, **other_transports(settings, reach)}
    limited = LimitedTransport(SchemesTransport(transports), connections)
    space = build_space(settings, cache, promises)
    return Fetcher(
        cache,
        limited,
        options=transfer_options(settings, alone=alone),
        space=space,
        wallet=wallet or build_wallet(settings),
    )


def build_reach(settings: Settings) -> Reach:
    """Where fetches may connect to.

    Raises:
        SettingsError: what is said about that makes no sense.
    """
    from stager.transfer.addresses import AddressPolicy
    from stager.transfer.reach import Reach

    return Reach(
        AddressPolicy.of(settings.allowed_networks, settings.allowed_origins, settings.allowed_ports)
    )


def default_fetcher(cache: FileCache) -> Fetcher:
    """What a `FetchService` fetches with that was given nothing else: the site's settings hold."""
    return build_fetcher(current_settings(), cache)


def transfer_options(settings: Settings, *, alone: bool = True) -> TransferOptions:
    """What the site chose about transfers; for `alone` see `build_fetcher`."""
    from stager.transfer.options import TransferOptions

    return TransferOptions(
        read_timeout_seconds=settings.read_timeout_seconds,
        low_speed_bytes_per_second=settings.low_speed_bytes_per_second,
        low_speed_seconds=settings.low_speed_seconds,
        max_redirects=settings.max_redirects,
        unproven=settings.unproven,
        max_file_bytes=settings.max_file_bytes,
        max_fetch_seconds=settings.max_fetch_seconds,
        absent_seconds=settings.absent_seconds,
        html_hosts=settings.html_hosts,
        fresh_min_seconds=settings.fresh_min_seconds,
        fresh_max_seconds=settings.fresh_max_seconds,
        segments=settings.segments or (settings.origin_connections if alone else 1),
    )
