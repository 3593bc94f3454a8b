"""Where a request came from."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from starlette.types import Scope

_SITE_BITS = 64
"""Of an IPv6 address: what one household or host has."""


def address_of(scope: Scope) -> str:
    """The address of who asks; empty: not known."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def neighbourhood(address: str) -> str:
    """What shares a limit: an IPv4 address, or the network of an IPv6 one."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if found.version == 4:  # noqa: PLR2004
        return address
    return str(ip_network((found, _SITE_BITS), strict=False))
