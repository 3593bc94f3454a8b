"""What is handed over arrives in order, whatever goes wrong on the way, and one bad item stops no other."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from stager.errors import SignalsError
from stager.farm import sender as module
from stager.farm.sender import Sender
from stager.model.backoff import outage_wait

PATIENCE = 60.0


class Place:
    """Takes items; is away as often as it is told."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.away = 0
        self.tended = threading.Event()
        self.changed = threading.Condition()

    def send(self, items: Sequence[str]) -> None:
        with self.changed:
            if self.away:
                self.away -= 1
                raise SignalsError("away")
            if "bad" in items:
                raise ZeroDivisionError
            self.taken += items
            self.changed.notify_all()

    def tend(self) -> None:
        self.tended.set()

    def wait_for(self, items: list[str]) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.taken == items, PATIENCE), self.taken


@contextmanager
def sending(place: Place, tend_seconds: float = 60.0) -> Iterator[Sender[str]]:
    sender = Sender(place.send, place.tend, tend_seconds=tend_seconds, name="test")
    try:
        yield sender
    finally:
        sender.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT_SECONDS", 0.001)


def test_items_go_in_order_and_are_sent_again_until_they_are_taken() -> None:
    place = Place()
    place.away = 3
    with sending(place) as sender:
        sender.put(["a", "b"])
        sender.put(["c"])
        place.wait_for(["a", "b", "c"])


def test_an_item_that_breaks_is_given_up_and_the_others_go(caplog: pytest.LogCaptureFixture) -> None:
    place = Place()
    with sending(place) as sender:
        sender.put(["a", "bad", "b"])
        place.wait_for(["a", "b"])
        sender.put(["c"])
        place.wait_for(["a", "b", "c"])
    assert "given up: 'bad'" in caplog.text


def test_what_is_left_is_sent_before_the_end() -> None:
    place = Place()
    sender = Sender(place.send, place.tend, tend_seconds=60.0, name="test")
    sender.put(["a"])
    sender.close(PATIENCE)
    assert place.taken == ["a"]


def test_it_tends_while_nothing_is_to_be_sent() -> None:
    place = Place()
    with sending(place, 0.01):
        assert place.tended.wait(PATIENCE)


def test_an_outage_of_days_is_waited_out() -> None:
    assert [outage_wait(n, 0.1, 5.0) for n in (1, 2, 3, 7, 100_000)] == [0.1, 0.2, 0.4, 5.0, 5.0]
