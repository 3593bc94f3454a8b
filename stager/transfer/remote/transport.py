"""The driver of these schemes: a thread for each file that is read, for backends can only wait.

The thread reads one block ahead of whoever takes them. It may be left alone: whoever gives up does not wait
for an operation that hangs; the thread ends with it, and closes its connection.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from contextlib import closing
from importlib import import_module
from queue import Empty, Full, Queue
from typing import NamedTuple

from stager.errors import ConnectionFailedError, SchemeError, StagerError
from stager.model.urls import GENERIC, ON_DEMAND, Url
from stager.transfer.classify import os_cause
from stager.transfer.decisions import Identity, Request
from stager.transfer.exchange import SLICE_SECONDS, no_connection
from stager.transfer.fields import Headers
from stager.transfer.remote import BACKENDS
from stager.transfer.remote.base import Backend, Connect, Refused, Site
from stager.transfer.source import Reply, Version, changed, reply
from stager.transfer.transport import Pulse
from stager.transfer.wire import NO_FIELDS, End

_log = logging.getLogger(__name__)
_FAULTS = (TypeError, AttributeError, NameError, AssertionError)
"""Of a program, ours or a backend's: no network gets better by waiting."""
IDLE_SECONDS = 30.0
"""A connection that was not used for so long is not used again: most servers have ended it."""


_NOTHING_YET = object()
NOBODY = Identity()


class _Idle(NamedTuple):
    backend: Backend
    since: float


class RemoteTransport:
    """Reads files of all `BACKENDS`; one is used by many threads at once.

    Args:
        site: what the site has decided.
        connections: idle connections kept per origin.
    """

    def __init__(self, site: Site, *, connections: int = 6) -> None:
        self.site = site
        self._most = connections
        self._lock = threading.Lock()
        self._idle: defaultdict[tuple[str, Identity], list[_Idle]] = defaultdict(list)
        self._closed = False

    def open(self, request: Request, pulse: Pulse) -> RemoteResponse:
        """See `Transport.open`."""
        response = RemoteResponse(self, request)
        try:
            response.wait(pulse)
        except BaseException:
            response.close()
            raise
        return response

    def announce(self, request: Request) -> bool:  # noqa: ARG002 - the port's
        """See `Transport.announce`: none of these protocols gains by it."""
        return False

    def spare(self, origin: str) -> None:
        """See `Transport.spare`: a file is read by one."""

    def withdraw(self, url: str) -> None:
        """See `Transport.withdraw`."""

    def close(self) -> None:
        """See `Transport.close`."""
        with self._lock:
            self._closed = True
            idle = [one.backend for many in self._idle.values() for one in many]
            self._idle.clear()
        for backend in idle:
            backend.close()

    def lease(self, url: Url, identity: Identity) -> Backend | None:
        """A connection that is idle, and not for long."""
        with self._lock:
            many = self._idle.get((url.origin, identity))
            found = many.pop() if many else None
            old = self._take_old()
        for backend in old:
            backend.close()
        if found is not None and time.monotonic() - found.since >= IDLE_SECONDS:
            found.backend.close()
            return None
        return None if found is None else found.backend

    def connect(self, url: Url, identity: Identity) -> Backend:
        """A new connection."""
        return _backend(url, self.site)(url, identity, self.site)

    def give_back(self, url: Url, identity: Identity, backend: Backend) -> None:
        """Keep a connection for the next one who asks."""
        with self._lock:
            old = self._take_old()
            many = self._idle[url.origin, identity]
            keep = not self._closed and len(many) < self._most
            if keep:
                many.append(_Idle(backend, time.monotonic()))
        for one in old if keep else [*old, backend]:
            one.close()

    def _take_old(self) -> list[Backend]:
        """Connections, of whatever origin, that are not used again; else those of an origin asked once stay for ever."""
        since = time.monotonic() - IDLE_SECONDS
        old: list[Backend] = []
        for key, many in list(self._idle.items()):
            old += [one.backend for one in many if one.since <= since]
            many[:] = [one for one in many if one.since > since]
            if not many:
                del self._idle[key]
        return old


def _backend(url: Url, site: Site) -> Connect:
    if url.scheme in ON_DEMAND and url.scheme not in site.schemes:
        raise SchemeError(
            f"{url.redacted} may not be fetched",
            cause=f"this site does not read {url.scheme}:",
            remedy=f'if it is meant to be read, whoever runs this site adds "{url.scheme}" to the setting other_schemes',
            url=url.redacted,
        )
    if url.scheme in GENERIC and url.scheme not in site.generic:
        raise SchemeError(
            f"{url.redacted} may not be fetched",
            cause=f"this site does not read {url.scheme}:",
            remedy="if it is meant to be read, wherever its library may connect to, whoever runs this site adds it to"
            " the setting unchecked_schemes",
            url=url.redacted,
        )
    module, _, name = BACKENDS[url.scheme].partition(":")
    try:
        found: Connect = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise SchemeError(
            f"{url.redacted} can't be fetched",
            cause=f"the package {error.name} is not installed where fetches run",
            remedy="install fsspec there" if url.scheme in GENERIC else f"install stager[{url.scheme}] there",
            url=url.redacted,
        ) from None
    return found


class RemoteResponse:
    """See `Response`; a thread reads, whoever calls takes what it read."""

    status: int
    headers: Headers

    def __init__(self, transport: RemoteTransport, request: Request) -> None:
        self.end: End | None = None
        self.trailer: Headers = NO_FIELDS
        self._transport = transport
        self._url = request.url
        self._asked = request.headers
        self._identity = request.identity or NOBODY
        self._backend: Backend | None = None
        self._stopped = False
        self._made: Queue[Reply | bytes | BaseException | None] = Queue(maxsize=1)
        self._piece = memoryview(b"")
        threading.Thread(target=self._run, name=f"stager-{self._url.scheme}", daemon=True).start()

    def wait(self, pulse: Pulse) -> None:
        """Until the head is here.

        Raises:
            FetchError: there is none; or what `pulse` raised.
        """
        while (made := self._next()) is _NOTHING_YET:
            pulse(SLICE_SECONDS)
        if isinstance(made, Refused):
            made = Reply(made.status, {}, 0, 0)
        if isinstance(made, BaseException):
            raise made
        assert isinstance(made, Reply)
        self.status, self.headers = made.status, made.headers
        if made.first == made.end:
            self.end = End.COMPLETE

    def take(self) -> None:
        """See `Answer.take`: it is read as it comes."""

    def readinto(self, buffer: memoryview) -> int | None:
        """See `Response.readinto`."""
        if self.end is not None:
            return 0
        if not self._piece:
            made = self._next()
            if made is _NOTHING_YET:
                return None
            if isinstance(made, ConnectionFailedError):
                self.end = End.BROKEN
                return 0
            if isinstance(made, Refused):
                raise changed(self._url)  # it was there when it was looked at
            if isinstance(made, BaseException):
                raise made
            if made is None:
                self.end = End.COMPLETE
                return 0
            assert isinstance(made, bytes)
            self._piece = memoryview(made)
        count = min(len(buffer), len(self._piece))
        buffer[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count

    def _next(self) -> object:
        """What the thread made, or that it is not there yet."""
        try:
            return self._made.get(timeout=SLICE_SECONDS)
        except Empty:
            return _NOTHING_YET

    def close(self) -> None:
        """See `Response.close`; the thread is not waited for."""
        self._stopped = True
        backend = self._backend
        if backend is not None:
            backend.abort()

    # -- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        backend: Backend | None = None
        try:
            backend, version = self._reach()
            answer = reply(version, self._asked)
            last = b""
            if answer.first < answer.end:
                self._backend = backend
                if not self._hand_over(answer):
                    return
                last = self._read(backend, version, answer)
                self._backend = None
            if self._stopped:
                return
            # Before the end is told: whoever hears of it may ask for the next file at once.
            self._transport.give_back(self._url, self._identity, backend)
            backend = None
            self._hand_over(last or answer)
            self._hand_over(None)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that takes
            self._backend = None
            is_told = isinstance(error, (StagerError, Refused, *_FAULTS))
            self._hand_over(error if is_told else no_connection(self._url, os_cause(error)))
        finally:
            if backend is not None:
                backend.close()

    def _reach(self) -> tuple[Backend, Version]:
        """A connection, and what it says of the file; an idle one that was closed meanwhile does not count."""
        idle = self._transport.lease(self._url, self._identity)
        if idle is not None:
            try:
                return idle, idle.look(self._url)
            except (Refused, StagerError):
                self._transport.give_back(self._url, self._identity, idle)
                raise
            except Exception as error:  # noqa: BLE001 - a new one will say what is wrong
                _log.debug("an idle connection to %s: %s", self._url.place, error)
                idle.close()
        backend = self._transport.connect(self._url, self._identity)
        try:
            return backend, backend.look(self._url)
        except BaseException:
            backend.close()
            raise

    def _read(self, backend: Backend, version: Version, answer: Reply) -> bytes:
        """Hand over the body but for its last piece, which is not before the file is known to be what it was."""
        left = answer.end - answer.first
        last = b""
        with closing(backend.read(self._url, version, answer.first, answer.end)) as pieces:
            for piece in pieces:
                if last and not self._hand_over(last):
                    return b""
                last = piece[:left]
                left -= len(last)
        if not backend.pins:
            now = backend.look(self._url)
            tagged = bool(now.tag and version.tag) and now.tag != version.tag
            if tagged or (now.size, now.modified) != (version.size, version.modified):
                raise changed(self._url)
        if left:
            self._hand_over(last)
            raise no_connection(self._url, "the connection ended early")
        return last

    def _hand_over(self, made: Reply | bytes | BaseException | None) -> bool:
        """Whether it was taken; not, when nobody wants it any more."""
        while not self._stopped:
            try:
                self._made.put(made, timeout=SLICE_SECONDS)
            except Full:
                continue
            return True
        return False
