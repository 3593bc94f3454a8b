"""``stager serve``: the main server."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from stager.cli import output
from stager.cli.options import AllowedNetworks, AsJson, CacheDir
from stager.cli.standby import server_in_turn
from stager.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from stager.server.authentication import Admittance
    from stager.server.tls import Certificate
    from stager.service.accounts import AccountService
    from stager.settings import Settings

Listen = Annotated[
    str | None,
    typer.Option(
        "--listen", metavar="ADDRESS", help="Address to listen on; by default only this machine reaches it."
    ),
]
RestartAfter = Annotated[
    str | None,
    typer.Option(
        "--restart-after",
        metavar="TIME",
        help="Stop and begin anew, in the same process, each time that so long has passed (24h; a tenth more or less).",
    ),
]
Standby = Annotated[
    bool,
    typer.Option("--standby", help="While another server is at work, wait, and take over when it is gone."),
]
Port = Annotated[int | None, typer.Option("--port", metavar="N", help="Port to listen on; 0: any free one.")]


def serve(
    listen: Listen = None,
    port: Port = None,
    cache_dir: CacheDir = None,
    allowed_networks: AllowedNetworks = None,
    restart_after: RestartAfter = None,
    standby: Standby = False,
    as_json: AsJson = False,
) -> None:
    """Run the server: API, job mapper and transfers, until Ctrl-C or SIGTERM.

    It can be killed at any moment: the next start goes on where it ended. Jobs that run meanwhile go on
    running. A second Ctrl-C ends it at once.
    """
    from stager.cli.connect import logging_to_stderr, token_path
    from stager.clock import SystemClock
    from stager.metrics import Metrics
    from stager.server.app import create_app
    from stager.server.bytes import Accelerator
    from stager.server.collector import tune_collector
    from stager.server.listen import (
        ApiServer,
        check_users,
        is_network,
        listen_address,
        open_socket,
        served_names,
        url_of,
    )
    from stager.server.pages.sessions import Sessions
    from stager.server.supervision import Inherited, PlannedRestart, watched
    from stager.server.tls import Certificate
    from stager.server.whereabouts import announced, notify
    from stager.settings import load_settings
    from stager.wiring.server import JobServer

    lifetime = _lifetime(restart_after)
    settings = load_settings(listen=listen, port=port, cache_dir=cache_dir, allowed_networks=allowed_networks)
    encrypted = bool(settings.tls_certificate or settings.tls_key)
    given = Inherited()
    where = settings.listen if given.socket is None else str(given.socket.getsockname()[0])
    address = listen_address(where, encrypted=encrypted, plain=settings.listen_plain)
    certificate = Certificate(settings.tls_certificate, settings.tls_key) if encrypted else None
    with logging_to_stderr(settings.log_level, settings.log_format), ExitStack() as running:
        metrics = Metrics()
        server = server_in_turn(
            lambda: JobServer(settings, metrics=metrics), waits=standby, step_aside=given.give_up
        )
        if server is None:
            return
        running.callback(server.close)
        admitted = admittance(settings, server.accounts)
        check_users(address, there_are=admitted.lets_others_in or server.accounts.let_somebody_in)
        token = _own_token(token_path(settings))
        listening = running.enter_context(given.socket or open_socket(address, given.port or settings.port))
        url = url_of(listening, name=next(iter(settings.host_names), ""), encrypted=encrypted)

        def ready() -> None:
            if as_json:
                output.json_line({"url": url, "pid": os.getpid()})
            output.note(f"ready at {url}")
            notify("READY=1")

        app = create_app(
            server.jobs,
            token,
            hosts=served_names(settings.host_names, address),
            any_address=is_network(address),
            runs=server.runs,
            uploads=server.uploads,
            site=server.site,
            cache=server.cache_site,
            stages=server.stages,
            credentials=server.credentials,
            grants=server.grants,
            events=server.events,
            repeats=server.repeats,
            metrics=metrics,
            metrics_open=settings.metrics_open,
            readiness=server.readiness,
            accelerator=Accelerator(settings.accelerator_location, server.cache.root),
            accounts=server.accounts,
            admittance=admitted,
            audit=server.audit,
            sessions=Sessions(
                SystemClock(), settings.state_dir / "sessions.json", server.accounts.still, seal=token
            ),
            flow=server.flow,
        )
        api = ApiServer(app, ready, None if certificate is None else certificate.context)
        tune_collector()
        server.start()
        running.enter_context(announced(settings.state_dir, url, server.cache.root))
        restart = PlannedRestart(lifetime, listening, api.stop, is_ours=given.is_ours)

        with _stopping(restart.end), _renewing(certificate):
            with watched(lambda: server.readiness.answers("mapper")):
                api.run(sockets=[listening])
            restart.tell()
            running.close()
            restart.again()


def _lifetime(restart_after: str | None) -> float | None:
    """Seconds until a planned restart; None: there is none."""
    from stager.model.durations import parse_duration

    if restart_after is None:
        return None
    seconds = parse_duration(restart_after)
    if seconds < 1.0:
        raise InputError(f"{restart_after!r} is too soon for a restart", remedy="give a time such as 24h")
    return seconds


def admittance(settings: Settings, accounts: AccountService) -> Admittance:
    """Who may come in besides those with a token of this server, as the settings say.

    Raises:
        SettingsError: what is said about that makes no sense.
    """
    from stager.errors import SettingsError
    from stager.model.principals import Role
    from stager.server.authentication import Admittance, ProxyUser
    from stager.wiring.oidc import build_oidc

    if settings.proxy_user_header and not settings.proxy_networks:
        raise SettingsError(
            "proxy_networks is not set",
            cause="a header that says who asks is believed from proxies alone",
            remedy="set it to the addresses of yours",
        )
    role = Role(settings.proxy_unknown_role) if settings.proxy_unknown_role else None
    return Admittance(
        build_oidc(settings, accounts.user),
        settings.proxy_networks,
        ProxyUser(settings.proxy_user_header, role),
        settings.requests_per_second,
    )


def _own_token(path: Path) -> str:
    """The token of the server's administrator; at the first start a terminal is shown it, this once, and no log."""
    from stager.server.token import ensure_token

    is_new = not path.exists()
    token = ensure_token(path)
    if is_new:
        shown = f": {token}" if sys.stderr.isatty() else ""
        output.note(f"the administrator's token is in {path}{shown}")
    return token


@contextmanager
def _renewing(certificate: Certificate | None) -> Iterator[None]:
    """Take another certificate when there is one: at SIGHUP at once, by itself within a minute."""
    if certificate is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def at_once(_number: int, _frame: FrameType | None) -> None:
        certificate.look(anew=True)

    before = signal.signal(signal.SIGHUP, at_once)
    certificate.start()
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
        certificate.close()


@contextmanager
def _stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at the first SIGINT or SIGTERM; a second one ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)

    def first(_number: int, _frame: FrameType | None) -> None:
        for number in signals:
            signal.signal(number, signal.SIG_DFL)
        stop()

    before = {number: signal.signal(number, first) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
