"""So many connections per origin and no more, however many threads fetch."""

from __future__ import annotations

import threading

from stager.transfer.decisions import Request
from stager.transfer.fields import Headers
from stager.transfer.transport import Pulse, Response, Transport
from stager.transfer.wire import End

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
        self._seats: dict[str, threading.Semaphore] = {}

    def open(self, request: Request, pulse: Pulse) -> Response:
        """See `Transport.open`; waits for a seat first."""
        origin = request.url.origin
        with self._lock:
            seat = self._seats.get(origin)
            if seat is None:
                seat = self._seats[origin] = threading.Semaphore(self._per_origin)
        while not seat.acquire(timeout=LOOK_SECONDS):
            pulse(0.0)  # the origin is not silent: it was not asked yet
        try:
            return _Seated(self._transport.open(request, pulse), seat)
        except BaseException:
            seat.release()
            raise

    def close(self) -> None:
        """See `Transport.close`."""
        self._transport.close()


class _Seated:
    """An answer that frees its seat when it is closed."""

    __slots__ = ("_response", "_seat", "headers", "status")
    status: int
    headers: Headers

    def __init__(self, response: Response, seat: threading.Semaphore) -> None:
        self._response = response
        self._seat: threading.Semaphore | None = seat
        self.status = response.status
        self.headers = response.headers

    @property
    def end(self) -> End | None:
        return self._response.end

    @end.setter
    def end(self, value: End | None) -> None:
        self._response.end = value

    def readinto(self, buffer: memoryview) -> int | None:
        return self._response.readinto(buffer)

    def close(self) -> None:
        try:
            self._response.close()
        finally:
            seat, self._seat = self._seat, None
            if seat is not None:
                seat.release()
