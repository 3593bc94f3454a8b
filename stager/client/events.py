"""Calls that follow what happens."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from json import loads
from typing import Any

from stager.client.answers import broke_off
from stager.client.patience import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS
from stager.client.shapes import view
from stager.client.talk import Emit, Group, M, Open, Pause, Read, Request, Telling, listened
from stager.errors import ServerUnreachableError, StateError
from stager.model.chronicle import Event

SILENCE_SECONDS = 45.0
"""A server that says nothing for so long is gone: it says that it is there every 15 seconds."""
RESET = "reset"
"""Kind of the event that says: some were missed that nobody can read any more."""


class EventCalls(Group[M]):
    """``client.events``: what happens, as it happens."""

    @listened
    def follow(
        self,
        *,
        jobs: Sequence[str] = (),
        stages: Sequence[str] = (),
        users: Sequence[str] = (),
        kinds: Sequence[str] = (),
        after: int | None = None,
    ) -> Telling[Event, None]:
        """Events as they happen (for kinds see `stager.model.chronicle.KINDS`), without end, until closed.

        What breaks off is gone on with where it was, also after a restart of the server: no event is missed. If the
        server does not have all any more that were missed, one of kind `RESET` says so: look at everything again.

        Args:
            jobs: about these jobs and what they need.
            stages: about these stage requests.
            users: about what is these users'.
            kinds: of these kinds; ``job`` is all of jobs.
            after: number of the last event that is known; None: only what happens from now on.

        Raises:
            ServerUnreachableError: it stayed away for longer than the client's `outage_seconds`.
        """
        query = {"job": list(jobs), "stage": list(stages), "user": list(users), "kind": list(kinds)}
        known = after
        gone_since: float | None = None
        pause = FIRST_PAUSE_SECONDS
        while True:
            headers = {} if known is None else {"Last-Event-ID": str(known)}
            try:
                yield Open(Request("GET", "events", query, headers=headers, patience=SILENCE_SECONDS))
                stream = Stream(self._driver.url)
                while block := (yield Read()):
                    gone_since, pause = None, FIRST_PAUSE_SECONDS
                    for event in stream.take(block):
                        yield Emit(event)
                        known = event.id
                    known = known if stream.number is None else stream.number
                raise broke_off(self._driver.url, "it ended")
            except (ServerUnreachableError, StateError):
                now = time.monotonic()
                gone_since = now if gone_since is None else gone_since
                if known is None or now - gone_since > self._driver.outage_seconds:
                    raise
            yield Pause(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


class Stream:
    """Server-sent events, taken out of the bytes in which they come.

    Args:
        url: of the server, for errors.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._kept = b""
        self.number: int | None = None
        """Up to where everything was told."""

    def take(self, block: bytes) -> Generator[Event, None, None]:
        """The events that are whole with these bytes."""
        *messages, self._kept = (self._kept + block).split(b"\n\n")
        for message in messages:
            fields = {}
            for line in message.decode().split("\n"):
                name, _, value = line.partition(": ")
                fields[name] = value
            try:
                number = int(fields["id"])
                data: dict[str, Any] = loads(fields.get("data", "{}"))
            except (KeyError, ValueError) as error:
                raise broke_off(self._url, f"no event: {error}") from None
            if "event" in fields and fields["event"] != "hello":
                data = data if "id" in data else {"id": number, "kind": fields["event"], "details": data}
                yield view(Event, data)
            self.number = number
