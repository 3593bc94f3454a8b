"""Waiting until no other server is at work."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from stager.errors import ServerBusyError, StateError

log = logging.getLogger(__name__)

S = TypeVar("S")
LOOK_SECONDS = 1.0
"""Between two looks."""


def server_in_turn(make: Callable[[], S], *, waits: bool, step_aside: Callable[[], None]) -> S | None:
    """What `make` makes, once no other server is at work; None when this process is told to end before.

    Args:
        make: raises `ServerBusyError` as long as there is one.
        waits: otherwise that is raised.
        step_aside: called when there still is one at a second look, and later ones: the wait may be long.

    Raises:
        ServerBusyError: another server is at work, and this one is not to wait.
    """
    from stager.server.whereabouts import notify

    said = ""
    try:
        while True:
            try:
                return make()
            except (ServerBusyError, StateError) as error:
                if not waits or (isinstance(error, StateError) and not said):
                    raise
                if said:
                    step_aside()
                if error.code != said:
                    said = error.code
                    log.info("waiting: %s", error, extra={"action": "server.standby"})
                    notify("READY=1\nSTATUS=waiting for the other server to end")
            time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        if not waits:
            raise
        return None
