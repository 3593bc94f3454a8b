"""Events as they happen: server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from stager.errors import ConflictError, InputError
from stager.model.chronicle import Choice
from stager.server.following import Following, heartbeat, hello_frame
from stager.server.problems import described
from stager.server.who import May
from stager.service.events import EventService

MEDIA_TYPE = "text/event-stream"
HEARTBEAT_SECONDS = 15.0
"""Of silence; then a comment says that the connection is alive."""
MOST_EVENTS = 2**53 - 1
"""Greater numbers are none of an event's: JavaScript could not tell them apart."""
LONGEST_SECONDS = 3600.0
"""Then the answer ends, and the client asks again: whoever may follow no more is refused."""
STUCK_SECONDS = 30.0
"""Who takes nothing for so long is cut off; he comes back with the number of the last event that he has."""


class EventsAnswer(Response):
    """Events, until the client leaves or the server stops.

    Args:
        following: tells them.
        choice: which ones.
        after: number of the last one that the client has; None: he begins.
        seconds: for so long, at most; 0: what there is.
        status_code: of the answer.
    """

    media_type = MEDIA_TYPE

    def __init__(
        self, following: Following, choice: Choice, after: int | None, seconds: float, status_code: int = 200
    ) -> None:
        super().__init__(None, status_code)
        self._following = following
        self._choice = choice
        self._after = after
        self._seconds = seconds

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        head = [(b"content-type", MEDIA_TYPE.encode()), (b"cache-control", b"no-store")]
        with self._following.joined() as wake, suppress(TimeoutError):
            gone = asyncio.ensure_future(_left(receive, wake))
            try:
                await send({"type": "http.response.start", "status": self.status_code, "headers": head})
                await self._tell(send, wake, gone)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            finally:
                gone.cancel()

    async def _tell(self, send: Send, wake: asyncio.Event, gone: asyncio.Future[None]) -> None:
        number = self._after
        if number is None:
            number = await self._following.newest()
            await _send(send, hello_frame(number))
        began = time.monotonic()
        while not (gone.done() or self._following.closing or time.monotonic() > began + LONGEST_SECONDS):
            wake.clear()
            before = number
            number, told = await self._following.after(number, self._choice)
            if told:
                await _send(send, told)
            if number != before:
                continue
            left = began + self._seconds - time.monotonic()
            if left <= 0:
                return
            try:
                async with asyncio.timeout(min(left, HEARTBEAT_SECONDS)):
                    await wake.wait()
            except TimeoutError:
                await _send(send, heartbeat(number))


async def _send(send: Send, body: bytes) -> None:
    async with asyncio.timeout(STUCK_SECONDS):
        await send({"type": "http.response.body", "body": body, "more_body": True})


async def _left(receive: Receive, wake: asyncio.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    wake.set()


def event_routes(events: EventService | None, following: Following) -> APIRouter:
    """The route ``/v1/events``."""
    router = APIRouter(prefix="/events", tags=["events"])

    @router.get(
        "",
        responses=described(404, 409, 503)
        | {200: {"description": "Events, for as long as you listen.", "content": {MEDIA_TYPE: {}}}},
        summary="Follow events",
        response_class=EventsAnswer,
    )
    async def follow(
        may: May,
        job: Annotated[list[str] | None, Query(description="About these jobs and what they need.")] = None,
        stage: Annotated[list[str] | None, Query(description="About these stage requests.")] = None,
        user: Annotated[list[str] | None, Query(description="About what is these users'.")] = None,
        kind: Annotated[
            list[str] | None, Query(description="Of these kinds, such as `job.done`; `job`: all of jobs.")
        ] = None,
        after: Annotated[
            int | None,
            Query(ge=0, le=MOST_EVENTS, description="The same as Last-Event-ID, for who can send no header."),
        ] = None,
        wait: Annotated[
            float,
            Query(ge=0, description="Seconds after which the answer ends; 0: with what there is."),
        ] = LONGEST_SECONDS,
        last_event_id: Annotated[
            str | None,
            Header(description="Number of the last event that you have: those after it come first."),
        ] = None,
    ) -> EventsAnswer:
        """Server-sent events: what happens to jobs, files, preconditions and credentials, as soon as it is durable.

        Each has a number that survives restarts; who was cut off sends the last one he has as `Last-Event-ID` and
        misses nothing. A first event `hello` says from where on events are told. `reset`: what you lack is not kept
        any more; look at everything again.
        """
        if events is None:
            raise ConflictError("this server tells no events", remedy="ask the job server")
        choice = await run_in_threadpool(
            events.choice,
            jobs=job or (),
            stages=stage or (),
            users=user or (),
            kinds=kind or (),
            only=may.only,
        )
        known = after if last_event_id is None else _number(last_event_id)
        return EventsAnswer(following, choice, known, wait)

    return router


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= MOST_EVENTS):
        raise InputError(f"Last-Event-ID {text[:40]!r} is no number of an event", remedy="send none")
    return int(text)
