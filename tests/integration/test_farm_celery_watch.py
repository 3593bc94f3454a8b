"""How the server's side of a Celery farm keeps an eye on its orders: a real Redis, time by hand, no worker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from stager.clock import ManualClock
from stager.errors import HandedBackError, SignalsError, WorkerLostError
from stager.farm import sender
from stager.farm.base import Fetcher
from stager.farm.celery import SWEEP_SECONDS, UNTAKEN_SECONDS, CeleryFarm
from stager.farm.tasks import TaskSender
from stager.farm.worker import FetchWorker
from stager.model.fetches import Failed, FetchOrder, FetchRequest, Progress, Signal, Started
from stager.model.records import Position
from stager.signals import keys
from stager.signals.connection import RedisAddress
from stager.signals.fetches import FetchBook
from stager.signals.outbox import Outbox
from stager.signals.stream import StreamReader
from tests.support.farm import until
from tests.support.fetching import ScriptedFetch
from tests.support.valkey import Valkey

LEASE = 30.0


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Valkey]:
    with Valkey(tmp_path / "redis") as running:
        yield running


class Watched:
    """A farm whose thread tends when the test says so."""

    def __init__(self, redis: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sender, "FIRST_WAIT_SECONDS", 0.001)
        self.clock = ManualClock()
        self.heard: list[Signal] = []
        self.redis = redis
        address = RedisAddress(redis.url)
        self.book = FetchBook(address, lease_seconds=LEASE)
        self.farm = CeleryFarm(
            FetchBook(address, lease_seconds=LEASE),
            TaskSender(address),
            self.heard.append,
            lease_seconds=LEASE,
            clock=self.clock,
            locate=lambda sha256, **_: Path(sha256),
        )
        self.farm._sender._tend_seconds = 3600.0

    def give(self, *numbers: int, generation: int = 1) -> None:
        first, *then = [order(n, generation) for n in numbers]
        self.farm.start(first, then)
        until(lambda: all(self.book.knows(order(n, generation)) for n in numbers), "orders are written")

    def tend(self) -> None:
        self.farm._tend()

    def tasks(self) -> int:
        with self.redis.client() as client:
            return int(client.llen("fetch"))

    def close(self) -> None:
        self.farm.close(wait=False)
        self.book.close()


@pytest.fixture
def watched(redis: Valkey, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    made = Watched(redis, monkeypatch)
    yield made
    made.close()


def order(number: int, generation: int = 1) -> FetchOrder:
    return FetchOrder(f"f{number}", generation, FetchRequest(f"http://origin.test/{number}"))


def test_each_order_of_a_worker_that_is_silent_fails_to_be_gone_on_with(watched: Watched) -> None:
    watched.give(1, 2, 3)
    watched.farm.heard([Started("f1", 1), Started("f2", 1), Started("f3", 1)])
    watched.farm.alive([Progress("f1", 1, 5, None), Progress("f3", 1, 5, None, 5)], [])
    watched.clock.advance(LEASE - 1)
    watched.farm.alive([], [("f2", 1)])
    watched.clock.advance(2)
    watched.tend()
    failed = [signal for signal in watched.heard if isinstance(signal, Failed)]
    assert [signal.fetch for signal in failed] == ["f1", "f3"]
    assert all(isinstance(signal.error, WorkerLostError) for signal in failed)
    assert [signal.progressed for signal in failed] == [True, False]
    assert [watched.farm.holds(f"f{n}", 1) for n in (1, 2, 3)] == [False, True, False]


def test_an_order_that_waited_for_its_turn_when_its_worker_died_is_as_if_never_given(
    watched: Watched,
) -> None:
    watched.give(1, 2)
    watched.farm.heard([Started("f1", 1)])
    watched.farm.alive([], [("f1", 1), ("f2", 1)])
    watched.clock.advance(LEASE + 1)
    watched.tend()
    kinds = {s.fetch: type(s.error) for s in watched.heard if isinstance(s, Failed)}
    assert kinds == {"f1": WorkerLostError, "f2": HandedBackError}


def test_an_outage_of_redis_is_not_the_silence_of_workers(watched: Watched) -> None:
    watched.give(1, 2)
    watched.farm.heard([Started("f1", 1), Started("f2", 1)])
    watched.redis.kill()
    watched.clock.advance(LEASE * 3)
    with pytest.raises(SignalsError):
        watched.tend()
    watched.redis.start()
    watched.tend()
    assert not watched.heard
    assert watched.farm.holds("f1", 1)
    watched.clock.advance(LEASE + 1)
    watched.tend()
    assert len(watched.heard) == 2


def test_an_order_that_nobody_remembers_is_swept_and_its_next_generation_is_not(watched: Watched) -> None:
    watched.book.put([order(1, 1)])
    watched.clock.advance(SWEEP_SECONDS + 1)
    watched.tend()
    assert watched.book.tries() == []
    watched.give(1, generation=2)
    ((taken, unwanted),) = watched.book.take("w", [("f1", 2)])
    assert (taken.generation, unwanted) == (2, False)


def test_a_task_that_is_in_no_queue_and_was_not_taken_is_sent_again(watched: Watched) -> None:
    watched.give(1, 2)
    until(lambda: watched.tasks() == 1, "the task is in the queue")
    watched.clock.advance(UNTAKEN_SECONDS + 1)
    watched.tend()
    assert watched.tasks() == 1, "it is in the queue still"
    with watched.redis.client() as client:
        client.delete("fetch")
    watched.tend()
    assert watched.tasks() == 1
    assert watched.farm.lost_tasks == 1


def test_what_was_cancelled_is_cancelled_also_when_redis_has_come_back_empty(watched: Watched) -> None:
    watched.give(1, 2)
    watched.farm.cancel("f1", 1)
    with watched.redis.client() as client:
        until(lambda: client.exists(keys.CANCEL + "f1"), "the word is there")
        client.flushall()
    watched.farm.emptied()
    until(lambda: len(watched.book.tries()) == 2, "orders are written anew")
    until(lambda: watched.tasks() == 1, "the task is sent again")
    assert sorted((o.fetch, unwanted) for o, unwanted in watched.book.take("w", [("f1", 1), ("f2", 1)])) == [
        ("f1", True), ("f2", False),
    ]  # fmt: skip


def test_a_worker_whose_lease_another_has_tells_nothing(redis: Valkey) -> None:
    address = RedisAddress(redis.url)
    book = FetchBook(address, lease_seconds=LEASE)
    fetch = ScriptedFetch()
    worker = FetchWorker(
        cast("Fetcher", Scripted(fetch)), FetchBook(address, lease_seconds=LEASE), Outbox(address, "w1"), name="w1", lease_seconds=LEASE
    )  # fmt: skip
    book.put([order(1)])
    with fetch.held():
        running = threading.Thread(target=worker.run, args=([("f1", 1)],))
        running.start()
        fetch.wait_for(lambda f: f.running)
        with redis.client() as client:
            client.set(keys.LEASE + "f1", "1 w2")
        running.join(60)
    worker.close()
    with redis.client() as client:
        told = b"".join(fields[b"s"] for _, fields in client.xrange(keys.SIGNALS))
        assert client.get(keys.LEASE + "f1") == b"1 w2"
    assert b"started" in told
    assert b"failed" not in told
    book.close()


class Scripted:
    """A fetcher of scripted tries."""

    def __init__(self, fetch: ScriptedFetch) -> None:
        self._fetch = fetch

    def fetch(self, order: FetchOrder, **given: object) -> object:
        given.pop("received", None)
        return self._fetch(order, **given)  # type: ignore[arg-type]

    def announce(self, order: FetchOrder) -> None: ...
    def close(self) -> None: ...


def test_an_emptied_redis_is_told_of_once_and_heard_again_from_its_beginning(redis: Valkey) -> None:
    address = RedisAddress(redis.url)
    emptied, progress = [], []
    reader = StreamReader(
        address,
        server="s",
        on_progress=lambda reports, held: progress.append((reports, held)),
        on_emptied=lambda: emptied.append(1),
    )
    outbox = Outbox(address, "w")
    try:
        reader.start(Position("before", "9999999999999-0"), lambda *_: None)
        until(lambda: emptied, "it is told")
        with redis.client() as client:
            name = client.get(keys.STREAM)
            client.flushall()
            client.xadd(keys.PROGRESS, {"p": "[]", "h": '[["f1", 1]]'}, id="1-1")  # by a clock that is behind
            client.xadd(keys.SIGNALS, {"s": "[]"}, id="1-1")  # wakes the reader
        until(lambda: progress, "progress is heard from its beginning")
        with redis.client() as client:
            until(lambda: client.get(keys.STREAM) not in {None, name}, "it has a new name")
        assert emptied == [1, 1]
    finally:
        reader.close()
        outbox.close()
