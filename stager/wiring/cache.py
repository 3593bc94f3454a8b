"""The cache with its catalogue and its services, put together as the settings say."""

from __future__ import annotations

import os
from pathlib import Path

from stager.cache.store import FileCache
from stager.cache.walk import TreeReader
from stager.clock import Clock, SystemClock
from stager.service.cache_accesses import AccessService
from stager.service.cache_catalogue import CatalogueService
from stager.service.cache_content import ContentService
from stager.service.cache_feed import CatalogueFeed
from stager.service.cache_pins import PinService
from stager.service.cache_site import CacheSite
from stager.service.cache_verify import VerifyService
from stager.settings import Settings
from stager.state.catalogue import Catalogue
from stager.state.snapshot import catalogue_path
from stager.state.store import Store
from stager.wiring import build_cache
from stager.wiring.eviction import build_eviction_service

__all__ = ["CacheSite", "build_cache_site", "catalogue_url"]


def catalogue_url(settings: Settings) -> str:
    """Where the catalogue is: a file of its own in the state directory, or the server's PostgreSQL."""
    file = catalogue_file(settings)
    return settings.database_url if file is None else f"sqlite:///{file}"


def catalogue_file(settings: Settings) -> Path | None:
    """The file of the catalogue, which may not exist; None: it is in PostgreSQL."""
    if settings.database_url and not settings.database_url.startswith("sqlite"):
        return None
    return Path(catalogue_path(str(settings.state_dir), cache_root(settings)))


def cache_root(settings: Settings) -> str:
    """The root of the cache as the cache itself has it."""
    return os.path.abspath(settings.cache_dir)  # noqa: PTH100 - without following links, as `open_tree` does


def build_cache_site(
    settings: Settings, cache: FileCache | None = None, clock: Clock | None = None
) -> CacheSite:
    """The cache (`cache`, if it is open already) with its catalogue and its services; to be closed.

    Raises:
        CacheError: the cache can't be used.
        StateError: the catalogue can't be opened.
    """
    clock = clock or SystemClock()
    cache = cache or build_cache(settings)
    catalogue = Catalogue(catalogue_url(settings), cache.root)
    return CacheSite(
        cache,
        catalogue,
        build_catalogue_service(settings, cache, catalogue, clock),
        PinService(cache, clock),
        VerifyService(cache, catalogue, clock, settings.state_dir),
        AccessService(cache, clock),
        build_eviction_service(settings, cache, catalogue, clock),
        ContentService(cache, catalogue, clock),
    )


def build_feed(settings: Settings, site: CacheSite, store: Store, clock: Clock) -> CatalogueFeed:
    """What keeps the catalogue up in a server; it hears of accesses by itself."""
    feed = CatalogueFeed(
        TreeReader(site.cache.root, site.cache.tree.id),
        site.catalogue,
        site.cache.access,
        store.fetches,
        clock,
        every_seconds=settings.keeper_seconds,
    )
    site.cache.access.told = site.accesses.told = feed.accessed
    return feed


def build_catalogue_service(
    settings: Settings, cache: FileCache, catalogue: Catalogue, clock: Clock
) -> CatalogueService:
    """What there is in the cache."""
    reader = TreeReader(cache.root, cache.tree.id)
    return CatalogueService(
        cache,
        catalogue,
        reader,
        clock,
        max_cache_bytes=settings.max_cache_bytes,
        max_used_percent=settings.max_used_percent,
    )
