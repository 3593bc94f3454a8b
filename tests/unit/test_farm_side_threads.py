"""The threads beside an event loop: as many as are stuck, and not one more."""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing

import pytest

from stager.farm import side_threads
from stager.farm.side_threads import SideThreads

PATIENCE = 60.0


def stuck(free: threading.Event) -> str:
    assert free.wait(PATIENCE)
    return threading.current_thread().name


def test_what_comes_out_is_what_the_work_returns_or_raises() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    async def work() -> None:
        with closing(SideThreads(2, "side")) as off:
            assert await off.do(lambda: 7) == 7
            with pytest.raises(ZeroDivisionError):
                await off.do(fail)
            assert await off.do(lambda: off.has(threading.current_thread()))
        assert not off.has(threading.current_thread())

    asyncio.run(work())


def test_a_thread_that_is_busy_takes_what_comes_next(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WAIT_SECONDS", "LONG_WAIT_SECONDS"):
        monkeypatch.setattr(side_threads, name, 1000.0)  # nothing waits in vain

    async def work() -> set[str]:
        with closing(SideThreads(8, "side")) as off:
            return {await off.do(lambda: threading.current_thread().name) for _ in range(50)}

    assert asyncio.run(work()) == {"side-1"}


def test_what_is_stuck_delays_nothing_else_as_long_as_there_are_threads() -> None:
    free = threading.Event()

    async def work() -> None:
        with closing(SideThreads(3, "side")) as off:
            held = [off.do(lambda: stuck(free)) for _ in range(2)]
            async with asyncio.timeout(PATIENCE):
                assert [await off.do(lambda: 1) for _ in range(5)] == [1] * 5
            free.set()
            assert len({await one for one in held}) == 2

    asyncio.run(work())


def test_what_has_ended_is_told_though_the_next_is_stuck() -> None:
    free, begin = threading.Event(), threading.Event()

    async def work() -> None:
        with closing(SideThreads(1, "side")) as off:
            first = off.do(lambda: begin.wait(PATIENCE))
            second = off.do(lambda: stuck(free))
            begin.set()
            async with asyncio.timeout(PATIENCE):
                assert await first
            free.set()
            assert await second == "side-1"

    asyncio.run(work())


def test_there_are_never_more_threads_than_it_may_have() -> None:
    free, enough = threading.Event(), threading.Event()
    running = most = 0
    lock = threading.Lock()

    def count() -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == 3:
                enough.set()
        try:
            return stuck(free)
        finally:
            with lock:
                running -= 1

    async def work() -> None:
        with closing(SideThreads(3, "side")) as off:
            held = [asyncio.ensure_future(off.do(count)) for _ in range(9)]
            assert await asyncio.to_thread(enough.wait, PATIENCE)
            free.set()
            await asyncio.gather(*held)

    asyncio.run(work())
    assert most == 3


def test_after_close_the_threads_end_when_nothing_waits_for_them() -> None:
    free = threading.Event()
    found: list[threading.Thread] = []

    def here() -> None:
        found.append(threading.current_thread())
        stuck(free)

    async def work() -> None:
        off = SideThreads(2, "side")
        held = [asyncio.ensure_future(off.do(here)) for _ in range(4)]
        off.close()
        free.set()
        await asyncio.gather(*held)

    asyncio.run(work())
    for thread in found:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert len(found) == 4


def test_one_who_stopped_waiting_harms_nobody() -> None:
    free = threading.Event()

    async def work() -> int:
        with closing(SideThreads(1, "side")) as off:
            left = asyncio.ensure_future(off.do(lambda: stuck(free)))
            following = off.do(lambda: 2)
            left.cancel()
            free.set()
            return await following

    assert asyncio.run(work()) == 2
