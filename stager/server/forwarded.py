"""What a trusted proxy says of a request: where it came from, and by which scheme."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from stager.server.origin import address_of

Network = IPv4Network | IPv6Network


class Forwarded:
    """Believes proxies of these networks, and nobody else.

    What comes from one has ``scope["state"]["proxy"]``, and the address and scheme that the proxy met.

    Args:
        app: takes the request.
        networks: where the proxies are.
    """

    def __init__(self, app: ASGIApp, networks: Sequence[Network]) -> None:
        self._app = app
        self._networks = tuple(networks)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http" and self._is_proxy(address_of(scope)):
            scope.setdefault("state", {})["proxy"] = True
            headers = Headers(scope=scope)
            # the last one is what the proxy itself has seen; those before it are what it was told
            last = ",".join(headers.getlist("x-forwarded-for")).rpartition(",")[2].strip()
            if last:
                scope["client"] = (_plain(last), 0)
            if headers.get("x-forwarded-proto", "").strip() in {"http", "https"}:
                scope["scheme"] = headers["x-forwarded-proto"].strip()
        await self._app(scope, receive, send)

    def _is_proxy(self, address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._networks if network.version == found.version)


def _plain(text: str) -> str:
    """The address, if it is one."""
    try:
        return str(ip_address(text.strip("[]")))
    except ValueError:
        return "unknown"
