"""Fetches in a process of their own on this machine: the interpreter that serves jobs has no part in them."""

from __future__ import annotations

import logging
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from stager.errors import ConflictError, StagerError, WorkerLostError
from stager.farm.base import Emit, cancelled_error
from stager.farm.processes import Channel
from stager.model.fetches import Failed, FetchOrder, Progress, Ready, Signal, Started
from stager.model.urls import parse_url
from stager.signals.codec import fetch_order_to_json, signals_from_json

GRACE_SECONDS = 30.0
"""From the request to end to SIGKILL: a cancel is noticed within a second, but a large file may be being stored."""
SETTLED_SECONDS = 10.0
"""A process that lived so long is replaced at once when it dies; one that did not, after a wait."""
FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 30.0
"""The wait doubles from the one to the other."""

_log = logging.getLogger(__name__)


class _Given:
    """An order that was taken and has not ended."""

    __slots__ = ("cancelled", "order", "sent", "started")

    def __init__(self, order: FetchOrder) -> None:
        self.order = order
        self.sent = False
        self.started = False
        self.cancelled = False


class ProcessFarm:
    """Has another process run the tries, and starts it anew when it dies.

    The process inherits the environment; one end of a socket pair is its standard input. First comes
    `greeting`, then orders and cancels; signals come back. It ends when the socket does, so also when this
    process is killed.

    Args:
        command: program and arguments; what it runs is `stager.farm.process_loop.serve`.
        greeting: plain values for it, such as settings; they are seen by nobody else.
        emit: told of every signal, in one thread; its exceptions are logged.
        locate: the path of an object in the cache, by its digest; with ``restricted=True`` one that needs a grant.
    """

    outlives = False

    def __init__(
        self, command: Sequence[str], greeting: Any, emit: Emit, *, locate: Callable[..., Path]
    ) -> None:
        self._command = list(command)
        self._greeting = greeting
        self._emit = emit
        self._locate = locate
        self._changed = threading.Condition()
        self._tries: dict[tuple[str, int], _Given] = {}
        self._unsent: list[list[_Given]] = []
        self._channel: Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._killer = threading.Timer(GRACE_SECONDS, self._kill)
        self._killer.daemon = True
        self._thread = threading.Thread(target=self._live, name="fetch-process", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Of the present process; None between two."""
        process = self._process
        return None if process is None else process.pid

    def start(self, order: FetchOrder, then: Sequence[FetchOrder] = ()) -> None:
        """See `Farm.start`.

        Raises:
            ConflictError: the farm is closed.
        """
        with self._changed:
            if self._closed:
                raise ConflictError(f"fetch {order.fetch} can't start", cause="the farm is closed")
            group = []
            for one in (order, *then):
                if (one.fetch, one.generation) not in self._tries:
                    given = self._tries[one.fetch, one.generation] = _Given(one)
                    group.append(given)
            if group:
                self._unsent.append(group)
                self._send_orders()

    def adopt(self, order: FetchOrder) -> None:
        """See `Farm.adopt`: the process ends with this one."""
        raise ConflictError(f"fetch {order.fetch} can't be adopted", cause="it ended with its process")

    def holds(self, fetch: str, generation: int) -> bool:
        """See `Farm.holds`."""
        with self._changed:
            return (fetch, generation) in self._tries

    def cancel(self, fetch: str, generation: int) -> None:
        """See `Farm.cancel`."""
        with self._changed:
            given = self._tries.get((fetch, generation))
            if given is not None:
                given.cancelled = True
                if given.sent:
                    self._send(("cancel", fetch, generation))
                self._changed.notify_all()

    def close(self, *, wait: bool = True) -> None:
        """See `Farm.close`; may be called again, and by a listener (which it does not wait for)."""
        with self._changed:
            if not self._closed:
                self._closed = True
                self._killer.start()
                self._ask_to_end()
                self._changed.notify_all()
        if wait and threading.current_thread() is not self._thread:
            self._thread.join()

    # -- to the process; all with the lock held -----------------------------------------------------

    def _send_orders(self) -> None:
        if self._channel is None:
            return  # it has died, or is not there yet
        for group in self._unsent:
            orders = [(given.order.fetch, fetch_order_to_json(given.order)) for given in group]
            for given in group:
                given.sent = True
            self._send(("start", orders))
            for given in group:
                if given.cancelled:
                    self._send(("cancel", given.order.fetch, given.order.generation))
        self._unsent.clear()

    def _send(self, message: tuple[Any, ...]) -> None:
        try:
            if self._channel is not None:
                self._channel.send(message)
        except ConnectionError:
            return  # it has died; whoever listens to it sees that too

    def _ask_to_end(self) -> None:
        if self._channel is not None:
            try:
                self._channel.socket.shutdown(socket.SHUT_WR)
            except OSError:
                return  # it has ended

    # -- the thread that looks after it -------------------------------------------------------------

    def _live(self) -> None:
        wait = 0.0
        while True:
            began = time.monotonic()
            how = self._life()
            lost = self._forget_lost()
            for given in lost:
                self._end(given, _lost_error(given.order, how), progressed=True)
            with self._changed:
                closed = self._closed
            if closed:
                break
            lived = time.monotonic() - began
            wait = (
                0.0
                if lived >= SETTLED_SECONDS
                else min(max(FIRST_WAIT_SECONDS, 2 * wait), LONGEST_WAIT_SECONDS)
            )
            _log.error(
                "the process that fetches ended after %.0f s (%s), %d fetches are to be tried again;"
                " another one is started in %g s",
                lived, how, len(lost), wait,
            )  # fmt: skip
            self._rest(wait)
        self._killer.cancel()
        self._cancel_unsent(lambda _: True)

    def _life(self) -> str:
        """Start the process, hear it to its end, and say how it ended."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                try:
                    # A group of its own: a Ctrl-C in the terminal is for this process, which decides what to do.
                    process = subprocess.Popen(  # noqa: S603 - the command is the site's own
                        self._command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, process_group=0
                    )
                except OSError as error:
                    return f"it can't be started: {error.strerror}"
            channel = Channel(ours)
            with self._changed:
                self._process = process
                self._channel = channel
                self._send(("greeting", self._greeting))
                self._send_orders()
                if self._closed:
                    self._ask_to_end()
            try:
                self._listen(channel)
            finally:
                with self._changed:
                    self._channel = None
        status = process.wait()  # its end of the socket is closed: it is ending
        with self._changed:
            self._process = None
        return f"signal {-status}" if status < 0 else f"status {status}"

    def _listen(self, channel: Channel) -> None:
        while True:
            try:
                messages = channel.receive()
            except ConnectionError:
                return
            if messages is None:
                return
            for text in messages:
                for signal in signals_from_json(text):
                    self._hear(cast("Signal", signal))

    def _hear(self, signal: Signal) -> None:
        key = (signal.fetch, signal.generation)
        with self._changed:
            given = self._tries.get(key)
            if given is None:
                return
            if isinstance(signal, Started):
                given.started = True
            elif not isinstance(signal, Progress):
                del self._tries[key]
        if isinstance(signal, Ready):
            path = self._locate(signal.result.sha256, restricted=signal.result.restricted)
            result = replace(signal.result, url=given.order.request.url, location=path)
            signal = Ready(*key, result)
        self._tell(signal)

    def _forget_lost(self) -> list[_Given]:
        with self._changed:
            lost = [given for given in self._tries.values() if given.sent]
            for given in lost:
                del self._tries[given.order.fetch, given.order.generation]
            return lost

    def _rest(self, seconds: float) -> None:
        """Wait before another process is started; orders that are cancelled meanwhile end at once."""
        until = time.monotonic() + seconds
        while True:
            self._cancel_unsent(lambda given: given.cancelled)
            with self._changed:
                left = until - time.monotonic()
                if self._closed or left <= 0:
                    return
                if not any(given.cancelled for group in self._unsent for given in group):
                    self._changed.wait(left)

    def _cancel_unsent(self, which: Callable[[_Given], bool]) -> None:
        with self._changed:
            ended = [given for group in self._unsent for given in group if which(given)]
            for given in ended:
                del self._tries[given.order.fetch, given.order.generation]
            kept = ([given for given in group if given not in ended] for group in self._unsent)
            self._unsent = [group for group in kept if group]
        for given in ended:
            self._end(given, cancelled_error(given.order.request), progressed=False)

    def _end(self, given: _Given, error: StagerError, *, progressed: bool) -> None:
        key = (given.order.fetch, given.order.generation)
        if not given.started:
            self._tell(Started(*key))
        self._tell(Failed(*key, error, progressed=progressed))

    def _tell(self, signal: Signal) -> None:
        try:
            self._emit(signal)
        except Exception:  # noqa: BLE001 - a listener's fault must not end the farm
            _log.exception("signal %r was not taken", signal)

    def _kill(self) -> None:
        """It does not end: what it was writing is an ordinary leftover."""
        with self._changed:
            if self._process is not None and self._process.poll() is None:
                self._process.kill()


def _lost_error(order: FetchOrder, how: str) -> WorkerLostError:
    url = parse_url(order.request.url).redacted
    return WorkerLostError(
        f"fetch of {url} was broken off",
        cause=f"the process that fetched it ended ({how})",
        remedy="it is tried again, and goes on where it was",
        url=url,
    )
