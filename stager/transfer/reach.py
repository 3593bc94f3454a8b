"""From a host's name to the addresses that may be connected to: resolved once, each one checked.

What comes out is connected to as it is; nobody resolves the name a second time, so there is no second answer that
could be another one. If one of several addresses is refused the host is: a name that points inside and outside at
once is a mistake or an attack, and which of its addresses were meant is a guess.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, NamedTuple

from stager.errors import AddressRefusedError
from stager.model.urls import Url
from stager.transfer.addresses import AddressPolicy, Refusal


class Place(NamedTuple):
    """A checked address, as the socket interface names it."""

    family: int
    address: tuple[Any, ...]
    """Begins with the address as text, and the port."""


Resolve = Callable[[str, int], list[Place]]
"""All addresses of a host, in the order in which they are to be tried. It blocks; raises OSError if there are none."""


class RefusedError(Exception):
    """A host that may not be reached; several fetches may be told the same one."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.cause)
        self.refusal = refusal

    def of(self, url: Url) -> AddressRefusedError:
        """The permanent error of a fetch of `url`."""
        refusal = self.refusal
        return AddressRefusedError(
            f"{url.redacted} may not be fetched",
            cause=refusal.cause,
            remedy=f"if it is meant to be read, whoever runs this site adds to the settings: {refusal.setting}",
            url=url.redacted,
            host=refusal.host,
            address=str(refusal.address),
            port=refusal.port,
        )


def system_resolver(host: str, port: int) -> list[Place]:
    """What the system says: its hosts file, DNS, and whatever else it is set to ask."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(Place(family, address) for family, _, _, _, address in found))


class Reach:
    """Resolves and checks.

    Args:
        policy: what is allowed; by default what is public.
        resolve: asked once for each new connection.
    """

    def __init__(self, policy: AddressPolicy | None = None, resolve: Resolve = system_resolver) -> None:
        self.policy = policy or AddressPolicy()
        self._resolve = resolve

    def places(self, host: str, port: int, own: int = 0) -> list[Place]:
        """Where `host` (as in a URL) may be connected to; blocks while the name is resolved.

        `own` is the port of a scheme beside HTTP, which is open to it.

        Raises:
            RefusedError: an address of it, or the port, is not allowed.
            OSError: it has no address.
        """
        places = self._resolve(host.removeprefix("[").removesuffix("]"), port)
        for place in places:
            refusal = self.policy.refusal(host, ip_address(place.address[0]), port, own)
            if refusal is not None:
                raise RefusedError(refusal)
        return places

    def connect(self, host: str, port: int, timeout: float | None) -> socket.socket:
        """A connection to the first of its places that takes one, within `timeout` seconds each.

        Raises:
            RefusedError, OSError: as `places`; or none can be connected to.
        """
        error: OSError | None = None
        for place in self.places(host, port):
            sock = socket.socket(place.family, socket.SOCK_STREAM)
            try:
                sock.settimeout(timeout)
                sock.connect(place.address)
            except OSError as failed:
                sock.close()
                error = failed
            except BaseException:
                sock.close()
                raise
            else:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return sock
        raise error or socket.gaierror(socket.EAI_NONAME, "it has no address")
