"""The socket, and the loop that answers on it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address

import uvicorn
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from stager.errors import ConflictError, SettingsError
from stager.server.protocol import PatientProtocol

DRAIN_SECONDS = 1
"""Answers that are still being sent at the end have this long."""
BACKLOG = 2048
"""Connections that wait to be taken up."""


def listen_address(listen: str, *, encrypted: bool = False, plain: bool = False) -> str:
    """The address to bind.

    Args:
        listen: what is set.
        encrypted: there is a certificate.
        plain: the site says that others may reach it although there is none.

    Raises:
        SettingsError: it is no address, or others could reach it and nothing is encrypted.
    """
    try:
        address = ip_address("127.0.0.1" if listen == "localhost" else listen.strip("[]"))
    except ValueError:
        raise SettingsError(
            f"can't listen on {listen!r}", cause="it is no address of this machine", remedy="use 127.0.0.1"
        ) from None
    if not address.is_loopback and not encrypted and not plain:
        raise SettingsError(
            f"can't listen on {listen}",
            cause="other machines could reach it, and nothing is encrypted",
            remedy="set tls_certificate and tls_key; or use 127.0.0.1, and reach it through `ssh -L`;"
            " or, behind a proxy that encrypts, set listen_plain",
        )
    return str(address)


def is_network(address: str) -> bool:
    """Whether other machines reach it."""
    return not ip_address(address).is_loopback


def served_names(names: Iterable[str], address: str) -> frozenset[str]:
    """The names in ``Host`` that are the server's own: those that are set, and this host's, if others reach it."""
    own = {socket.gethostname(), socket.gethostname().partition(".")[0]} if is_network(address) else ()
    return frozenset({*names, *own})


def check_users(address: str, *, there_are: bool) -> None:
    """Whether anybody but the server's own administrator could be let in.

    Raises:
        SettingsError: nobody could, and other machines reach it.
    """
    if is_network(address) and not there_are:
        raise SettingsError(
            f"can't listen on {address}",
            cause="other machines could reach it, and no user has a token",
            remedy="start it on 127.0.0.1, `stager user add NAME` and `stager token create --user NAME`",
        )


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


def url_of(listening: socket.socket, *, name: str = "", encrypted: bool = False) -> str:
    """Where the clients of this machine find the server: under `name`, if it has one."""
    host, port = listening.getsockname()[:2]
    if ip_address(host).is_unspecified:
        host = "::1" if ":" in host else "127.0.0.1"
    host = name or (f"[{host}]" if ":" in host else host)
    return f"{'https' if encrypted else 'http'}://{host}:{port}"


class ApiServer(uvicorn.Server):
    """Answers until it is told to stop.

    Args:
        app: made by `create_app`.
        ready: called once requests are answered.
        tls: what encrypts connections; None: nothing does.
    """

    def __init__(self, app: FastAPI, ready: Callable[[], None], tls: ssl.SSLContext | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                http=PatientProtocol,
                ws="none",
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=DRAIN_SECONDS,
            )
        )
        self.config.load()
        self.config.ssl = tls
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
        self._app.state.following.close()
        errands = getattr(self._app.state, "errands", None)
        if errands is not None:
            await run_in_threadpool(errands.close)
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):  # TLS waits for a good-bye that may never come
            connection.transport.abort()
        await asyncio.sleep(0)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: signals are the business of whoever runs the process."""
        yield
