"""Work that a page starts, and totals that are counted aside."""

from __future__ import annotations

import threading
from collections.abc import Generator

import pytest

from stager.clock import ManualClock
from stager.errors import InputError, NotFoundError, StateError
from stager.model.catalogue import Selection, Totals
from stager.server.pages import errands as module
from stager.server.pages.errands import Errands
from stager.service.outlines import FRESH_SECONDS, Outlines
from tests.support.until import PATIENCE, until

NOTHING = Totals(0, 0, (), (), (), (), ())


def work(gate: threading.Event, ended: list[str]) -> Generator[int, None, str]:
    try:
        yield 1
        while not gate.wait(0.01):
            yield 2
    finally:
        ended.append("ended")
    return "result"


def test_an_errand_says_how_far_it_is_and_what_it_came_to() -> None:
    gate, ended = threading.Event(), list[str]()
    errands = Errands()
    errand = errands.begin("purge", {"host": "x"}, work(gate, ended))
    until(lambda: errand.progress == 2, "it is under way")
    assert errand.runs
    gate.set()
    assert errand.over.wait(PATIENCE)
    assert (errand.result, errand.error, ended) == ("result", None, ["ended"])
    assert errands.find(errand.name) is errand
    with pytest.raises(NotFoundError):
        errands.find("other")


def test_an_errand_that_fails_says_why_and_a_fault_of_ours_tells_nothing_of_the_inside() -> None:
    def fails(error: Exception) -> Generator[int, None, None]:
        yield 1
        raise error

    errands = Errands()
    for error, said in ((InputError("bad"), "bad"), (ZeroDivisionError("inside"), "internal error")):
        errand = errands.begin("purge", {}, fails(error))
        assert errand.over.wait(PATIENCE)
        assert errand.error is not None
        assert said in str(errand.error)
        assert "inside" not in str(errand.error)


def test_the_end_of_the_server_ends_errands_in_good_order() -> None:
    ended: list[str] = []
    errands = Errands()
    errand = errands.begin("purge", {}, work(threading.Event(), ended))
    errands.close()
    assert not errand.runs
    assert ended == ["ended"]
    assert "interrupted" in str(errand.error)


def test_errands_that_are_over_are_forgotten_one_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    gate, errands = threading.Event(), Errands()
    runs = errands.begin("verify", {}, work(gate, []))
    open_gate = threading.Event()
    open_gate.set()
    for _ in range(5):
        last = errands.begin("purge", {}, work(open_gate, []))
        assert last.over.wait(PATIENCE)
    assert len(errands._all) == 3
    assert errands.find(runs.name) is runs, "what runs is kept"
    gate.set()
    assert runs.over.wait(PATIENCE)


def test_totals_are_counted_aside_and_again_only_when_they_are_old() -> None:
    clock, gate, asked = ManualClock(), threading.Event(), list[Selection]()

    def count(selection: Selection) -> Totals:
        asked.append(selection)
        assert gate.wait(PATIENCE)
        return NOTHING

    outlines, everything, own = Outlines(count, clock), Selection(), Selection(owner="ada")
    assert outlines.of(everything) is None
    assert outlines.of(everything) is None
    gate.set()
    until(lambda: outlines.of(everything) is not None, "it is counted")
    assert asked == [everything]
    until(lambda: outlines.of(own) is not None, "the other is counted too")
    gate.clear()
    before = clock.now
    clock.advance(FRESH_SECONDS + 1)
    found = outlines.of(everything)
    assert found is not None
    assert found.at == before, "what is old is shown until there is something new"
    until(lambda: asked == [everything, own, everything], "it is counted again")
    gate.set()
    until(lambda: (now := outlines.of(everything)) is not None and now.at > before, "and shown")


def test_a_catalogue_that_can_not_be_read_leaves_the_page_without_totals() -> None:
    tried = threading.Event()

    def count(_: Selection) -> Totals:
        tried.set()
        raise StateError("broken")

    outlines = Outlines(count, ManualClock())
    assert outlines.of(Selection()) is None
    assert tried.wait(PATIENCE)
    assert outlines.of(Selection()) is None
