"""Whatever is killed while jobs are out with compute nodes: each runs once, and its end is told."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stager.errors import RunnerLostError
from stager.model.events import JobEnded, JobStarted
from stager.model.jobs import JobSpec, JobState
from stager.signals import keys
from tests.support.farm import Farm, until
from tests.support.places import CeleryPlace, order
from tests.support.places import until as happened


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    with Farm(tmp_path, STAGER_DISPATCH="celery", STAGER_FARM="threads") as running:
        yield running


@pytest.fixture
def place(tmp_path: Path) -> Iterator[CeleryPlace]:
    made = CeleryPlace(tmp_path)
    yield made
    made.close()


def script(root: Path) -> str:
    """Says that it runs, waits for the file ``go``, leaves a result."""
    return f"echo $STAGER_JOB_ID $PPID >> {root}/ran; until [ -e {root}/go ]; do sleep 0.05; done; echo > results/r"


def job(root: Path) -> JobSpec:
    return JobSpec(("/bin/sh", "-c", script(root)), ())


def ran(root: Path) -> list[str]:
    """Ids of the jobs that ran, once for each time."""
    path = root / "ran"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def kill_runners(root: Path) -> None:
    """What the node's own death does to those whose command is running."""
    for line in (root / "ran").read_text().splitlines():
        runner = int(line.split()[1])
        children = Path(f"/proc/{runner}/task/{runner}/children").read_text().split()
        os.kill(runner, signal.SIGKILL)
        for child in children:
            os.killpg(int(child), signal.SIGKILL)


def test_a_job_of_a_worker_that_was_killed_runs_on_and_the_next_worker_tells_its_end(
    farm: Farm, tmp_path: Path
) -> None:
    first = farm.start_worker(queue="work")
    with farm.server.client() as client:
        (one,) = client.jobs.submit([job(tmp_path)])
        until(lambda: client.jobs.show(one).state is JobState.RUNNING, "it runs")
        first.kill()
        farm.start_worker(queue="work")
        (tmp_path / "go").touch()
        done = client.jobs.wait(one, 60)
        assert (done.state, done.exit_code) == (JobState.DONE, 0)
        assert [result.name for result in client.results.list(one)] == ["r"]
    assert ran(tmp_path) == [one]


def test_a_job_that_ended_while_no_worker_was_there_is_told_by_the_next_one(
    farm: Farm, tmp_path: Path
) -> None:
    first = farm.start_worker(queue="work")
    with farm.server.client() as client:
        (one,) = client.jobs.submit([job(tmp_path)])
        until(lambda: client.jobs.show(one).state is JobState.RUNNING, "it runs")
        first.kill()
        (tmp_path / "go").touch()
        until(lambda: list((tmp_path / "state" / "nodes").rglob("*.exit")), "it ended")
        farm.start_worker(queue="work")
        assert client.jobs.wait(one, 60).state is JobState.DONE
    assert ran(tmp_path) == [one]


def test_jobs_that_go_on_keep_their_slots_on_the_node(farm: Farm, tmp_path: Path) -> None:
    first = farm.start_worker(queue="work")
    with farm.server.client() as client, farm.redis.client() as redis:
        jobs = client.jobs.submit([job(tmp_path) for _ in range(4)])
        until(lambda: len(ran(tmp_path)) == 4, "as many run as it has threads")
        first.kill()
        jobs += client.jobs.submit([job(tmp_path)])
        farm.start_worker(queue="work")
        until(lambda: redis.llen("work") == 0, "it took the task")
        at = time.monotonic() + 1.5
        until(lambda: len(ran(tmp_path)) > 4 or time.monotonic() > at, "it had time to start it")
        assert len(ran(tmp_path)) == 4
        (tmp_path / "go").touch()
        assert {client.jobs.wait(one, 60).state for one in jobs} == {JobState.DONE}
    assert sorted(ran(tmp_path)) == sorted(jobs)


def test_a_worker_that_is_told_to_end_does_so_at_once_and_its_job_runs_on(farm: Farm, tmp_path: Path) -> None:
    first = farm.start_worker(queue="work")
    with farm.server.client() as client:
        (one,) = client.jobs.submit([job(tmp_path)])
        until(lambda: client.jobs.show(one).state is JobState.RUNNING, "it runs")
        assert first.end() == 0
        farm.start_worker(queue="work")
        (tmp_path / "go").touch()
        assert client.jobs.wait(one, 60).state is JobState.DONE
    assert ran(tmp_path) == [one]


def test_a_job_whose_runner_died_with_the_worker_fails_when_the_node_is_back_and_is_not_run_again(
    farm: Farm, tmp_path: Path
) -> None:
    first = farm.start_worker(queue="work")
    with farm.server.client() as client:
        (one,) = client.jobs.submit([job(tmp_path)])
        until(lambda: client.jobs.show(one).state is JobState.RUNNING, "it runs")
        until(lambda: ran(tmp_path), "its command too")
        first.kill()
        kill_runners(tmp_path)
        farm.start_worker(queue="work")
        lost = client.jobs.wait(one, 60)
        assert lost.state is JobState.FAILED
        assert lost.error is not None
        assert lost.error["code"] == "runner-lost"
    assert ran(tmp_path) == [one]


def test_a_job_whose_node_does_not_come_back_is_lost_and_another_node_does_not_run_it(
    place: CeleryPlace, tmp_path: Path
) -> None:
    dispatcher = place.make(place.heard, lost_seconds=1.5)
    try:
        dispatcher.hand_over(order(script(tmp_path)))
        place.heard.wait_for(JobStarted)
        happened(lambda: ran(tmp_path))
        place.workers[0].kill()
        kill_runners(tmp_path)
        place.start_worker(STAGER_NODE="node2")
        ended = place.heard.ended()
        assert isinstance(ended.error, RunnerLostError)
        assert "node1" in ended.error.cause
        assert ran(tmp_path) == ["job1"]
        assert dispatcher.lost_nodes == 1
    finally:
        dispatcher.close()


def test_a_job_that_was_given_up_is_ended_when_its_node_is_back(place: CeleryPlace, tmp_path: Path) -> None:
    dispatcher = place.make(place.heard, lost_seconds=1.5)
    try:
        dispatcher.hand_over(order(script(tmp_path)))
        happened(lambda: ran(tmp_path))
        runner = int((tmp_path / "ran").read_text().split()[1])
        place.workers[0].kill()
        assert isinstance(place.heard.ended().error, RunnerLostError)
        dispatcher.clean_up("job1", 1)
        place.start_worker()
        happened(lambda: not Path(f"/proc/{runner}").exists())
        assert not (tmp_path / "go").exists()
        happened(lambda: not list((tmp_path / "state" / "nodes").rglob("*.json")))
    finally:
        dispatcher.close()


def test_no_job_is_lost_while_redis_is_away_for_longer_than_a_node_may_be_silent(
    place: CeleryPlace, tmp_path: Path
) -> None:
    dispatcher = place.make(place.heard, lost_seconds=5.0)
    try:
        dispatcher.hand_over(order(script(tmp_path)))
        happened(lambda: ran(tmp_path))
        os.kill(place.workers[0].process.pid, signal.SIGSTOP)
        place.redis.kill()
        back_at = time.monotonic() + 8.0
        happened(lambda: time.monotonic() > back_at)
        place.redis.start()
        back_at = time.monotonic()
        happened(lambda: dispatcher._tended_at > back_at)  # the server looks before the node can speak
        os.kill(place.workers[0].process.pid, signal.SIGCONT)
        (tmp_path / "go").touch()
        assert place.heard.ended().exit_code == 0
        assert ran(tmp_path) == ["job1"]
    finally:
        dispatcher.close()


def test_a_job_of_a_killed_process_is_looked_after_by_another_one_of_its_node_even_if_that_is_busy(
    place: CeleryPlace, tmp_path: Path
) -> None:
    place.start_worker(threads=1)
    dispatcher = place.make(place.heard, lost_seconds=6.0)
    try:
        dispatcher.hand_over(order(script(tmp_path)))
        happened(lambda: ran(tmp_path))
        place.start_worker(threads=2)
        dispatcher.hand_over(order(script(tmp_path), job="job2"))
        happened(lambda: "job2" in ran(tmp_path))
        place.workers[0].kill()
        dispatcher.hand_over(order(script(tmp_path), job="job3"))
        happened(lambda: "job3" in ran(tmp_path))
        until_at = time.monotonic() + 8.0
        happened(lambda: time.monotonic() > until_at or "JobEnded" in place.heard.kinds())
        (tmp_path / "go").touch()
        place.heard.ended(3)
        assert [s.exit_code for s in place.heard.signals if isinstance(s, JobEnded)] == [0, 0, 0]
        assert sorted(ran(tmp_path)) == ["job1", "job2", "job3"]
    finally:
        dispatcher.close()


def test_a_server_that_was_killed_hears_how_jobs_went_on_meanwhile(farm: Farm, tmp_path: Path) -> None:
    farm.start_worker(queue="work")
    with farm.server.client() as client:
        jobs = client.jobs.submit([job(tmp_path) for _ in range(6)])
        until(lambda: len(ran(tmp_path)) == 4, "four of them run")
    farm.server.kill()
    (tmp_path / "go").touch()
    until(lambda: len(ran(tmp_path)) == 6, "the others are taken without a server")
    farm.start_server()
    with farm.server.client() as client:
        assert {client.jobs.wait(one, 60).state for one in jobs} == {JobState.DONE}
    assert sorted(ran(tmp_path)) == sorted(jobs)


def test_redis_that_comes_back_empty_costs_no_job_and_runs_none_twice(farm: Farm, tmp_path: Path) -> None:
    farm.start_worker(queue="work")
    with farm.server.client() as client:
        jobs = client.jobs.submit([job(tmp_path) for _ in range(6)])
        until(lambda: len(ran(tmp_path)) == 4, "four run, two are queued")
        farm.redis.kill(empty=True)
        jobs += client.jobs.submit([job(tmp_path)])  # while there is no Redis
        (tmp_path / "go").touch()
        farm.redis.start()
        assert {client.jobs.wait(one, 60).state for one in jobs} == {JobState.DONE}
    assert sorted(ran(tmp_path)) == sorted(jobs)


def test_an_end_that_redis_lost_before_the_server_heard_it_is_told_again(farm: Farm, tmp_path: Path) -> None:
    farm.start_worker(queue="work")
    with farm.server.client() as client:
        (one,) = client.jobs.submit([job(tmp_path)])
        until(lambda: client.jobs.show(one).state is JobState.RUNNING, "it runs")
    farm.server.kill()
    with farm.redis.client() as redis:
        before = redis.xlen(keys.SIGNALS)
        (tmp_path / "go").touch()
        until(lambda: redis.xlen(keys.SIGNALS) > before, "its end is told")
    farm.redis.kill(empty=True)
    farm.redis.start()
    farm.start_server()
    with farm.server.client() as client:
        assert client.jobs.wait(one, 60).state is JobState.DONE
    assert ran(tmp_path) == [one]
