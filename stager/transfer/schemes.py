"""One transport for all schemes: each URL is read by the one that knows its scheme."""

from __future__ import annotations

from collections.abc import Mapping

from stager.transfer.decisions import Request
from stager.transfer.transport import Lane, Pulse, Response, Transport


class SchemesTransport:
    """Hands each request to the transport of its scheme.

    Args:
        transports: by scheme; closed with this one.
    """

    def __init__(self, transports: Mapping[str, Transport]) -> None:
        self._transports = transports

    def open(self, request: Request, pulse: Pulse) -> Response:
        """See `Transport.open`."""
        return self._transports[request.url.scheme].open(request, pulse)

    def announce(self, request: Request) -> bool:
        """See `Transport.announce`."""
        return self._transports[request.url.scheme].announce(request)

    def spare(self, origin: str) -> Lane | None:
        """See `Transport.spare`."""
        return self._transports[origin.partition(":")[0]].spare(origin)

    def withdraw(self, url: str) -> None:
        """See `Transport.withdraw`."""
        self._transports[url.partition(":")[0]].withdraw(url)

    def close(self) -> None:
        """See `Transport.close`."""
        for transport in set(self._transports.values()):
            transport.close()
