"""The socket, and the loop that answers on it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address

import uvicorn
from fastapi import FastAPI

from stager.errors import ConflictError, SettingsError
from stager.server.sendfile import SendfileProtocol

DRAIN_SECONDS = 1
"""Answers that are still being sent at the end have this long."""
BACKLOG = 2048
"""Connections that wait to be taken up."""


def loopback_address(listen: str) -> str:
    """The address to bind, if only this machine can reach it.

    Raises:
        SettingsError: others could.
    """
    try:
        address = ip_address("127.0.0.1" if listen == "localhost" else listen.strip("[]"))
    except ValueError:
        raise SettingsError(
            f"can't listen on {listen!r}", cause="it is no address of this machine", remedy="use 127.0.0.1"
        ) from None
    if not address.is_loopback:
        raise SettingsError(
            f"can't listen on {listen}",
            cause="other machines could reach it, and there is neither encryption nor more than one user yet",
            remedy="use 127.0.0.1, and reach it from elsewhere through `ssh -L`",
        )
    return str(address)


def open_socket(address: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        ConflictError: the port is taken.
        SettingsError: the address or the port can't be used.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listening = socket.create_server((address, port), family=family, backlog=BACKLOG)
    except OSError as error:
        kind = ConflictError if error.errno == 98 else SettingsError  # noqa: PLR2004
        raise kind(
            f"can't listen on port {port} of {address}",
            cause=error.strerror or str(error),
            remedy="choose another with --port, or 0 for any free one",
        ) from None
    # Connections inherit it. asyncio sets it only on sockets made with an explicit protocol number, and
    # without it each answer waits 40 ms for the client's delayed acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def url_of(listening: socket.socket) -> str:
    """Where clients find the server."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class ApiServer(uvicorn.Server):
    """Answers until it is told to stop.

    Args:
        app: made by `create_app`.
        ready: called once requests are answered.
    """

    def __init__(self, app: FastAPI, ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                http=SendfileProtocol,
                ws="none",
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=DRAIN_SECONDS,
            )
        )
        self._app = app
        self._ready = ready

    def stop(self) -> None:
        """End soon; may be called from any thread, or by a signal."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        self._app.state.waiting.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: signals are the business of whoever runs the process."""
        yield
