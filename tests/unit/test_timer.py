from __future__ import annotations

import logging
import threading

import pytest

from stager.clock import SystemClock
from stager.service.timer import ThreadTimer
from tests.support.fetching import PATIENCE


def test_calls_are_made_in_the_order_of_their_times() -> None:
    timer, clock, made, done = ThreadTimer(), SystemClock(), list[str](), threading.Event()
    now = clock.monotonic()
    timer.call_at(now + 0.03, done.set)
    timer.call_at(now + 0.02, lambda: made.append("later"))
    timer.call_at(now + 0.01, lambda: made.append("sooner"))
    assert done.wait(PATIENCE)
    timer.close()
    assert made == ["sooner", "later"]


def test_a_call_that_breaks_is_logged_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    timer, done = ThreadTimer(), threading.Event()

    def breaks() -> None:
        raise ValueError("of the test")

    with caplog.at_level(logging.ERROR):
        timer.call_at(0, breaks)
        timer.call_at(1, done.set)
        assert done.wait(PATIENCE)
        timer.close()
    assert "of the test" in caplog.text


def test_close_forgets_what_was_not_called_and_ends_the_thread() -> None:
    timer, made = ThreadTimer(), list[int]()
    timer.call_at(SystemClock().monotonic() + 3600, lambda: made.append(1))
    timer.close()
    timer.call_at(0, lambda: made.append(2))
    assert made == []
    assert not any(t.name == "timer" for t in threading.enumerate())


def test_a_call_may_close_the_timer() -> None:
    timer, done = ThreadTimer(), threading.Event()
    timer.call_at(0, lambda: (timer.close(), done.set()))  # type: ignore[func-returns-value,arg-type]
    assert done.wait(PATIENCE)
    timer.close()
