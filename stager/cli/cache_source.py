"""Whom a cache command asks: the server that looks after that cache, or the files themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from stager.errors import ServerUnreachableError

if TYPE_CHECKING:
    from stager.client import Client
    from stager.client.cache import CacheCalls
    from stager.client.talk import Blocking
    from stager.service.cache_site import CacheSite
    from stager.settings import Settings

S = TypeVar("S")


@contextmanager
def cache_source(
    service: Callable[[CacheSite], S], cache_dir: Path | None = None, *, filled: bool = False
) -> Iterator[S | CacheCalls[Blocking]]:
    """A service of the cache, such as ``lambda site: site.files``, or the same calls of the server that runs.

    A server is asked if one runs with this state directory (or is configured as `server`) and looks after
    this cache; otherwise the catalogue of the state directory is opened here, and made if there is none. A cache
    that a server has used, and that is not there now, is not made anew.

    Args:
        service: which one.
        cache_dir: root of the cache, if it was named.
        filled: the catalogue is needed: one that was never read off the tree is, first.

    Raises:
        StagerError: neither can be used.
    """
    settings = cache_settings(cache_dir)
    client = server_of(settings, cache_dir)
    if client is not None:
        with client:
            yield client.cache
        return
    from stager.wiring.cache import build_cache_site
    from stager.wiring.known_cache import check_known_cache

    check_known_cache(settings)
    with closing(build_cache_site(settings)) as site:
        if filled and site.catalogue.walked_at is None:
            from stager.cli.cache_rebuild import fill

            fill(site.files)
        yield service(site)


def cache_settings(cache_dir: Path | None) -> Settings:
    """The settings for the cache at `cache_dir`; the server's database is for the configured cache alone."""
    from stager.settings import load_settings

    settings = load_settings(cache_dir=cache_dir)
    if cache_dir is not None and settings.database_url and settings.cache_dir != load_settings().cache_dir:
        return settings.model_copy(update={"database_url": ""})
    return settings


def server_of(settings: Settings, cache_dir: Path | None) -> Client | None:
    """The server that looks after the cache of these settings; None: none runs."""
    from stager.server.whereabouts import announced_cache
    from stager.wiring.cache import cache_root

    if settings.server:
        if cache_dir is not None:  # another host's server knows nothing of this directory
            return None
    elif announced_cache(settings.state_dir) != cache_root(settings):
        return None
    from stager.cli.connect import client_of

    try:
        return client_of(settings)
    except ServerUnreachableError:
        return None
