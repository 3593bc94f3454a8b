"""Long polls: each waits as a task of the event loop and takes no thread meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from starlette.concurrency import run_in_threadpool

from stager.model.stages import StageDetail
from stager.model.views import JobDetail
from stager.service.jobs import JobService
from stager.service.stage import StageService

LONGEST_SECONDS = 60.0
"""Longest wait of one request; a client asks again."""


class Waiting:
    """Those who wait for jobs or stage requests.

    Args:
        jobs: whose changes are waited for.
    """

    def __init__(self, jobs: JobService) -> None:
        self._jobs = jobs
        self._open: set[asyncio.Event] = set()
        self._closing = False

    async def until_over(self, word: str, seconds: float, owner: str | None = None) -> JobDetail:
        """The job (of that owner), once it is over or `seconds` have passed.

        Raises:
            NotFoundError: no such job.
        """
        if seconds > 0:
            job = await run_in_threadpool(self._jobs.find, word, owner)
            await self._until(lambda: self._jobs.state(job).is_final, partial(self._jobs.watch, job), seconds)
        return await run_in_threadpool(self._jobs.job, word, owner)

    async def until_staged(
        self, stages: StageService, word: str, seconds: float, owner: str | None = None
    ) -> StageDetail:
        """The stage request (of that owner), once nothing of it is to be waited for or `seconds` have passed.

        Raises:
            NotFoundError: no such request.
        """
        if seconds > 0:
            stage = await run_in_threadpool(stages.find, word, owner)
            await self._until(lambda: stages.is_over(stage), partial(stages.watch, stage), seconds)
        return await run_in_threadpool(stages.staged, word, owner)

    async def _until(
        self,
        is_over: Callable[[], bool],
        watch: Callable[[Callable[[], None]], Callable[[], None]],
        seconds: float,
    ) -> None:
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def tell() -> None:  # called by the mapper's thread
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(changed.set)

        until = loop.time() + min(seconds, LONGEST_SECONDS)
        remove = watch(tell)
        self._open.add(changed)
        try:
            while not self._closing and not await run_in_threadpool(is_over):
                async with asyncio.timeout_at(until):
                    await changed.wait()
                changed.clear()
        except TimeoutError:
            return
        finally:
            self._open.discard(changed)
            remove()

    def close(self) -> None:
        """Answer all who wait, now; to be called in the event loop."""
        self._closing = True
        for changed in self._open:
            changed.set()
