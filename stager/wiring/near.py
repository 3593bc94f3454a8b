"""A node's own cache, put together as the settings say."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

from stager.cache.store import FileCache
from stager.clock import SystemClock
from stager.errors import SettingsError, StagerError
from stager.model.urls import parse_web_url
from stager.service.near import NearCache
from stager.settings import Settings
from stager.wiring import build_reach, build_space, retry_policy, transfer_options
from stager.wiring.away import Server
from stager.wiring.cache import build_cache_site
from stager.wiring.names import node_name

if TYPE_CHECKING:
    from stager.transfer.fetcher import Fetcher
    from stager.transfer.transport import Transport

_ANYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def build_near(
    settings: Settings, made: ExitStack, told: Callable[[Sequence[str]], None] = lambda _: None
) -> NearCache:
    """The node's own cache, filled from where `node_sources` say; closed with `made`.

    Args:
        settings: with `node_cache_dir`.
        made: closes it.
        told: told of the objects that are new there.

    Raises:
        CacheError: it can't be used.
        SettingsError: a source lacks what it needs.
    """
    if {"server", "origin"} & set(settings.node_sources) and not settings.server:
        raise SettingsError(
            f"setting node_sources = {', '.join(settings.node_sources)}",
            cause="it is not said which server",
            remedy="set server to its URL",
        )
    own = settings.model_copy(
        update={
            "cache_dir": Path(settings.node_cache_dir).expanduser().absolute(),
            "max_cache_bytes": settings.node_cache_bytes,
            "database_url": "",
            "protected": (),
            "owner_quotas": {},
            "owner_quota_bytes": 0,
        }
    )
    clock = SystemClock()
    site = build_cache_site(own, FileCache(own.cache_dir), clock)
    fetcher = _fetcher(own, settings, site.cache)
    made.callback(fetcher.close)
    near = NearCache(
        site,
        fetcher.fetch,
        _places(settings),
        settings.state_dir / "nodes" / node_name(settings) / "near",
        retry=retry_policy(settings),
        told=told,
        every_seconds=settings.keeper_seconds,
    )
    made.callback(near.close)
    return near


def build_server(settings: Settings, cache: FileCache) -> Server:
    """The server, for a node that does not see its cache.

    Raises:
        SettingsError: it is not said where it is, or there is no token to show it.
    """
    if not settings.server or "share" in settings.node_sources or not settings.node_sources:
        raise SettingsError(
            "setting node_share = false",
            cause="inputs come from the server then, and results go there",
            remedy="set server to its URL, and node_sources = server",
        )
    return Server(settings.server, _token(settings), cache)


def _fetcher(own: Settings, settings: Settings, cache: FileCache) -> Fetcher:
    from stager.transfer.addresses import AddressPolicy, Ports
    from stager.transfer.fetcher import Fetcher
    from stager.transfer.http import HttpTransport
    from stager.transfer.limited import LimitedTransport
    from stager.transfer.local import FileTransport
    from stager.transfer.reach import Reach
    from stager.transfer.schemes import SchemesTransport
    from stager.transfer.served import ServedTransport

    def http(reach: Reach) -> HttpTransport:
        return HttpTransport(
            connections=settings.origin_connections,
            connect_timeout_seconds=settings.connect_timeout_seconds,
            ca_bundle=settings.ca_bundle,
            reach=reach,
            max_head_bytes=settings.max_head_bytes,
        )

    web: Transport = http(build_reach(settings))
    if "server" in settings.node_sources:
        url = parse_web_url(settings.server)
        there = http(Reach(AddressPolicy(_ANYWHERE, ports=Ports(str(url.port)))))  # the site named it
        web = ServedTransport(settings.server, _token(settings), there, web)
    share = FileTransport([settings.cache_dir / "objects"])
    transport = LimitedTransport(
        SchemesTransport({"file": share, "http": web, "https": web}), settings.origin_connections
    )
    return Fetcher(cache, transport, options=transfer_options(settings), space=build_space(own, cache))


def _places(settings: Settings) -> Callable[[str], Sequence[str]]:
    share = FileCache(settings.cache_dir) if "share" in settings.node_sources else None

    def places(sha256: str) -> list[str]:
        found: list[str] = []
        for source in settings.node_sources:
            if source == "share" and share is not None:
                found.append(share.object_path(sha256).as_uri())
            elif source == "server":
                found.append(f"{settings.server.rstrip('/')}/v1/objects/{sha256}")
            else:
                found += _origin(settings, sha256)
        return found

    return places


def _origin(settings: Settings, sha256: str) -> list[str]:
    """The URL that the server had it from, if it may be known."""
    from stager.client import Client

    try:
        with Client(settings.server, _token(settings)) as client:
            url = client.cache.show(sha256).url
    except StagerError:
        return []
    return [url] if url is not None and "***" not in url else []


def _token(settings: Settings) -> str:
    path = Path(settings.token_file).expanduser() if settings.token_file else settings.state_dir / "token"
    try:
        return os.environ.get("STAGER_TOKEN") or path.read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"token file {path} can't be read",
            cause=str(error),
            remedy="copy the server's there, or set token_file, or STAGER_TOKEN",
        ) from None
