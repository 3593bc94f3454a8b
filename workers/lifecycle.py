"""What a worker process has: made at its start, given back at its end."""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from celery.signals import (
    celeryd_after_setup,
    setup_logging,
    worker_init,
    worker_shutdown,
    worker_shutting_down,
)
from kombu.entity import Exchange, Queue

from stager import __version__
from stager.cli.connect import logging_to_stderr
from stager.errors import SignalsError, StagerError
from stager.farm.names import QUEUES, WORK_QUEUE, node_queue
from stager.farm.worker import FetchWorker
from stager.mapper.dispatch.node import JobWorker
from stager.settings import current_settings
from stager.signals.roster import Roster, WorkerCard
from stager.wiring.names import node_name
from stager.wiring.node import JobWorkerParts
from stager.wiring.redis import redis_address
from stager.wiring.worker import FetchWorkerParts
from workers.celery import app

log = logging.getLogger(__name__)

PAUSE_SECONDS = 2.0
"""After a task that could not be done, before the thread takes another."""
ANNOUNCE_SECONDS = 10.0
"""Between two words that this worker is there."""

_made = ExitStack()
_parts: FetchWorkerParts | None = None
_jobs: JobWorkerParts | None = None
_slots = 1
_lock = threading.Lock()
_draining = threading.Event()
_ending = threading.Event()
_name = uuid.uuid4().hex[:8]


def said(work: Callable[[], str]) -> str:
    """Do a task's work; an error that is explained is one line in the log, and the server finds out."""
    try:
        return work()
    except StagerError as error:
        log.error("%s", error)  # noqa: TRY400 - it says all there is
        _ending.wait(PAUSE_SECONDS)  # the task comes again, and the cause is perhaps still there
        return str(error)


def fetch_worker() -> FetchWorker:
    """The one of this process; made when the first task comes."""
    global _parts  # noqa: PLW0603 - a process is one worker
    with _lock:
        if _parts is None:
            _parts = _made.enter_context(FetchWorkerParts(current_settings(), _name))
            if _draining.is_set():
                _parts.worker.drain()
        return _parts.worker


def job_worker() -> JobWorker:
    """The one of this process; made at its start, since there may be jobs that go on."""
    global _jobs  # noqa: PLW0603 - a process is one worker
    with _lock:
        if _jobs is None:
            _jobs = _made.enter_context(JobWorkerParts(current_settings(), _name, _slots))
        return _jobs.worker


def notes(task: str, node: str) -> Callable[[str], None]:
    """Says on the dashboard what the task, which this Celery node runs, is at."""

    def note(text: str) -> None:
        try:
            with app.events.default_dispatcher(hostname=node) as dispatcher:
                dispatcher.send("task-progress", uuid=task, result=text)
        except Exception as error:  # noqa: BLE001 - whatever it is: nobody needs a note to go on
            log.debug("note for the dashboard was not sent: %s", error)

    return note


def _log_to_stderr(**_: Any) -> None:
    settings = current_settings()
    _made.enter_context(logging_to_stderr(settings.log_level, settings.log_format))
    if settings.log_level != "debug":
        for chatty in ("celery.worker.strategy", "celery.app.trace"):  # two lines per task
            logging.getLogger(chatty).setLevel(logging.WARNING)


def _take_tasks_of_this_node(instance: Any, **_: Any) -> None:
    """Beside each queue of ours that the worker takes from, take from the one of its node."""
    queues = instance.app.amqp.queues
    for queue in QUEUES:
        if queue in queues.consume_from:
            own = node_queue(queue, node_name(current_settings()))
            exchange = Exchange(own, type="direct")  # type: ignore[no-untyped-call]
            queues.select_add(Queue(own, exchange, routing_key=own))  # type: ignore[no-untyped-call]


def _go_on_with_jobs(instance: Any, **_: Any) -> None:
    """A process before this one may have left some."""
    global _slots  # noqa: PLW0603
    _slots = int(instance.concurrency or 1)
    if WORK_QUEUE in instance.app.amqp.queues.consume_from:
        job_worker()


def _begin(sender: Any, **_: Any) -> None:
    global _name  # noqa: PLW0603
    _name = f"{sender.hostname}/{_name}"


def _appear(instance: Any, **_: Any) -> None:
    threading.Thread(target=_announce, args=(instance,), name="announce", daemon=True).start()


def _drain(**_: Any) -> None:
    """Transfers are broken off and given back, and the pool waits for that; jobs go on without us."""
    _draining.set()
    if _parts is not None:
        _parts.worker.drain()
    if _jobs is not None:
        _jobs.worker.drain()


def _end(**_: Any) -> None:
    _ending.set()
    _made.close()


def _announce(worker: Any) -> None:
    """Say now and then that this process is there."""
    settings = current_settings()
    roster = Roster(redis_address(settings))
    started = time.time()
    try:
        while True:
            queues = tuple(q for q in worker.app.amqp.queues.consume_from if q.partition(".")[0] in QUEUES)
            busy = sum(parts.worker.busy for parts in (_parts, _jobs) if parts is not None)
            threads = int(worker.concurrency or 1)
            node, now = node_name(settings), time.time()
            card = WorkerCard(_name, node, queues, os.getpid(), threads, busy, __version__, started, now)
            try:
                roster.announce(card)
            except SignalsError as error:  # Celery itself says that Redis is away
                log.debug("%s", error)
            if _ending.wait(ANNOUNCE_SECONDS):
                break
        roster.leave(_name)
    except SignalsError as error:
        log.debug("%s", error)
    finally:
        roster.close()


for signal, handler in (
    (setup_logging, _log_to_stderr),
    (celeryd_after_setup, _take_tasks_of_this_node),
    (celeryd_after_setup, _go_on_with_jobs),
    (celeryd_after_setup, _appear),
    (worker_init, _begin),
    (worker_shutting_down, _drain),
    (worker_shutdown, _end),
):
    signal.connect(handler)
