"""What is told over Redis arrives as it was told, and nonsense does not arrive at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from stager.errors import CommandFailedError, OriginBusyError
from stager.model.events import (
    DispatchInput,
    DispatchOrder,
    JobEnded,
    JobRefused,
    JobResult,
    JobSignal,
    JobStarted,
)
from stager.model.fetches import (
    Failed,
    FetchOrder,
    FetchRequest,
    FetchResult,
    Progress,
    Ready,
    Signal,
    Started,
)
from stager.signals.codec import (
    fetch_order_from_json,
    fetch_order_to_json,
    job_order_from_json,
    job_order_to_json,
    signals_from_json,
    signals_to_json,
)

RESULT = FetchResult(
    "", "a" * 64, 7, "", cached=False, seconds=0.5, received=5, resumed_from=2, fresh_until=9.0
)
BUSY = OriginBusyError(
    "http://h/x can't be fetched", cause="503", remedy="wait", retry_after=3, url="http://h/x"
)
SIGNALS: list[Signal | JobSignal] = [
    Started("f", 1),
    Progress("f", 1, 5, None, 2),
    Progress("f", 1, 5, 7),
    Ready("f", 2, RESULT),
    Failed("f", 3, BUSY, progressed=True),
    JobStarted("j", 1),
    JobRefused("j", 1, ("f1", "f2")),
    JobEnded("j", 2, 0, None, (JobResult("a/b", "b" * 64, 3),), 1.5),
    JobEnded("j", 2, None, CommandFailedError("no", cause="why")),
]


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda s: type(s).__name__)
def test_a_signal_comes_back_as_it_went(signal: Signal | JobSignal) -> None:
    assert signals_from_json(signals_to_json([signal])) == [signal]


def test_several_keep_their_order() -> None:
    assert signals_from_json(signals_to_json(SIGNALS)) == SIGNALS


def test_no_url_goes_with_a_result() -> None:
    result = FetchResult("http://h/x?sig=secret", "a" * 64, 7, Path("/cache/x"), cached=False)
    assert "secret" not in signals_to_json([Ready("f", 1, result)])
    assert "/cache" not in signals_to_json([Ready("f", 1, result)])


def test_a_kind_that_a_newer_version_sends_is_passed_over() -> None:
    assert signals_from_json('[["new-kind", "f", 1, 2, 3], ["started", "f", 1]]') == [Started("f", 1)]


@pytest.mark.parametrize("text", ["", "{", "1", '[["ready", "f", 1, []]]'])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - JSON's own is one
        signals_from_json(text)


def test_an_entry_of_the_wrong_shape_is_passed_over() -> None:
    assert signals_from_json('[["failed", "f", 1, 5, true], ["job-ended", "j", 1, 0, 5, [], 1]]') == []


def test_orders_come_back_as_they_went() -> None:
    order = FetchOrder("f", 3, FetchRequest("http://h/x", sha256="a" * 64, refresh=True, priority=-2))
    assert fetch_order_from_json("f", fetch_order_to_json(order)) == order
    request = FetchRequest(
        "http://h/x", digest=f"sha512:{'b' * 128}", mirrors=("http://m/x", "https://n/x"), size=7, owner="ada"
    )
    assert fetch_order_from_json("f", fetch_order_to_json(FetchOrder("f", 1, request))).request == request
    job = DispatchOrder(
        "j", 2, "name", ("sh", "-c", "true"), (("A", "1"),), (DispatchInput("x", "b" * 64, 3, "f"),), ("*",), "ada"
    )  # fmt: skip
    assert job_order_from_json(job_order_to_json(job)) == job
