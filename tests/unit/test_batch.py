from __future__ import annotations

from contextlib import closing

from stager.errors import OriginRefusedError
from stager.farm.crew import Brought
from stager.model.fetches import FetchRequest
from stager.service.batch import Missed, Moved, fetch_here
from stager.service.fetching import FetchService
from tests.support.fetching import ScriptedFetch

A, B = "http://origin.test/a", "http://origin.test/b"


def test_each_request_ends_in_one_report_and_the_service_is_closed() -> None:
    refused = OriginRefusedError("404")
    fetch = ScriptedFetch({B: [refused]})
    reports = list(fetch_here(FetchService(fetch=fetch), [FetchRequest(A), FetchRequest(B)]))
    by_number = {report.number: report for report in reports}
    assert isinstance(by_number[0], Brought)
    assert by_number[1] == Missed(1, refused)
    assert len(reports) == 2


def test_progress_and_ticks_come_while_nothing_is_done() -> None:
    fetch, ticks = ScriptedFetch(), list[int]()
    with fetch.held():
        reports = fetch_here(FetchService(fetch=fetch), [FetchRequest(A)], lambda: ticks.append(1))
        assert next(reports) == Moved(0, 3, 7)
    assert [type(report) for report in reports] == [Brought]
    assert ticks


def test_closing_gives_up_what_is_not_done() -> None:
    fetch = ScriptedFetch()
    with fetch.held(), closing(fetch_here(FetchService(fetch=fetch), [FetchRequest(A)])) as reports:
        next(reports)
    assert fetch.cancelled == [A]
