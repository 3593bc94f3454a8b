"""A worker process of a node without a share, on the real dispatcher; the server and Redis are scripted."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from stager.cache.store import FileCache
from stager.mapper.dispatch import away, node
from stager.mapper.dispatch.node import JobWorker
from stager.model.events import DispatchInput, DispatchOrder, JobEnded, JobRefused, JobSignal
from stager.signals.codec import job_order_to_json
from stager.signals.jobs import Found, HandOverId, News
from tests.support.until import until

DATA = b"input"
INPUT = DispatchInput("in", sha256(DATA).hexdigest(), len(DATA), "f1")


class Book:
    """The orders, as Redis has them."""

    def __init__(self, order: DispatchOrder) -> None:
        self.order = order

    def find(self, _: HandOverId) -> Found:
        return Found(job_order_to_json(self.order), cancelled=False, stream="s")

    def look(self, _: Sequence[HandOverId]) -> News:
        return News({(self.order.job, self.order.epoch)}, set(), "s")

    def close(self) -> None:
        pass


class Outbox:
    """What was told."""

    def __init__(self) -> None:
        self.told: list[JobSignal] = []

    def tell(self, signal: JobSignal) -> None:
        self.told.append(signal)

    def progress(self, **_: Any) -> None:
        pass

    def close(self, _: float) -> None:
        pass

    def last(self) -> JobSignal | None:
        """The end, when there is one."""
        ends = [one for one in self.told if isinstance(one, JobEnded | JobRefused)]
        return ends[-1] if ends else None


class AnyServer:
    """Gives every claim; takes results, after it raised these errors once each."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.node: str | None = None

    def claim(self, _job: str, _epoch: int, node: str) -> str:
        self.node = node
        return node

    def holder(self, _job: str, _epoch: int) -> str | None:
        return self.node

    def deliver(self, _order: DispatchOrder, _ended: JobEnded, _given_up: Callable[[], bool]) -> bool:
        if self.errors:
            raise self.errors.pop(0)
        return True


class Rig:
    """One node; the workers that a test starts there, one after the other."""

    def __init__(self, root: Path, made: ExitStack) -> None:
        self.root = root
        self.made = made
        self.cache = FileCache(root / "near")
        self.outbox = Outbox()

    def worker(self, order: DispatchOrder, server: AnyServer, fill: Any = None) -> JobWorker:
        worker = JobWorker(
            self.cache,
            self.root / "node",
            Book(order),  # type: ignore[arg-type]
            self.outbox,  # type: ignore[arg-type]
            node="node1",
            slots=1,
            lease_seconds=60.0,
            grace_seconds=1.0,
            fill=fill,
            server=server,
        )
        self.made.callback(worker.close)
        return worker

    def run(self, worker: JobWorker) -> threading.Thread:
        thread = threading.Thread(target=worker.run, args=("j", 1), daemon=True)
        thread.start()
        return thread


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(away, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(node, "AGAIN_SECONDS", 0.01)
    with ExitStack() as made:
        yield Rig(tmp_path, made)


def order(*inputs: DispatchInput) -> DispatchOrder:
    return DispatchOrder("j", 1, "name", ("true",), (), inputs, ())


def test_a_disk_that_can_not_be_read_for_a_while_does_not_keep_the_end_of_a_job(rig: Rig) -> None:
    server = AnyServer(OSError(errno.EIO, "no luck"), OSError(errno.EMFILE, "too many"))
    rig.run(rig.worker(order(), server))
    until(rig.outbox.last, "the end is told")
    end = rig.outbox.last()
    assert isinstance(end, JobEnded)
    assert (end.exit_code, end.error, server.errors) == (0, None, [])


class Fill:
    """Brings nothing until it is told to; counts how often it was asked."""

    def __init__(self, cache: FileCache, lost: str = "") -> None:
        self.cache = cache
        self.lost = {lost} if lost else set()
        self.asked = 0
        self.may_bring = False

    def __call__(self, inputs: Sequence[DispatchInput], _: Callable[[], bool]) -> set[str]:
        self.asked += 1
        if self.may_bring:
            for item in inputs:
                self.cache.put(f"k:{item.sha256}", DATA)
        return self.lost


def test_a_job_waits_for_inputs_that_can_not_be_brought_now(rig: Rig) -> None:
    fill = Fill(rig.cache)
    rig.run(rig.worker(order(INPUT), AnyServer(), fill))
    until(lambda: fill.asked >= 3, "it asks again")
    assert rig.outbox.told == []
    fill.may_bring = True
    until(rig.outbox.last, "the end is told")
    end = rig.outbox.last()
    assert isinstance(end, JobEnded)
    assert (end.exit_code, end.error) == (0, None)


def test_a_job_is_refused_when_an_input_will_not_come(rig: Rig) -> None:
    rig.run(rig.worker(order(INPUT), AnyServer(), Fill(rig.cache, INPUT.sha256)))
    until(rig.outbox.last, "the end is told")
    assert rig.outbox.last() == JobRefused("j", 1, ("f1",))


def test_a_job_that_waits_for_inputs_is_gone_on_with_by_the_next_process(rig: Rig) -> None:
    server, fill = AnyServer(), Fill(rig.cache)
    first = rig.worker(order(INPUT), server, fill)
    thread = rig.run(first)
    until(lambda: fill.asked, "it asks")
    first.close()
    thread.join(60)
    assert not thread.is_alive()
    assert rig.outbox.told == []
    fill.may_bring = True
    rig.worker(order(INPUT), server, fill)
    until(rig.outbox.last, "the end is told")
    end = rig.outbox.last()
    assert isinstance(end, JobEnded)
    assert (end.exit_code, end.error) == (0, None)
