"""So many connections per origin and no more, however many threads fetch."""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue

from stager.transfer.decisions import Request
from stager.transfer.fields import Headers
from stager.transfer.transport import Lane, Pulse, Response, Transport
from stager.transfer.wire import End

_Seats = SimpleQueue[None]
"""The free ones; a queue in C, several times quicker than a semaphore."""
LOOK_SECONDS = 0.25
"""How often somebody who waits for a seat looks whether it was cancelled."""


class LimitedTransport:
    """Another transport with a number of seats per origin.

    A seat is held from the request to the end of its answer, so not while the file is stored: where
    storing means waiting for a disk, more threads can fetch than connections are open.

    Args:
        transport: does the work; closed with this one.
        per_origin: answers of one origin at once.
    """

    def __init__(self, transport: Transport, per_origin: int) -> None:
        self._transport = transport
        self._per_origin = per_origin
        self._lock = threading.Lock()
        self._seats: dict[str, _Seats] = {}
        self._announced: dict[str, _Seats] = {}

    def open(self, request: Request, pulse: Pulse) -> Response:
        """See `Transport.open`; waits for a seat first."""
        seats = self._seats.get(request.url.origin) or self._arrange(request.url.origin)
        if self._announced.pop(request.url.text, None) is None:  # else it has a seat
            _take(seats, pulse)
        try:
            return _Seated(self._transport.open(request, pulse), seats)
        except BaseException:
            seats.put(None)
            raise

    def announce(self, request: Request) -> bool:
        """See `Transport.announce`."""
        seats = self._seats.get(request.url.origin)
        if seats is None:
            return False
        try:
            seats.get_nowait()
        except Empty:
            return False
        if self._transport.announce(request):
            self._announced[request.url.text] = seats
            return True
        seats.put(None)
        return False

    def spare(self, origin: str) -> Lane | None:
        """See `Transport.spare`: a lane has a seat of its own, which nobody waits for."""
        seats = self._seats.get(origin)
        lane = None if seats is None else self._transport.spare(origin)
        if seats is None or lane is None:
            return None
        try:
            seats.get_nowait()
        except Empty:
            return None

        def leave() -> None:
            lane.leave()
            seats.put(None)

        return Lane(lane.open, leave)

    def withdraw(self, url: str) -> None:
        """See `Transport.withdraw`."""
        seats = self._announced.pop(url, None)
        if seats is not None:
            self._transport.withdraw(url)
            seats.put(None)

    def close(self) -> None:
        """See `Transport.close`."""
        self._transport.close()

    def _arrange(self, origin: str) -> _Seats:
        with self._lock:
            seats = self._seats.get(origin)
            if seats is None:
                seats = SimpleQueue()
                for _ in range(self._per_origin):
                    seats.put(None)
                self._seats[origin] = seats
            return seats


def _take(seats: _Seats, pulse: Pulse) -> None:
    while True:
        try:
            return seats.get(timeout=LOOK_SECONDS)
        except Empty:
            pulse(0.0)  # the origin is not silent: it was not asked yet


class _Seated:
    """An answer that frees its seat when it is closed."""

    __slots__ = ("_response", "_seats", "headers", "status")
    status: int
    headers: Headers

    def __init__(self, response: Response, seats: _Seats) -> None:
        self._response = response
        self._seats: _Seats | None = seats
        self.status = response.status
        self.headers = response.headers

    @property
    def end(self) -> End | None:
        return self._response.end

    @end.setter
    def end(self, value: End | None) -> None:
        self._response.end = value

    @property
    def trailer(self) -> Headers:
        return self._response.trailer

    def readinto(self, buffer: memoryview) -> int | None:
        return self._response.readinto(buffer)

    def take(self) -> bytes | None:
        return self._response.take()

    def close(self) -> None:
        try:
            self._response.close()
        finally:
            seats, self._seats = self._seats, None
            if seats is not None:
                seats.put(None)
