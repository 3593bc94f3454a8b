"""How `stager doctor` looks at the server: whether it runs, answers, knows us, and what its clock says."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from stager import __version__
from stager.cli.connect import server_url, token_path
from stager.client import Client
from stager.errors import AccessDeniedError, ServerUnreachableError
from stager.model.checks import Checked, Health, judged_skew
from stager.server.token import read_token
from stager.server.whereabouts import FILE, announced_url
from stager.state.health import lock_holder

if TYPE_CHECKING:
    from stager.settings import Settings

CLOCK_SECONDS = 3.0
"""The server tells whole seconds."""


def server_checks(settings: Settings) -> Iterator[Checked]:
    """All about the server that these settings lead to.

    Raises:
        SettingsError: `server` is no URL.
    """
    try:
        url = server_url(settings)
    except ServerUnreachableError:
        yield _absent(settings)
        return
    try:
        token = os.environ.get("STAGER_TOKEN") or read_token(token_path(settings))
    except AccessDeniedError as error:
        yield Checked("server", Health.FAILED, f"{error.what}: {error.cause}", error.remedy)
        return
    try:
        with Client(url, token, ca_bundle=settings.server_ca_bundle) as client:
            status, clock = client.site.status(), client.site.clock()
    except ServerUnreachableError as error:
        yield _silent(settings, error)
        return
    yield Checked(
        "server", Health.OK, f"answers at {url}, up for {status['uptime_seconds'] / 3600:,.1f} hours"
    )
    if status["version"] == __version__:
        yield Checked("server version", Health.OK, __version__)
    else:
        found = f"the server's is {status['version']}, here {__version__}"
        yield Checked("server version", Health.WARNING, found, "upgrade the older one")
    if clock is not None:
        yield judged_skew("server clock", clock + 0.5 - time.time(), "the clock of the server", CLOCK_SECONDS)
    repairs = status.get("repairs") or {}
    if repairs:
        text = ", ".join(f"{kind}: {count}" for kind, count in sorted(repairs.items()))
        yield Checked("repairs", Health.WARNING, f"put right since its start: {text}", "see its log")
    else:
        yield Checked("repairs", Health.OK, "nothing had to be put right since its start")


def _silent(settings: Settings, error: ServerUnreachableError) -> Checked:
    holder = lock_holder(settings.state_dir)
    found = f"{error.what}: {error.cause}"
    if holder and not settings.server:
        return Checked(
            "server", Health.FAILED, f"{found}; process {holder} holds {settings.state_dir}", "see its log"
        )
    return Checked("server", Health.FAILED, found, error.remedy)


def _absent(settings: Settings) -> Checked:
    """Nobody says that a server runs here."""
    directory = settings.state_dir
    holder = lock_holder(directory)
    if holder is not None:
        found = f"process {holder or '?'} holds {directory}, and does not say where it listens"
        return Checked("server", Health.FAILED, found, "it may be starting; look again, then see its log")
    if (directory / FILE).exists() and announced_url(directory) is None:
        found = f"it was killed: {directory / FILE} names a process that is gone"
        return Checked("server", Health.FAILED, found, "start it: `stager serve` goes on where it ended")
    if (directory / "lock").exists():
        return Checked("server", Health.WARNING, f"none runs with {directory}", "start it: `stager serve`")
    return Checked("server", Health.SKIPPED, f"none has ever run with {directory}, and none is configured")
