"""A process that does nothing but fetch: forked, told what to do and heard through one socket."""

from __future__ import annotations

import gc
import logging
import marshal
import os
import select
import signal
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from stager.farm.base import Fetcher
from stager.farm.crew import Batch, Crew, Order
from stager.farm.sizing import Sizing
from stager.model.fetches import FetchRequest

FLUSH_SECONDS = 0.05
"""How long a completed file may wait to be reported together with others."""
GRACE_SECONDS = 5.0
"""From the request to end to SIGKILL; a transfer notices a cancel within a second."""
GC_THRESHOLD = 50_000
"""Allocations between two looks for reference cycles; fetching makes next to none."""
_log = logging.getLogger(__name__)
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_HEADER = struct.Struct("!I")


class Channel:
    """Whole messages of plain values over a stream socket between a process and its fork."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._buffer = bytearray()

    def send(self, value: Any) -> None:
        """Send a message; waits while the other side does not read."""
        data = marshal.dumps(value)
        self.socket.sendall(_HEADER.pack(len(data)) + data)

    def receive(self) -> list[Any] | None:
        """The messages that are complete after one read; None at the end."""
        data = self.socket.recv(1 << 18)
        if not data:
            return None
        buffer, position, found = self._buffer, 0, []
        buffer += data
        while len(buffer) - position >= _HEADER.size:
            start = position + _HEADER.size
            end = start + _HEADER.unpack_from(buffer, position)[0]
            if end > len(buffer):
                break
            found.append(marshal.loads(bytes(buffer[start:end])))  # noqa: S302 - from our own fork
            position = end
        del buffer[:position]
        return found


class FetchProcess:
    """The parent's side.

    The requests are in the process's memory since the fork, so orders are a few bytes. Fork before
    any other thread exists: a lock that another thread holds would stay locked for ever.

    Args:
        make: makes what fetches, in the new process.
        requests: what the orders' indexes mean.
        threads: upper bound of its threads.
        per_origin: files of one origin at once, transferred or stored.
        progress: whether progress within files is reported.
        inherited: sockets of other processes, closed in this one so that it does not keep them open.
    """

    def __init__(
        self,
        make: Callable[[], Fetcher],
        requests: Sequence[FetchRequest],
        *,
        threads: int,
        per_origin: int,
        progress: bool,
        inherited: Iterable[socket.socket] = (),
    ) -> None:
        ours, theirs = socket.socketpair()
        gc.freeze()  # what is here now is not looked at, so not copied, by the new process's collector
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self.pid = os.fork()
            if self.pid == 0:
                for other in (ours, *inherited):
                    other.close()
                for number in _SIGNALS:  # a Ctrl-C reaches the whole group; the parent decides
                    signal.signal(number, signal.SIG_IGN)
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                _serve(
                    Channel(theirs), make, requests, threads=threads, per_origin=per_origin, progress=progress
                )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            gc.unfreeze()
        theirs.close()
        self._channel = Channel(ours)
        self._ended: int | None = None

    @property
    def socket(self) -> socket.socket:
        """Readable when there is something to `receive`."""
        return self._channel.socket

    def send(self, orders: Sequence[Order]) -> None:
        """Give orders; ignored by a process that has died (`receive` tells)."""
        try:
            self._channel.send(orders)
        except BrokenPipeError:
            return

    def receive(self) -> list[Batch] | None:
        """What it reported; None when it is no more."""
        try:
            messages = self._channel.receive()
        except ConnectionResetError:
            messages = None
        return None if messages is None else [Batch(*message) for message in messages]

    def stop(self) -> None:
        """Ask it to end; `close` waits for it."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            return  # it has ended

    def close(self) -> str:
        """Wait for its end, at most `GRACE_SECONDS`, and say how it ended."""
        if self._ended is None:
            self.stop()
            self.socket.settimeout(GRACE_SECONDS)
            try:
                while self.receive() is not None:
                    pass
            except TimeoutError:
                os.kill(self.pid, signal.SIGKILL)
            self.socket.close()
            self._ended = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return f"signal {-self._ended}" if self._ended < 0 else f"status {self._ended}"


def _serve(
    channel: Channel,
    make: Callable[[], Fetcher],
    requests: Sequence[FetchRequest],
    *,
    threads: int,
    per_origin: int,
    progress: bool,
) -> NoReturn:
    """The life of the process: it never returns into the code that forked it."""

    def report(batch: Batch) -> None:
        with suppress(ConnectionError):  # the parent is no more; the loop sees that too
            channel.send(tuple(batch))

    status = 1
    try:
        gc.set_threshold(GC_THRESHOLD)
        fetcher = make()
        crew = Crew(
            fetcher,
            requests,
            sizing=Sizing(threads),
            per_origin=per_origin,
            report=report,
            progress=progress,
        )
        try:
            _loop(channel, crew)
        finally:
            crew.close()
            fetcher.close()
        status = 0
    except Exception:  # noqa: BLE001 - there is nobody above who could be told
        _log.exception("a process that fetches broke")
    finally:
        os._exit(status)


def _loop(channel: Channel, crew: Crew) -> None:
    poll = select.poll()
    poll.register(channel.socket, select.POLLIN)
    while True:
        if poll.poll(FLUSH_SECONDS * 1000):
            try:
                messages = channel.receive()
            except ConnectionResetError:
                messages = None
            if messages is None:  # asked to end, or the parent is no more
                return
            for orders in messages:
                crew.add(orders)
        crew.flush()
        crew.measure()
