"""Every place where fetches run, made alike: two seats, real fetches, a cache below the given root.

Another place is added by a line in `FARMS`; tests/contract/test_farms.py then holds for it too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from stager.cache.store import FileCache
from stager.farm.base import Emit, Farm
from stager.model.events import JobSignal
from stager.model.fetches import Failed, FetchOrder, FetchRequest, Ready, Signal
from stager.model.records import Position
from stager.settings import Settings
from stager.wiring import build_cache
from stager.wiring.farms import build_farm
from stager.wiring.hearing import build_hearing
from stager.wiring.here import aio_farm, process_farm, thread_farm
from tests.support.farm import WorkerProcess
from tests.support.valkey import Valkey

PATIENCE = 60.0
"""Seconds after which a test that waits for something is a failure."""
SEATS = 2


def settings_for(root: Path, **given: object) -> Settings:
    return Settings.model_validate(
        {"cache_dir": root / "cache", "state_dir": root / "state", "fetch_threads": SEATS, **given}
    )


def cache_of(root: Path) -> FileCache:
    """The cache that a farm with this root fills."""
    return build_cache(settings_for(root))


@contextmanager
def threads(root: Path, emit: Emit) -> Iterator[Farm]:
    with ExitStack() as made:
        farm = thread_farm(settings_for(root), cache_of(root), emit, made)
        made.callback(farm.close)
        yield farm


@contextmanager
def process(root: Path, emit: Emit) -> Iterator[Farm]:
    farm = process_farm(settings_for(root), cache_of(root), emit)
    try:
        yield farm
    finally:
        farm.close()


@contextmanager
def aio(root: Path, emit: Emit) -> Iterator[Farm]:
    farm = aio_farm(settings_for(root), cache_of(root), emit)
    try:
        yield farm
    finally:
        farm.close()


@contextmanager
def celery(root: Path, emit: Emit) -> Iterator[Farm]:
    """One worker process with a thread per seat, a Redis, and this process in the place of the server."""
    with ExitStack() as made:
        redis = made.enter_context(Valkey(root / "redis"))
        settings = settings_for(root, farm="celery", redis_url=redis.url, lease_seconds=5)
        hearing = build_hearing(settings, made)
        assert hearing is not None
        farm = build_farm(settings, cache_of(root), emit, hearing, made)

        def deliver(signals: Sequence[Signal | JobSignal], _: Position) -> None:
            for signal in signals:
                if isinstance(signal, Signal):
                    emit(signal)

        hearing.start(None, deliver)
        environment = redis.environment() | {
            "STAGER_CACHE_DIR": str(settings.cache_dir),
            "STAGER_STATE_DIR": str(settings.state_dir),
            "STAGER_LEASE_SECONDS": "5",
        }
        worker = WorkerProcess(environment, root / "worker.log", threads=SEATS)
        made.callback(worker.end)
        yield farm


MakeFarm = Callable[[Path, Emit], AbstractContextManager[Farm]]
ENDING: dict[str, MakeFarm] = {"threads": threads, "process": process, "aio": aio}
"""Those whose tries end with this process."""
FARMS: dict[str, MakeFarm] = ENDING | {"celery": celery}


class Ear:
    """Hears signals, can wait for them, and can be slow or break.

    Attributes:
        heard: all signals so far.
        before: called with each signal before it counts as heard.
    """

    def __init__(self) -> None:
        self.heard: list[Signal] = []
        self.before: Callable[[Signal], None] = lambda _: None
        self._more = threading.Condition()

    def __call__(self, signal: Signal) -> None:
        self.before(signal)
        with self._more:
            self.heard.append(signal)
            self._more.notify_all()

    def wait_for(self, condition: Callable[[Ear], object]) -> None:
        with self._more:
            assert self._more.wait_for(lambda: condition(self), PATIENCE), self.heard

    def of(self, fetch: str) -> list[Signal]:
        return [signal for signal in self.heard if signal.fetch == fetch]

    def ends(self, fetch: str | None = None) -> list[Ready | Failed]:
        return [s for s in self.heard if isinstance(s, Ready | Failed) and fetch in {None, s.fetch}]

    def end(self, fetch: str, generation: int = 1) -> Ready | Failed:
        """How a try ended; waits for it."""

        def found(ear: Ear) -> list[Ready | Failed]:
            return [end for end in ear.ends(fetch) if end.generation == generation]

        self.wait_for(found)
        return found(self)[0]

    def ready(self, fetch: str, generation: int = 1) -> Ready:
        end = self.end(fetch, generation)
        assert isinstance(end, Ready), end
        return end

    def failed(self, fetch: str, generation: int = 1) -> Failed:
        end = self.end(fetch, generation)
        assert isinstance(end, Failed), end
        return end


def ordered(fetch: str, url: str, generation: int = 1, sha256: str | None = None) -> FetchOrder:
    return FetchOrder(fetch, generation, FetchRequest(url, sha256=sha256))
