"""The same server command with every place on this machine where fetches can run."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from stager.model.jobs import JobInput, JobSpec, JobState
from tests.support.origin import Origin, content
from tests.support.processes import PATIENCE, ServerProcess

LARGE = Random(41).randbytes(6_000_000)
CUT = 5_000_000
FARMS = ["threads", "process", "aio"]


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def job(*urls: str) -> JobSpec:
    return JobSpec(
        ("/bin/sh", "-c", "cat inputs/* | wc -c > results/n"), tuple(map(JobInput, urls)), results=("n",)
    )


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()  # a child belongs to the thread that started it
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ")
    except FileNotFoundError:
        return ""


@pytest.mark.parametrize("farm", FARMS)
def test_a_job_runs_with_its_inputs_and_a_transfer_is_gone_on_with_after_a_kill(
    tmp_path: Path, origin: Origin, farm: str
) -> None:
    large = origin.serve(
        "/large.nxs", content(LARGE, etag='"1"', cut=CUT, end="hold"), content(LARGE, etag='"1"')
    )
    small = origin.serve("/small.dat", content(b"0.01 1.0\n"))
    with ServerProcess(tmp_path, STAGER_FARM=farm) as server:
        with server.client() as client:
            (first,) = client.jobs.submit([job(small)])
            assert client.jobs.wait(first, PATIENCE).state is JobState.DONE
            (second,) = client.jobs.submit([job(small, large)])
            until(lambda: sum(p.stat().st_size for p in (tmp_path / "cache/partial").rglob("*.part")))
        fetching = [pid for pid in children(server.pid) if "fetch-process" in command_of(pid)]
        assert len(fetching) == (farm == "process")
        server.kill()
    until(lambda: not any("fetch-process" in command_of(pid) for pid in fetching))
    with ServerProcess(tmp_path, STAGER_FARM=farm) as server:
        with server.client() as client:
            assert client.jobs.wait(second, PATIENCE).state is JobState.DONE
            with closing(client.results.read(second, "n")) as blocks:
                assert int(b"".join(blocks)) == len(LARGE) + 9
        assert server.end() == 0
    again = origin.seen("/large.nxs")[1]
    assert int(again.headers["range"].removeprefix("bytes=").removesuffix("-")) > 0


def test_a_job_does_not_notice_that_the_process_that_fetches_for_it_was_killed(
    tmp_path: Path, origin: Origin
) -> None:
    large = origin.serve(
        "/large.nxs", content(LARGE, etag='"1"', cut=CUT, end="hold"), content(LARGE, etag='"1"')
    )
    with ServerProcess(tmp_path, STAGER_FARM="process") as server, server.client() as client:
        (name,) = client.jobs.submit([job(large)])
        until(lambda: sum(p.stat().st_size for p in (tmp_path / "cache/partial").rglob("*.part")))
        (fetching,) = [pid for pid in children(server.pid) if "fetch-process" in command_of(pid)]
        os.kill(fetching, signal.SIGKILL)
        assert client.jobs.wait(name, PATIENCE).state is JobState.DONE
        assert len(origin.seen("/large.nxs")) == 2
        assert "range" in origin.seen("/large.nxs")[1].headers
        assert server.end() == 0
    assert sum("the process that fetches ended" in line for line in server.said) == 1


@pytest.mark.parametrize("farm", FARMS)
def test_a_server_that_stops_ends_its_transfers_at_once_and_says_nothing_of_them(
    tmp_path: Path, origin: Origin, farm: str
) -> None:
    large = origin.serve("/large.nxs", content(LARGE, etag='"1"', cut=CUT, end="hold"))
    with ServerProcess(tmp_path, STAGER_FARM=farm, STAGER_LOG_LEVEL="warning") as server:
        with server.client() as client:
            client.jobs.submit([job(large)])
            origin.wait_for("/large.nxs")
        began = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - began < 40  # less than an origin may be silent
    (where,) = [line for line in server.said if "ready at" not in line]
    assert where.startswith("stager: the administrator's token is in ")  # it was made at this start


def test_the_server_says_how_origins_cope_and_that_nothing_had_to_be_put_right(
    tmp_path: Path, origin: Origin
) -> None:
    url = origin.serve("/run.nxs", content(b"data"))
    with ServerProcess(tmp_path) as server, server.client() as client:
        (job,) = client.jobs.submit([JobSpec(("true",), (JobInput(url),))])
        assert client.jobs.wait(job, PATIENCE).state is JobState.DONE
        (one,) = client.site.origins()
        assert (one.origin, one.recent_successes, one.limit) == (url.removesuffix("/run.nxs"), 1, one.maximum)
        status = client.site.status()
        assert (status["farm"], status["dispatch"], status["repairs"]) == ("threads", "local", {})
