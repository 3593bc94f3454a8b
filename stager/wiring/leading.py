"""Which of several servers leads, where they share a PostgreSQL."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from pathlib import Path

from stager.settings import Settings
from stager.state.leadership import Leadership
from stager.state.store import Store

log = logging.getLogger(__name__)

SUPERSEDED_STATUS = 6
"""As of a conflict: whoever supervises this process starts it again, as one that waits."""


def state_file(settings: Settings) -> Path | None:
    """The file of the database; None: it is in PostgreSQL."""
    url = settings.database_url or f"sqlite:///{settings.state_dir / 'stager.db'}"
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None


def open_store(settings: Settings, made: ExitStack) -> Store:
    """The state of a server, closed with `made`; in a PostgreSQL only of the one that leads.

    Of a database that is a file the state directory's lock is enough.

    Raises:
        ServerBusyError: another server leads.
        StateError: the database can't be used.
    """
    leadership = None
    if settings.database_url.startswith("postgresql"):
        leadership = Leadership(settings.database_url, f"{os.uname().nodename}:{settings.state_dir}", _end)
        made.callback(leadership.close)
    store = Store(settings.database_url or f"sqlite:///{settings.state_dir / 'stager.db'}", leadership)
    made.callback(store.close)
    return store


def _end(why: str) -> None:
    """End at once: whatever this server still did would be done by somebody who has no say any more."""
    log.critical("%s", why, extra={"action": "server.superseded"})
    logging.shutdown()
    os._exit(SUPERSEDED_STATUS)
