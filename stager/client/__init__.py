"""The API's client: the same calls as those of the services, over HTTP.

Each call is written once, without I/O, as a conversation (`stager.client.talk`); `Client` holds it over requests,
`AsyncClient` (which needs the extra ``async``) over aiohttp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stager.client.sync import Client, open_remote

if TYPE_CHECKING:
    from stager.client.aio import AsyncClient

__all__ = ["AsyncClient", "Client", "open_remote"]


def __getattr__(name: str) -> Any:
    if name != "AsyncClient":
        raise AttributeError(f"module 'stager.client' has no attribute {name!r}")
    try:
        from stager.client.aio import AsyncClient
    except ImportError as error:
        from stager.errors import SettingsError

        raise SettingsError(
            f"the package {error.name} is not installed",
            cause="the asynchronous client needs it",
            remedy="pip install 'stager[async]'",
        ) from None
    return AsyncClient
