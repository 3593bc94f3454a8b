"""The inside of a process that does nothing but fetch for a server (`ProcessFarm`)."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

from stager.farm.base import Emit, Farm
from stager.farm.processes import Channel
from stager.model.fetches import Failed, Progress, Signal
from stager.signals.codec import fetch_order_from_json, signals_to_json


def serve(make: Callable[[Any, Emit], Farm]) -> None:
    """Run orders until the process that gives them is gone or wants no more.

    The socket is the standard input. What is under way is then broken off, keeping what is resumable.

    Args:
        make: makes the farm from the greeting and what takes its signals.
    """
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # they come to all processes of a service; the server decides
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=os.dup(0)) as sock:
        channel = Channel(sock)
        messages = _messages(channel)
        for _, greeting in messages:
            with closing(make(greeting, _Teller(channel))) as farm:
                _loop(messages, farm)


def _loop(messages: Iterator[tuple[Any, ...]], farm: Farm) -> None:
    for message in messages:
        match message:
            case ("start", list(orders)):
                first, *then = (fetch_order_from_json(fetch, text) for fetch, text in orders)
                farm.start(first, then)
            case ("cancel", str(fetch), int(generation)):
                farm.cancel(fetch, generation)


def _messages(channel: Channel) -> Iterator[tuple[Any, ...]]:
    """What comes, until the other side ends."""
    with suppress(ConnectionError):
        while (found := channel.receive()) is not None:
            yield from found


class _Teller:
    """Sends signals; of progress only what goes out at once."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._writable = select.poll()
        self._writable.register(channel.socket, select.POLLOUT)

    def __call__(self, told: Signal) -> None:
        if isinstance(told, Failed):  # details are plain values; should one not be, its text must do
            told.error.details = json.loads(json.dumps(told.error.details, default=str))
        text = signals_to_json([told])
        with self._lock, suppress(ConnectionError):  # nobody listens any more: the loop sees that too
            if not isinstance(told, Progress) or self._writable.poll(0):
                self._channel.send(text)
