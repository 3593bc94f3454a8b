"""Those who follow events: no thread each, no queue each, every event encoded once for all.

A follower is a number: up to where he has been told. The last events are kept here, as they go over the wire; who is
further behind reads the database. So who is slow costs nothing, and who stays away comes back with his number.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice

from starlette.concurrency import run_in_threadpool

from stager.model.chronicle import Choice, Event
from stager.service.events import EventService

RECENT = 2000
"""Events kept here."""
AT_ONCE = 500
"""Events sent in one piece."""
GATHER_SECONDS = 0.01
"""Events of so long a time go out together."""
SHARE = 4
"""Sending takes one part in so many and one of the loop's time at most: requests come first."""


@dataclass(frozen=True, slots=True)
class _Recent:
    event: Event
    frame: bytes


class Following:
    """Followers of one server's events.

    Args:
        events: what happens; None: nothing is told.
    """

    def __init__(self, events: EventService | None) -> None:
        self._events = events
        self._wakes: set[asyncio.Event] = set()
        self._arrived: deque[Sequence[Event]] = deque()  # from the mapper's thread
        self._recent: deque[_Recent] = deque(maxlen=RECENT)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._round: asyncio.Task[None] | None = None
        self._all: tuple[int, int, bytes] = (0, 0, b"")  # what most followers want next, made once
        self.closing = False
        if events is not None:
            events.follow(self._tell)

    def _tell(self, events: Sequence[Event]) -> None:
        """In the mapper's thread."""
        loop = self._loop
        if loop is None or not self._wakes:  # who comes later reads the database
            return
        self._arrived.append(events)
        with suppress(RuntimeError):  # the loop is closed: nobody follows any more
            loop.call_soon_threadsafe(self._begin_round)

    def _begin_round(self) -> None:
        if self._round is None:
            self._round = asyncio.ensure_future(self._rounds())

    async def _rounds(self) -> None:
        """Wake all followers as long as there is something new, at a pace that leaves time for others."""
        loop = asyncio.get_running_loop()
        while self._arrived:
            while self._arrived:
                for event in self._arrived.popleft():
                    if self._recent and event.id != self._recent[-1].event.id + 1:
                        self._recent.clear()  # found by number: they have to follow each other
                    self._recent.append(_Recent(event, frame_of(event)))
            began = loop.time()
            for wake in self._wakes:
                wake.set()
            for _ in range(2):  # they have had their turn then
                await asyncio.sleep(0)
            await asyncio.sleep(max(GATHER_SECONDS, SHARE * (loop.time() - began)))
        self._round = None

    @contextmanager
    def joined(self) -> Iterator[asyncio.Event]:
        """Be told: the event is set when there is something new, or the end has come."""
        self._loop = asyncio.get_running_loop()
        if not self._wakes:
            self._recent.clear()  # what came while nobody followed is not here
            self._arrived.clear()  # nor all of what came before that
        wake = asyncio.Event()
        self._wakes.add(wake)
        try:
            yield wake
        finally:
            self._wakes.discard(wake)

    async def newest(self) -> int:
        """Number of the last event."""
        assert self._events is not None
        return await run_in_threadpool(self._events.newest)

    async def after(self, number: int, choice: Choice) -> tuple[int, bytes]:
        """What to send to one who knows all up to `number`: up to where that is, and the bytes.

        If what he lacks is not kept any more, or his number is none of ours, he is told to begin anew.
        """
        recent = self._recent
        if recent and number >= recent[-1].event.id:
            return number, b""
        if recent and number + 1 >= recent[0].event.id:
            return self._of_recent(number, choice)
        assert self._events is not None
        newest = await run_in_threadpool(self._events.newest)
        if number == newest:
            return number, b""
        found = await run_in_threadpool(self._events.read, number, AT_ONCE)
        if number > newest or not found or found[0].id > number + 1:
            return newest, reset_frame(newest, await run_in_threadpool(self._events.oldest))
        return found[-1].id, b"".join(frame_of(event) for event in found if choice.takes(event))

    def _of_recent(self, number: int, choice: Choice) -> tuple[int, bytes]:
        start = number + 1 - self._recent[0].event.id
        last = min(number + AT_ONCE, self._recent[-1].event.id)
        if choice.is_all and self._all[:2] == (number, last):
            return last, self._all[2]
        some = islice(self._recent, start, start + AT_ONCE)
        if not choice.is_all:
            return last, b"".join(one.frame for one in some if choice.takes(one.event))
        self._all = number, last, b"".join(one.frame for one in some)
        return last, self._all[2]

    def close(self) -> None:
        """End all answers, now; to be called in the event loop."""
        self.closing = True
        for wake in self._wakes:
            wake.set()


def frame_of(event: Event) -> bytes:
    """An event as it goes over the wire."""
    data = json.dumps(event.redacted.to_dict(), separators=(",", ":"))
    return f"id: {event.id}\nevent: {event.kind}\ndata: {data}\n\n".encode()


def hello_frame(newest: int) -> bytes:
    """What comes first: from where on events are told."""
    return f'retry: 1000\nid: {newest}\nevent: hello\ndata: {{"newest":{newest}}}\n\n'.encode()


def reset_frame(newest: int, oldest: int) -> bytes:
    """Events were missed that nobody can read any more: look at everything again; from `newest` on all is told."""
    return f'id: {newest}\nevent: reset\ndata: {{"oldest":{oldest},"newest":{newest}}}\n\n'.encode()


def heartbeat(number: int) -> bytes:
    """Nothing happened that he wants; it says up to where, so that he never has to read it again."""
    return f": still here\nid: {number}\n\n".encode()
