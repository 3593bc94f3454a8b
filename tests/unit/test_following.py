"""Events for those who follow: none is left out, whenever they come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

from stager.model.chronicle import Choice, Event
from stager.server import following as module
from stager.server.following import Following
from stager.service.events import EventService

ALL = Choice()


class Chronicle:
    """Events as the database has them."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.told: Callable[[Sequence[Event]], None] | None = None

    def follow(self, follower: Callable[[Sequence[Event]], None]) -> None:
        self.told = follower

    def record(self) -> None:
        self.events.append(Event("precondition.met", id=len(self.events) + 1))
        assert self.told is not None
        self.told(self.events[-1:])

    def newest(self) -> int:
        return len(self.events)

    def oldest(self) -> int:
        return 1

    def read(self, number: int, most: int) -> list[Event]:
        return self.events[number : number + most]


async def _round() -> None:
    await asyncio.sleep(4 * module.GATHER_SECONDS)


def test_who_comes_while_events_for_somebody_who_left_lie_around_is_told_all_that_follow() -> None:
    chronicle = Chronicle()

    async def follow() -> list[int]:
        following = Following(cast("EventService", chronicle))
        with following.joined():
            chronicle.record()
            await asyncio.sleep(0)  # the round has begun and rests
            await asyncio.sleep(0)
            chronicle.record()
        chronicle.record()  # nobody follows
        with following.joined():
            number = await following.newest()
            told = []
            for _ in range(3):
                chronicle.record()
                await _round()
                number, data = await following.after(number, ALL)
                told.append(data.count(b"event: precondition.met"))
            return [number, *told]

    assert asyncio.run(follow()) == [6, 1, 1, 1]
