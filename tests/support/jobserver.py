"""A job server whose fetches are scripted and whose everything else is real."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Self

from stager.cache.store import FileCache
from stager.clock import SystemClock
from stager.errors import OriginRefusedError, StagerError
from stager.farm.threads import ThreadFarm
from stager.mapper.admission import Admission
from stager.mapper.dispatch.local import LocalDispatcher
from stager.mapper.loop import Mapper
from stager.mapper.machine import Machine
from stager.mapper.ports import StateStore
from stager.model.backoff import RetryPolicy
from stager.model.entries import Entry
from stager.model.fetches import FetchOrder, FetchRequest, FetchResult
from stager.model.jobs import JobInput, JobSpec
from stager.model.records import Changes
from stager.service.events import EventService
from stager.service.ids import IdMaker
from stager.service.jobs import JobService
from stager.service.repeats import Repeats
from stager.service.watch import Watch
from stager.state.store import Store


class ScriptedOrigin:
    """Fetches that take their bytes from a dictionary; a list is what successive tries meet."""

    def __init__(self, cache: FileCache) -> None:
        self.cache = cache
        self.content: dict[str, bytes | list[bytes | StagerError]] = {}
        self.tries: Counter[str] = Counter()
        self.gate = threading.Event()
        self.gate.set()

    def fetch(
        self,
        order: FetchOrder,
        *,
        progress: Callable[[int, int | None, int], None] | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> FetchResult:
        url = order.request.url
        self.tries[url] += 1
        while not self.gate.wait(0.02) and not cancelled():
            pass
        script = self.content.get(url)
        data = script.pop(0) if isinstance(script, list) else script
        if data is None:
            raise OriginRefusedError(
                f"{url} was refused", cause="404 Not Found", remedy="check the URL", url=url
            )
        if isinstance(data, StagerError):
            raise data
        if progress is not None:
            progress(len(data), len(data), 0)
        digest = sha256(data).hexdigest()
        path = self.cache.publish_bytes(order.request.key, data, digest)
        self.cache.record(
            Entry(order.request.key, digest, len(data), stored_at=0.0, fresh_until=0.0, url=url)
        )
        return FetchResult(url, digest, len(data), path, cached=False, received=len(data), fresh_until=0.0)


class SmallServer:
    """The parts of a job server, wired for tests; a second one on the same root is a restart."""

    def __init__(
        self, root: Path, *, slots: int = 4, store: Callable[[str], StateStore] | None = None
    ) -> None:
        self._made = ExitStack()
        clock = SystemClock()
        ids = IdMaker(clock)
        self.cache = FileCache(root / "cache")
        self.origin = ScriptedOrigin(self.cache)
        self.store = Store(f"sqlite:///{root / 'state.db'}")
        self._made.callback(self.store.close)
        retry = RetryPolicy(attempts=3, first_seconds=0.01)
        self._watch = watch = Watch()
        self.mapper = Mapper(
            lambda: Machine(Admission(slots=4, per_origin=4), retry, job_slots=slots, fetch_ids=ids),
            self.store if store is None else store(f"sqlite:///{root / 'state.db'}"),
            clock=clock,
            jitter=lambda: 0.0,
            on_change=self._tell,
        )
        self.dispatcher = LocalDispatcher(
            self.cache, root / "runs", self.mapper.job_signal, grace_seconds=1.0
        )
        self._made.callback(self.dispatcher.close)
        self.farm = ThreadFarm(self.origin.fetch, self.mapper.fetch_signal, size=4)
        self._made.callback(self.farm.close)
        self._made.callback(self.mapper.stop)
        self.jobs = JobService(self.cache, self.store, self.mapper, watch, clock=clock, ids=ids)
        self.events = EventService(self.store.chronicle, self.mapper, self.jobs)
        self.repeats = Repeats(self.store.answers, clock)

    def _tell(self, changes: Changes) -> None:
        self._watch.tell(changes)
        self.events.tell(changes)

    def __enter__(self) -> Self:
        self.mapper.start(self.farm, self.dispatcher)
        return self

    def __exit__(self, *_: object) -> None:
        self._made.close()


def url(name: str) -> str:
    return FetchRequest(f"http://origin.test/{name}").url


def shell(script: str, *inputs: str, **more: object) -> JobSpec:
    """A job that runs a line of shell."""
    given = tuple(JobInput(url(name)) for name in inputs)
    return JobSpec(("/bin/sh", "-c", script), given, **more)  # type: ignore[arg-type]
