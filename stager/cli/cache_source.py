"""Whom a cache command asks: the server that looks after that cache, or the files themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from stager.errors import ServerUnreachableError

if TYPE_CHECKING:
    from stager.client import Client
    from stager.client_cache import CacheCalls
    from stager.service.cache_site import CacheSite
    from stager.settings import Settings

S = TypeVar("S")


@contextmanager
def cache_source(
    service: Callable[[CacheSite], S], cache_dir: Path | None = None
) -> Iterator[S | CacheCalls]:
    """A service of the cache, such as ``lambda site: site.files``, or the same calls of the server that runs.

    A server is asked if one runs with this state directory (or is configured as `server`) and looks after
    this cache; otherwise the catalogue of the state directory is opened here, and made if there is none.

    Raises:
        StagerError: neither can be used.
    """
    from stager.settings import load_settings

    settings = load_settings(cache_dir=cache_dir)
    client = server_of(settings, cache_dir)
    if client is not None:
        with client:
            yield client.cache
        return
    from stager.wiring.cache import build_cache_site

    with closing(build_cache_site(settings)) as site:
        yield service(site)


def server_of(settings: Settings, cache_dir: Path | None) -> Client | None:
    """The server that looks after the cache of these settings; None: none runs."""
    from stager.server.whereabouts import announced_cache, announced_url

    if not settings.server and announced_url(settings.state_dir) is None:
        return None
    if settings.server and cache_dir is not None:  # another host's server knows nothing of this directory
        return None
    if not settings.server and announced_cache(settings.state_dir) != str(settings.cache_dir):
        return None
    from stager.cli.connect import client_of

    try:
        return client_of(settings)
    except ServerUnreachableError:
        return None
