"""The connection of a command to the server, and how a server's log is set up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stager.client import Client
    from stager.settings import Settings


@contextmanager
def connected() -> Iterator[Client]:
    """A client of the configured server.

    Raises:
        ServerUnreachableError: none runs here, and none is configured.
        AccessDeniedError: there is no token to show it.
    """
    from stager.settings import load_settings

    with client_of(load_settings()) as client:
        yield client


def client_of(settings: Settings) -> Client:
    """A client of the server that these settings lead to; to be closed.

    Raises:
        ServerUnreachableError: none runs here, and none is configured.
        AccessDeniedError: there is no token to show it.
    """
    from stager.client import Client

    url = server_url(settings)
    return Client(url, shown_token(settings), ca_bundle=settings.server_ca_bundle)


def token_path(settings: Settings) -> Path:
    """The file with the server's token."""
    return Path(settings.token_file).expanduser() if settings.token_file else settings.state_dir / "token"


def logging_to_stderr(level: str, form: str) -> AbstractContextManager[None]:
    """The log of a process that runs a job server; see `stager.logs.logging_to`."""
    import sys

    from stager.logs import Redaction, logging_to
    from stager.model.redaction import SECRET_NAME, redacted_text

    redaction = Redaction(redacted_text, SECRET_NAME.fullmatch)
    return logging_to(sys.stderr, level, form, redaction)


def shown_token(settings: Settings) -> str:
    """What the server is shown: ``STAGER_TOKEN``, or what the token file has.

    Raises:
        AccessDeniedError: there is neither.
    """
    from stager.server.token import read_token

    return os.environ.get("STAGER_TOKEN") or read_token(token_path(settings))


def server_url(settings: Settings) -> str:
    """The server's URL: as configured, or as the one of this state directory announced it.

    Raises:
        ServerUnreachableError: none runs here, and none is configured.
        SettingsError: the setting is no URL.
    """
    from stager.errors import InputError, ServerUnreachableError, SettingsError
    from stager.model.urls import parse_web_url
    from stager.server.whereabouts import announced_url

    if settings.server:
        try:
            return parse_web_url(settings.server).text.rstrip("/")
        except InputError as error:
            raise SettingsError(
                f"setting server: {error.what}", cause=error.cause, remedy=error.remedy
            ) from None
    found = announced_url(settings.state_dir)
    if found is not None:
        return found
    if os.environ.get("STAGER_TOKEN") or settings.token_file:  # given by hand, for a server that is elsewhere
        host = f"[{settings.listen}]" if ":" in settings.listen else settings.listen
        scheme = "https" if settings.tls_certificate else "http"
        return f"{scheme}://{next(iter(settings.host_names), host)}:{settings.port}"
    raise ServerUnreachableError(
        f"no server runs with state directory {settings.state_dir}", remedy="start it with `stager serve`"
    )
