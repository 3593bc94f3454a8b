"""Files spread over forked processes; the fetches are scripted, the processes are real."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stager.errors import FetchError, OriginRefusedError, StagerError
from stager.farm.base import FetchAhead
from stager.farm.crew import Brought
from stager.model.backoff import RetryPolicy
from stager.model.fetches import FetchOrder, FetchRequest, FetchResult
from stager.service.batch import Missed, Moved, Report
from stager.service.spread import fetch_spread
from tests.support.fetching import TransientError, result

Script = Callable[..., FetchResult]


class Scripted:
    """What a process makes after the fork: runs `script` for each order and notes who did it."""

    def __init__(self, directory: Path, script: Script, connections: int) -> None:
        self._directory = directory
        self._script = script
        self._seats = threading.Semaphore(connections)

    @property
    def fetch(self) -> FetchAhead:
        return self._fetch

    def announce(self, order: FetchOrder) -> None:
        pass

    def _fetch(self, order: FetchOrder, **options: Any) -> FetchResult:
        with (self._directory / "log").open("a") as log:  # one write of one line: whole
            log.write(f"{order.fetch} {order.generation} {os.getpid()}\n")
        with self._seats:
            return self._script(order, **options)

    def close(self) -> None:
        (self._directory / f"closed-{os.getpid()}").touch()


def ok(order: FetchOrder, **_: Any) -> FetchResult:
    return result(order)


def requests(count: int, origin: str = "origin.test") -> list[FetchRequest]:
    return [FetchRequest(f"http://{origin}/{number}") for number in range(count)]


def run(
    directory: Path, script: Script, asked: list[FetchRequest], *, processes: int = 2, **options: Any
) -> list[Report]:
    return list(fetch_spread(partial(Scripted, directory, script), asked, processes=processes, **options))


def log(directory: Path) -> list[tuple[int, int, int]]:
    lines = [line.split() for line in (directory / "log").read_text().splitlines()]
    return [(int(number), int(generation), int(pid)) for number, generation, pid in lines]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_every_file_is_brought_once_by_several_processes_which_then_end(tmp_path: Path) -> None:
    asked = requests(500)
    reports = run(tmp_path, ok, asked)
    assert sorted(report.number for report in reports) == list(range(500))
    for report in reports:
        assert isinstance(report, Brought)
        assert report.path == str(result(FetchOrder("", 1, asked[report.number])).path)
    done = log(tmp_path)
    assert sorted(number for number, _, _ in done) == list(range(500))
    pids = {pid for _, _, pid in done}
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert not any(alive(pid) for pid in pids)
    assert len(list(tmp_path.glob("closed-*"))) == 2


def test_what_fails_for_good_is_told_and_what_may_pass_is_tried_again(tmp_path: Path) -> None:
    def script(order: FetchOrder, **_: Any) -> FetchResult:
        number = int(order.fetch)
        if number == 3:
            raise OriginRefusedError("fetch of 3", cause="404", status=404)
        if number == 5 and order.generation < 3:
            raise TransientError("busy")
        if number == 7:
            raise TransientError("busy")
        if number == 9:
            raise ZeroDivisionError("of the test")
        return result(order)

    retry = RetryPolicy(attempts=3, first_seconds=0.001)
    reports = run(tmp_path, script, requests(20), retry=retry)
    missed = {report.number: report.error for report in reports if isinstance(report, Missed)}
    assert missed.keys() == {3, 7, 9}
    assert missed[3] == OriginRefusedError("fetch of 3", cause="404", status=404)
    assert "ZeroDivisionError: of the test" in str(missed[9])
    generations = {number: [g for n, g, _ in log(tmp_path) if n == number] for number in (3, 5, 7, 9)}
    assert generations == {3: [1], 5: [1, 2, 3], 7: [1, 2, 3], 9: [1]}


def test_progress_resets_the_count_of_tries(tmp_path: Path) -> None:
    def script(order: FetchOrder, **_: Any) -> FetchResult:
        if order.generation < 6:
            raise TransientError("broke", progressed=True)
        return result(order)

    (report,) = run(tmp_path, script, requests(1), retry=RetryPolicy(attempts=2, first_seconds=0.001))
    assert isinstance(report, Brought)


def test_a_killed_process_loses_no_file(tmp_path: Path) -> None:
    def script(order: FetchOrder, **_: Any) -> FetchResult:
        if order.fetch == "50" and not (tmp_path / "shot").exists():
            (tmp_path / "shot").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return result(order)

    reports = run(tmp_path, script, requests(200))
    assert sorted(report.number for report in reports if isinstance(report, Brought)) == list(range(200))
    assert len({pid for _, _, pid in log(tmp_path)}) == 3


def test_files_that_kill_every_process_are_given_up_and_cost_no_other(tmp_path: Path) -> None:
    def script(order: FetchOrder, **_: Any) -> FetchResult:
        if order.fetch in {"50", "51", "52"}:
            os.kill(os.getpid(), signal.SIGKILL)
        return result(order)

    reports = run(tmp_path, script, requests(100), processes=1)
    missed = [report for report in reports if isinstance(report, Missed)]
    assert sorted(report.number for report in missed) == [50, 51, 52]
    assert "signal 9" in str(missed[0].error)
    assert len(reports) == 100


def test_processes_that_never_get_to_work_end_the_whole_with_a_reason() -> None:
    def broken(_connections: int) -> Scripted:
        os._exit(3)

    with pytest.raises(FetchError, match="status 3"):
        list(fetch_spread(broken, requests(100), processes=2))


@pytest.mark.parametrize(("limit", "processes"), [(1, 2), (2, 2), (4, 2)])
def test_an_origin_sees_no_more_transfers_at_once_than_allowed(
    tmp_path: Path, limit: int, processes: int
) -> None:
    def script(order: FetchOrder, **_: Any) -> FetchResult:
        mine = tmp_path / f"on-{order.fetch}"
        mine.touch()
        on = len(list(tmp_path.glob("on-*")))
        with (tmp_path / "seen").open("a") as seen:
            seen.write(f"{on}\n")
        time.sleep(0.01)  # as a far origin: many threads would be worth it
        mine.unlink()
        return result(order)

    run(tmp_path, script, requests(60), processes=processes, origin_connections=limit)
    seen = [int(line) for line in (tmp_path / "seen").read_text().split()]
    assert max(seen) <= limit
    assert len(seen) == 60


def test_progress_within_a_file_is_told_when_asked_for(tmp_path: Path) -> None:
    moved = tmp_path / "moved"

    def script(order: FetchOrder, **options: Any) -> FetchResult:
        options["progress"](5, 10, 0)
        while not moved.exists():
            time.sleep(0.005)
        return result(order)

    reports = []
    with closing(
        fetch_spread(partial(Scripted, tmp_path, script), requests(1), processes=1, progress=True)
    ) as all_:
        for report in all_:
            reports.append(report)
            moved.touch()
    assert reports[0] == Moved(0, 5, 10)
    assert isinstance(reports[-1], Brought)


def test_closing_breaks_off_what_is_on_in_order(tmp_path: Path) -> None:
    def script(order: FetchOrder, **options: Any) -> FetchResult:
        if order.fetch == "0":
            return result(order)
        while not options["cancelled"]():
            time.sleep(0.005)
        (tmp_path / f"kept-{order.fetch}").touch()
        raise StagerError("cancelled")

    spread = fetch_spread(partial(Scripted, tmp_path, script), requests(50), processes=2)
    with closing(spread) as reports:
        next(reports)
    assert list(tmp_path.glob("kept-*"))
    assert len(list(tmp_path.glob("closed-*"))) == 2
    assert not any(alive(pid) for _, _, pid in log(tmp_path))
