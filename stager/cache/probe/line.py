"""Two probes on two hosts find each other in the directory that both probe, and talk through files in it.

Nothing on a share can be waited for, so each looks again and again, with pauses; it lists the directory anew each
time, which is what makes a network file system tell the truth.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stager.cache.files import remove_quietly
from stager.cache.layout import PROBE
from stager.cache.probe.workplace import CARD

PAUSE_SECONDS = 0.05
RENEW_SECONDS = 1.0
LIVE_SECONDS = 15.0
"""A card that was not renewed for so long belongs to a probe that is gone."""
TALK = "peer"
"""In the leader's workplace: where both leave their messages."""


class LostPeerError(OSError):
    """The other probe said nothing for too long."""


@contextmanager
def card(root: str, me: str) -> Iterator[str]:
    """Inside, a file in `root` says that this probe waits for another."""
    path = f"{root}/{PROBE}{me}{CARD}"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        yield path
    finally:
        remove_quietly(path)


def meet(root: str, me: str, seconds: float) -> str | None:
    """Wait for another probe of `root`: its name; None when none came. The lesser name of the two leads.

    Raises:
        OSError: the file system failed.
    """
    end = time.monotonic() + seconds
    with card(root, me) as mine:
        while time.monotonic() < end:
            os.utime(mine)
            now = _renewed_at(mine)
            for name in sorted(os.listdir(root)):
                other = name.removeprefix(PROBE).removesuffix(CARD)
                if not (name.startswith(PROBE) and name.endswith(CARD)) or other == me:
                    continue
                if abs(now - _renewed_at(f"{root}/{name}")) < LIVE_SECONDS:
                    time.sleep(2 * RENEW_SECONDS)  # our card stays until the other one has looked as well
                    return other
            time.sleep(min(RENEW_SECONDS, max(0.0, end - time.monotonic())))
    return None


def _renewed_at(path: str) -> float:
    try:
        with open(path, "rb") as file:  # opened, since a mere stat may be told an old time
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return 0.0


class Line:
    """Messages between two probes, each in its turn.

    Args:
        directory: where they are left.
        me: the sender's name.
        other: the receiver's.
        patience: seconds that the other one may be silent.
    """

    def __init__(self, directory: str, me: str, other: str, *, patience: float) -> None:
        self._directory = directory
        self._names = (me, other)
        self._patience = patience
        self._sent = self._received = 0

    def send(self, **data: Any) -> None:
        """Leave a message, whole or not at all."""
        path = f"{self._directory}/{self._names[0]}.{self._sent}"
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump(data, file)
        os.rename(f"{path}.new", path)
        self._sent += 1

    def receive(self, meanwhile: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """The next message of the other one.

        Raises:
            LostPeerError: it does not come.
        """
        name = f"{self._names[1]}.{self._received}"
        end = time.monotonic() + self._patience
        while name not in os.listdir(self._directory):
            if time.monotonic() > end:
                raise LostPeerError("the probe on the other host broke off")
            meanwhile()
            time.sleep(PAUSE_SECONDS)
        self._received += 1
        with open(f"{self._directory}/{name}", encoding="utf-8") as file:
            found: dict[str, Any] = json.load(file)
            return found
