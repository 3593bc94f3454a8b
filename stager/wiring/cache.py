"""The cache with its catalogue and its services, put together as the settings say."""

from __future__ import annotations

from stager.cache.store import FileCache
from stager.clock import Clock, SystemClock
from stager.service.cache_catalogue import CatalogueService
from stager.service.cache_pins import PinService
from stager.service.cache_site import CacheSite
from stager.settings import Settings
from stager.state.catalogue import Catalogue
from stager.wiring import build_cache

__all__ = ["CacheSite", "build_cache_site", "catalogue_url"]


def catalogue_url(settings: Settings) -> str:
    """Where the catalogue is: a file of its own in the state directory, or the server's PostgreSQL."""
    if settings.database_url and not settings.database_url.startswith("sqlite"):
        return settings.database_url
    return f"sqlite:///{settings.state_dir / 'catalogue.db'}"


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
        cache, catalogue, build_catalogue_service(cache, catalogue, clock), PinService(cache, clock)
    )


def build_catalogue_service(cache: FileCache, catalogue: Catalogue, clock: Clock) -> CatalogueService:
    """What there is in the cache."""
    return CatalogueService(cache, catalogue, clock)
