"""The next URL of a file is tried when one fails for good, and a wrong size is a failure."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from stager.errors import DigestMismatchError, OriginRefusedError
from stager.farm.crew import Brought
from stager.model.fetches import FetchRequest
from stager.service.batch import Missed, Moved, Report
from stager.service.mirrors import Mirrors, Wanted

SIZE = 7


def wanted(*names: str, size: int | None = None) -> Wanted:
    return Wanted(tuple(FetchRequest(f"http://h.test/{name}") for name in names), size)


def refused(url: str) -> OriginRefusedError:
    return OriginRefusedError(f"{url} is not there")


def brought(number: int) -> Brought:
    return Brought(
        number,
        "00",
        SIZE,
        f"/path/{number}",
        cached=False,
        seconds=0,
        received=SIZE,
        resumed_from=0,
        unproven=False,
    )


class Origins:
    """Have every file but those below /bad; report on the last one asked for first."""

    def __init__(self) -> None:
        self.rounds: list[list[str]] = []

    def fetch_all(self, requests: Sequence[FetchRequest]) -> Generator[Report, None, None]:
        names = [request.url.removeprefix("http://h.test/") for request in requests]
        self.rounds.append(names)
        for number in reversed(range(len(names))):
            if names[number].startswith("bad"):
                yield Missed(number, refused(names[number]))
            else:
                yield Moved(number, 1, SIZE)
                yield brought(number)


def test_files_are_asked_for_at_their_next_url_until_one_delivers_or_none_is_left() -> None:
    origins = Origins()
    files = [wanted("a"), wanted("bad1", "bad2", "c"), wanted("bad3"), wanted("bad4", "d")]
    mirrors = Mirrors(files, origins.fetch_all)
    ends = [report for report in mirrors.reports() if not isinstance(report, Moved)]
    assert origins.rounds == [["a", "bad1", "bad3", "bad4"], ["bad2", "d"], ["c"]]
    assert {end.number: type(end) for end in ends} == {0: Brought, 1: Brought, 2: Missed, 3: Brought}
    assert [len(mirrors.failures(number)) for number in range(4)] == [0, 2, 1, 1]
    assert mirrors.failures(1) == [refused("bad1"), refused("bad2")]


def test_a_file_of_another_size_than_listed_is_a_failure_and_its_next_url_is_tried() -> None:
    origins = Origins()
    mirrors = Mirrors([wanted("a", "b", size=SIZE + 1), wanted("c", size=SIZE)], origins.fetch_all)
    ends = {report.number: report for report in mirrors.reports() if not isinstance(report, Moved)}
    assert origins.rounds == [["a", "c"], ["b"]]
    assert isinstance(ends[1], Brought)
    missed = ends[0]
    assert isinstance(missed, Missed)
    assert isinstance(missed.error, DigestMismatchError)
    assert "http://h.test/b" in str(missed.error)
    assert "7 bytes, 8 are listed" in str(missed.error)


def test_nothing_to_fetch_is_no_round() -> None:
    origins = Origins()
    assert list(Mirrors([], origins.fetch_all).reports()) == []
    assert origins.rounds == []


def test_a_caller_that_stops_listening_ends_the_round() -> None:
    ended = []

    def fetch_all(_requests: Sequence[FetchRequest]) -> Generator[Report, None, None]:
        try:
            yield brought(0)
            yield brought(1)
        finally:
            ended.append(True)

    reports = Mirrors([wanted("a"), wanted("b")], fetch_all).reports()
    next(reports)
    reports.close()
    assert ended == [True]
