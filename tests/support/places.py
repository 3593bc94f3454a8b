"""Places where jobs run, each ready to be made again over the same directories, as by a restarted server."""

from __future__ import annotations

import json
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Protocol, Self

from stager.cache.store import FileCache
from stager.clock import SystemClock
from stager.farm.tasks import TaskSender
from stager.mapper.dispatch.batch import BatchSystem
from stager.mapper.dispatch.celery import CeleryDispatcher
from stager.mapper.dispatch.command import CommandDispatcher
from stager.mapper.dispatch.local import LocalDispatcher
from stager.mapper.dispatch.nearest import Nearest
from stager.mapper.dispatch.posting import Webhook
from stager.mapper.dispatch.runs import Outcome
from stager.mapper.dispatch.signing import read_secret
from stager.mapper.dispatch.webhook import WebhookDispatcher
from stager.mapper.ports import JobPlace
from stager.model.backoff import RetryPolicy
from stager.model.events import DispatchInput, DispatchOrder, JobEnded, JobSignal
from stager.model.fetches import Signal
from stager.model.records import Position
from stager.signals.connection import RedisAddress
from stager.signals.holdings import Holdings
from stager.signals.jobs import JobBook
from stager.signals.roster import Roster
from stager.signals.stream import StreamReader
from tests.support.batch.site import Site
from tests.support.farm import WorkerProcess
from tests.support.receiver import ReceiverProcess
from tests.support.valkey import Valkey

PATIENCE = 60.0


class Heard:
    """What a place told, in order."""

    def __init__(self) -> None:
        self.signals: list[JobSignal] = []
        self._changed = threading.Condition()

    def __call__(self, signal: JobSignal) -> None:
        with self._changed:
            self.signals.append(signal)
            self._changed.notify_all()

    def wait_for(self, kind: type[JobSignal], count: int = 1) -> JobSignal:
        """The `count`-th signal of that kind."""

        def found() -> list[JobSignal]:
            return [s for s in self.signals if isinstance(s, kind)]

        with self._changed:
            assert self._changed.wait_for(lambda: len(found()) >= count, PATIENCE), (
                f"heard only {self.signals}"
            )
            return found()[count - 1]

    def ended(self, count: int = 1) -> JobEnded:
        signal = self.wait_for(JobEnded, count)
        assert isinstance(signal, JobEnded)
        return signal

    def kinds(self) -> list[str]:
        with self._changed:
            return [type(signal).__name__ for signal in self.signals]


def until(condition: Callable[[], object]) -> None:
    """Wait for what happens in another process."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def order(
    script: str,
    *inputs: DispatchInput,
    job: str = "job1",
    epoch: int = 1,
    results: tuple[str, ...] = (),
    name: str = "a name; with $(words)",
) -> DispatchOrder:
    """A job that runs a line of shell."""
    command = ("/bin/sh", "-c", script)
    return DispatchOrder(job, epoch, name, command, (("MODE", "it's \n$HOME"),), inputs, results, "ada")


class Closing(JobPlace, Protocol):
    """A place that can be closed, as all are."""

    def close(self) -> None: ...


class Place(ABC):
    """A kind of place.

    Args:
        root: where everything is kept.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cache = FileCache(root / "cache")
        self.heard = Heard()
        self.made = ExitStack()

    def new(self, emit: Callable[[JobSignal], None] | None = None) -> Closing:
        """A dispatcher; another one on the same directories is a restart."""
        dispatcher = self.make(emit or self.heard)
        self.made.callback(dispatcher.close)
        return dispatcher

    @abstractmethod
    def make(self, emit: Callable[[JobSignal], None]) -> Closing: ...

    def close(self) -> None:
        self.made.close()


class LocalPlace(Place):
    """Processes of this machine."""

    def make(self, emit: Callable[[JobSignal], None]) -> LocalDispatcher:
        return LocalDispatcher(self.cache, self.root / "runs", emit, grace_seconds=0.3)


class CommandPlace(Place):
    """A batch system."""

    system = "slurm"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.site = Site(root / "site")
        self.made.callback(self.site.close)
        path = os.environ["PATH"]
        os.environ["PATH"] = f"{self.site.bin}:{path}"
        self.made.callback(os.environ.__setitem__, "PATH", path)

    def make(self, emit: Callable[[JobSignal], None], **changed: str) -> CommandDispatcher:
        settings = self.site.example(self.system) | changed
        return CommandDispatcher(
            self.cache,
            self.root / "runs",
            emit,
            system=BatchSystem(
                submit=settings["dispatch_submit"],
                status=settings["dispatch_status"],
                cancel=settings["dispatch_cancel"],
            ),
            poll_seconds=0.05,
            grace_seconds=0.3,
            retry=RetryPolicy(attempts=3, first_seconds=0.01),
        )


class WebhookPlace(Place):
    """Another job server: the receiver of the documentation, which reports to what stands for the API."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.current: WebhookDispatcher | None = None
        self.made.callback(lambda: setattr(self, "current", None))
        self.api = self.made.enter_context(ReportsTo(self))
        self.receiver = self.made.enter_context(ReceiverProcess(root, self.api.url, "token"))

    def make(self, emit: Callable[[JobSignal], None]) -> WebhookDispatcher:
        self.current = WebhookDispatcher(
            self.cache,
            self.root / "runs",
            emit,
            webhook=Webhook(self.receiver.url, read_secret(str(self.receiver.secret_file))),
            retry=RetryPolicy(attempts=3, first_seconds=0.01),
        )
        return self.current


class ReportsTo:
    """The route for reports without the rest of the API: 503 while no dispatcher is open."""

    def __init__(self, place: WebhookPlace) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                job, epoch = self.path.split("/")[-2:]
                status, current = 503, place.current
                if current is not None and not current._hand_overs._closed:
                    outcome = None
                    if body["state"] == "ended":
                        outcome = Outcome(body.get("exit_code"), body.get("error"), 0.0)
                    current.report(job, int(epoch), outcome)
                    status = 200
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class CeleryPlace(Place):
    """Compute workers of Celery: a real Redis and a real worker process."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.redis = self.made.enter_context(Valkey(root / "redis"))
        self.settings = {
            "STAGER_CACHE_DIR": str(root / "cache"),
            "STAGER_STATE_DIR": str(root / "state"),
            "STAGER_NODE": "node1",
            "STAGER_JOB_GRACE_SECONDS": "0.3",
            "STAGER_LEASE_SECONDS": "2",
            "STAGER_LOG_FORMAT": "text",
            "PYTHONWARNINGS": "default",
            **self.redis.environment(),
        }
        self.address = RedisAddress(self.redis.url)
        self.workers: list[WorkerProcess] = []
        self.made.callback(self._end_workers)
        self.position: Position | None = None

    def start_worker(self, *, threads: int = 4, **settings: str) -> WorkerProcess:
        """One more process that runs jobs."""
        name = f"w{len(self.workers) + 1}"
        log = self.root / "workers.log"
        worker = WorkerProcess(self.settings | settings, log, queue="work", name=name, threads=threads)
        self.workers.append(worker)
        return worker

    def make(self, emit: Callable[[JobSignal], None], **changed: float) -> CeleryPlaceDispatcher:
        if not self.workers:
            self.start_worker()
        return CeleryPlaceDispatcher(self, emit, **changed)

    def _end_workers(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill()


class CeleryPlaceDispatcher(CeleryDispatcher):
    """With an ear of its own, which goes on where that of the one before it ended, as the database has it.

    Args:
        place: whose Redis and cache it uses.
        emit: told of what comes by the stream as well.
        changed: other arguments of the dispatcher.
    """

    def __init__(self, place: CeleryPlace, emit: Callable[[JobSignal], None], **changed: float) -> None:
        super().__init__(
            place.cache,
            JobBook(place.address),
            TaskSender(place.address),
            emit,
            clock=SystemClock(),
            nearest=Nearest(Roster(place.address), Holdings(place.address)),
            **({"lost_seconds": 20.0} | changed),
        )

        def deliver(signals: Sequence[Signal | JobSignal], position: Position) -> None:
            self.heard(signals)
            place.position = position
            for signal in signals:
                if isinstance(signal, JobSignal):
                    emit(signal)

        self._reader = StreamReader(
            place.address,
            server="test",
            on_progress=lambda *_: None,
            on_emptied=self.emptied,
            on_jobs=self.alive,
        )
        self._reader.start(place.position, deliver)
        self._is_open = True

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._reader.close()
            super().close()


PLACES: list[type[Place]] = [LocalPlace, CommandPlace, WebhookPlace, CeleryPlace]
"""Every kind there is: the contract holds for each."""
