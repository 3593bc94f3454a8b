from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from stager.errors import ConnectionFailedError, IllegalTransitionError, InputError
from stager.model.fetches import (
    FETCH_TRANSITIONS,
    Failed,
    FetchOrder,
    FetchRequest,
    FetchResult,
    FetchState,
    Progress,
    Ready,
    Signal,
    Started,
    check_fetch_transition,
)

DIGEST = "ab" * 32


def test_the_table_of_transitions_lists_every_state() -> None:
    assert set(FETCH_TRANSITIONS) == set(FetchState)


@pytest.mark.parametrize("old", FetchState)
@pytest.mark.parametrize("new", FetchState)
def test_a_transition_is_allowed_only_by_the_table(old: FetchState, new: FetchState) -> None:
    if new in FETCH_TRANSITIONS[old]:
        check_fetch_transition("f1", old, new)
    else:
        with pytest.raises(IllegalTransitionError) as refusal:
            check_fetch_transition("f1", old, new)
        assert refusal.value.details == {"fetch": "f1", "old": old, "new": new}


def test_a_fetch_that_is_not_at_its_end_can_still_be_brought_there() -> None:
    ends = {FetchState.READY, FetchState.FAILED, FetchState.CANCELLED}
    for state in FetchState:
        seen, waiting = {state}, [state]
        while waiting:
            fresh = FETCH_TRANSITIONS[waiting.pop()] - seen
            seen |= fresh
            waiting.extend(fresh)
        assert seen & ends


def test_requests_for_one_resource_are_equal() -> None:
    one = FetchRequest("HTTP://H:80/%7ea#x", sha256="SHA256:" + DIGEST.upper())
    assert one == FetchRequest("http://h/~a", sha256=DIGEST)
    assert one.key == "http://h/~a"
    assert len({one, FetchRequest("http://h/~a", sha256=DIGEST)}) == 1


@pytest.mark.parametrize(
    ("url", "sha256"),
    [("x", None), ("", None), (None, None), (b"http://h/a", None), (Path("/a"), None), ("http://h/a", ""), ("http://h/a", 5)],
)  # fmt: skip
def test_a_request_that_makes_no_sense_is_refused(url: Any, sha256: Any) -> None:
    with pytest.raises(InputError):
        FetchRequest(url, sha256=sha256)


@pytest.mark.parametrize(
    "signal",
    [
        Started("f", 1),
        Progress("f", 1, 5, None),
        Ready("f", 2, FetchResult("http://h/a", DIGEST, 7, Path("/c/o"), cached=False)),
        Failed("f", 2, ConnectionFailedError("x", url="http://h/a"), progressed=True),
    ],
)
def test_a_signal_survives_the_way_between_processes(signal: Signal) -> None:
    assert pickle.loads(pickle.dumps(signal)) == signal


def test_an_order_survives_the_way_between_processes() -> None:
    order = FetchOrder("f", 3, FetchRequest("http://h/a", sha256=DIGEST, refresh=True, priority=2))
    assert pickle.loads(pickle.dumps(order)) == order
