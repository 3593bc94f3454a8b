"""Objects of a server of ours, read with its token, beside what is read from anywhere else."""

from __future__ import annotations

from stager.model.urls import parse_url
from stager.transfer.decisions import Request
from stager.transfer.transport import Lane, Pulse, Response, Transport


class ServedTransport:
    """Hands requests to one server to a transport of its own, and shows it the token; nobody else is shown it.

    Args:
        server: URL of the server.
        token: to show it.
        served: reads from there; closed with this one.
        otherwise: reads from anywhere else; closed with this one.
    """

    def __init__(self, server: str, token: str, served: Transport, otherwise: Transport) -> None:
        self._origin = parse_url(server).origin
        self._token = token
        self._served = served
        self._otherwise = otherwise

    def open(self, request: Request, pulse: Pulse) -> Response:
        """See `Transport.open`."""
        if request.url.origin != self._origin:
            return self._otherwise.open(request, pulse)
        return self._served.open(self._signed(request), pulse)

    def announce(self, request: Request) -> bool:
        """See `Transport.announce`."""
        if request.url.origin != self._origin:
            return self._otherwise.announce(request)
        return False

    def spare(self, origin: str) -> Lane | None:
        """See `Transport.spare`."""
        if origin != self._origin:
            return self._otherwise.spare(origin)
        lane = self._served.spare(origin)
        if lane is None:
            return None
        return Lane(lambda request, pulse: lane.open(self._signed(request), pulse), lane.leave)

    def withdraw(self, url: str) -> None:
        """See `Transport.withdraw`."""
        self._otherwise.withdraw(url)

    def close(self) -> None:
        """See `Transport.close`."""
        self._served.close()
        self._otherwise.close()

    def _signed(self, request: Request) -> Request:
        return request._replace(headers=request.headers | {"Authorization": f"Bearer {self._token}"})
