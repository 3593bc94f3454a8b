"""A hand-over that is out with Celery's workers, and its task."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass, field

from stager.farm.names import RUN_TASK, WORK_QUEUE
from stager.farm.tasks import Task
from stager.model.events import DispatchInput, DispatchOrder
from stager.signals.codec import job_order_to_json
from stager.signals.jobs import HandOverId


@dataclass(slots=True, eq=False)
class Given:
    """A hand-over that is out, and what is known of it.

    Attributes:
        job: its id.
        epoch: which hand-over of it.
        text: the order as JSON; empty: it is only to be stopped.
        shown: what people read of it.
        inputs: what it needs.
        heard_at: when it was given, or a sign of life came; monotonic seconds.
        is_new: no server before this one has sent its task.
        queue: where its task was put; empty: nowhere yet.
        sent_at: when; monotonic seconds.
        is_taken: a node looks after it, or did.
        is_started: and told so.
        is_stopped: it is to end.
        is_asked: its node was asked for it after it had been silent.
        is_looked_for: on the share, just now.
        request_id: as of the order.
    """

    job: str
    epoch: int
    text: str
    shown: str
    inputs: tuple[DispatchInput, ...]
    heard_at: float
    is_new: bool = False
    queue: str = ""
    sent_at: float = 0.0
    is_taken: bool = False
    is_started: bool = False
    is_stopped: bool = False
    is_asked: bool = False
    is_looked_for: bool = False
    request_id: str = ""

    @property
    def id(self) -> HandOverId:
        """Job and epoch."""
        return self.job, self.epoch

    def order_in(self, batch: Batch) -> None:
        """Have it sent."""
        batch.orders.append(self)


@dataclass(slots=True)
class Batch:
    """What is to be done in one trip: orders to send, hand-overs to cancel, those that are over, and the rest."""

    orders: list[Given] = field(default_factory=list)
    cancels: list[HandOverId] = field(default_factory=list)
    over: list[HandOverId] = field(default_factory=list)
    calls: list[Callable[[], None]] = field(default_factory=list)


Item = Callable[[Batch], None]
"""Puts itself into a batch."""


def given_of(order: DispatchOrder, now: float) -> Given:
    """A hand-over that goes out now."""
    shown = f"job {order.name or order.job}"
    return Given(
        order.job,
        order.epoch,
        job_order_to_json(order),
        shown,
        order.inputs,
        now,
        request_id=order.request_id,
    )


def task_of(given: Given) -> Task:
    """The task that says so to a worker: ids alone."""
    return Task(RUN_TASK, [given.job, given.epoch], given.queue or WORK_QUEUE, given.shown, given.request_id)


def id_of(message: bytes) -> HandOverId | None:
    """The hand-over that a message in one of Celery's queues is about; None: it is another task."""
    try:
        args, _, _ = json.loads(base64.b64decode(json.loads(message)["body"]))
        job, epoch = args
        return str(job), int(epoch)
    except (ValueError, TypeError, KeyError, binascii.Error):
        return None
