"""Jobs on Celery compute workers: real processes, a real Redis, one host that plays several nodes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stager.cache.store import FileCache
from stager.errors import SignalsError
from stager.model.events import DispatchInput
from stager.model.jobs import JobInput, JobSpec, JobState
from stager.signals import keys
from tests.support.api import running_api
from tests.support.commandline import command
from tests.support.farm import Farm, until
from tests.support.origin import Origin, content
from tests.support.places import CeleryPlace, order
from tests.support.places import until as happened

SECRET = "canary-of-a-variable"


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    with Farm(tmp_path, STAGER_DISPATCH="celery", STAGER_FARM="threads") as running:
        yield running


def job(root: Path, script: str = "", *urls: str, name: str = "") -> JobSpec:
    """A job that says that it runs, then does what the script says."""
    command = ("/bin/sh", "-c", f"echo $STAGER_JOB_ID >> {root}/ran; {script}")
    return JobSpec(
        command, tuple(JobInput(url) for url in urls), name=name, environment=(("TOKEN_OF_MINE", SECRET),)
    )


def ran(root: Path) -> list[str]:
    """Ids of the jobs that ran, once for each time."""
    path = root / "ran"
    return path.read_text().split() if path.exists() else []


def whole(blocks: Iterator[bytes]) -> bytes:
    """All of a result or log."""
    return b"".join(blocks)


def gate(root: Path) -> str:
    """A script that waits for the file ``go``."""
    return f"until [ -e {root}/go ]; do sleep 0.05; done"


def test_a_job_runs_on_a_worker_with_its_inputs_and_nothing_is_left_over(
    farm: Farm, tmp_path: Path, origin: Origin
) -> None:
    url = origin.serve("/a.dat", content(b"abc", etag='"a"'))
    farm.start_worker(queue="work")
    with farm.server.client() as client:
        (one,) = client.jobs.submit([job(tmp_path, "cat inputs/a.dat; cp inputs/a.dat results/b.dat", url)])
        assert client.jobs.wait(one, 30).state is JobState.DONE
        done = client.jobs.show(one)
        assert (done.exit_code, [result.name for result in done.results]) == (0, ["b.dat"])
        assert whole(client.results.read(one, "b.dat")) == b"abc"
        assert whole(client.jobs.log(one, "stdout")) == b"abc"
    with farm.redis.client() as redis:
        until(lambda: not redis.exists(keys.JOBS), "the order is dropped")
        until(lambda: redis.xlen(keys.SIGNALS) == 0, "what is recorded is cut off")
    until(lambda: not list((tmp_path / "state" / "nodes").rglob("*.json")), "the node has forgotten it")
    until(lambda: not (tmp_path / "cache" / "jobs" / one / "inputs").exists(), "its inputs are gone")


def test_an_input_that_was_removed_before_a_node_took_the_job_is_fetched_again(
    farm: Farm, tmp_path: Path, origin: Origin
) -> None:
    url = origin.serve("/a.dat", content(b"abc", etag='"a"'))
    with farm.server.client() as client, farm.redis.client() as redis:
        (one,) = client.jobs.submit([job(tmp_path, "cat inputs/a.dat", url)])
        until(lambda: redis.llen("work"), "the task is in the queue")
        cache = FileCache(tmp_path / "cache")
        assert cache.remove(url)
        cache.close()
        farm.start_worker(queue="work")
        assert client.jobs.wait(one, 30).state is JobState.DONE
        assert whole(client.jobs.log(one, "stdout")) == b"abc"
        until(lambda: not redis.exists(keys.JOBS), "both orders are dropped")
    assert ran(tmp_path) == [one]
    assert len(origin.seen("/a.dat")) == 2


def test_neither_command_nor_variables_are_in_what_celery_and_its_log_see(farm: Farm, tmp_path: Path) -> None:
    with farm.server.client() as client, farm.redis.client() as redis:
        (one,) = client.jobs.submit([job(tmp_path, "true", name="reduce-7")])
        until(lambda: redis.llen("work"), "the task is in the queue")
        (message,) = redis.lrange("work", 0, -1)
        assert SECRET not in message.decode()
        assert "/bin/sh" not in message.decode()
        assert json.loads(message)["headers"]["argsrepr"] == "job reduce-7"
        worker = farm.start_worker(queue="work", STAGER_LOG_LEVEL="debug")
        assert client.jobs.wait(one, 30).state is JobState.DONE
    arguments = Path(f"/proc/{worker.process.pid}/cmdline").read_text()
    assert SECRET not in (tmp_path / "workers.log").read_text() + "\n".join(farm.server.said) + arguments


def test_a_job_that_waits_for_a_node_is_cancelled_at_once_and_never_starts(
    farm: Farm, tmp_path: Path
) -> None:
    with farm.server.client() as client, farm.redis.client() as redis:
        one, two = client.jobs.submit([job(tmp_path), job(tmp_path)])
        until(lambda: redis.llen("work") == 2, "both are in the queue")
        client.jobs.cancel(one)
        assert client.jobs.wait(one, 10).state is JobState.CANCELLED
        farm.start_worker(queue="work")
        assert client.jobs.wait(two, 30).state is JobState.DONE
        until(lambda: not redis.llen("work"), "both tasks were taken")
    assert ran(tmp_path) == [two]


def test_a_job_that_runs_is_ended_within_seconds_of_its_cancel(farm: Farm, tmp_path: Path) -> None:
    farm.start_worker(queue="work", STAGER_JOB_GRACE_SECONDS="0.3")
    with farm.server.client() as client:
        (one,) = client.jobs.submit([job(tmp_path, f"echo $$ > {tmp_path}/pid; {gate(tmp_path)}")])
        until((tmp_path / "pid").exists, "it runs")
        client.jobs.cancel(one)
        until(lambda: client.jobs.show(one).exit_code is not None, "it was ended", 10)
        assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def test_a_task_that_is_delivered_twice_to_two_nodes_runs_once(farm: Farm, tmp_path: Path) -> None:
    with farm.server.client() as client, farm.redis.client() as redis:
        (one,) = client.jobs.submit([job(tmp_path, gate(tmp_path))])
        until(lambda: redis.llen("work"), "the task is in the queue")
        (message,) = redis.lrange("work", 0, -1)
        for node in ("node1", "node2"):
            redis.lpush(f"work.{node}", message, message)
        farm.start_worker(queue="work", STAGER_NODE="node1")
        farm.start_worker(queue="work", STAGER_NODE="node2")
        until(lambda: ran(tmp_path), "it runs")
        until(lambda: not redis.exists("work", "work.node1", "work.node2"), "all were taken")
        for node in ("node1", "node2"):
            redis.lpush(f"work.{node}", message)
        until(lambda: f"job {one} is left to node" in farm.log(), "the other node has seen that it is taken")
        (tmp_path / "go").touch()
        assert client.jobs.wait(one, 30).state is JobState.DONE
    assert ran(tmp_path) == [one]


def test_tasks_that_the_broker_hands_out_again_do_no_harm(tmp_path: Path, origin: Origin) -> None:
    data = os.urandom(3 << 20)
    url = origin.serve("/large.dat", content(data, etag='"1"', pause=0.25))
    with (
        Farm(tmp_path, STAGER_DISPATCH="celery", STAGER_FARM="celery") as farm,
        farm.server.client() as client,
    ):
        for queue in ("work", "work", "fetch", "fetch"):
            node = f"node{len(farm.workers)}"
            farm.start_worker(queue=queue, app="tests.support.impatient", STAGER_NODE=node)
        (large,) = client.jobs.submit([job(tmp_path, "", url)])
        jobs = client.jobs.submit([job(tmp_path, gate(tmp_path)) for _ in range(10)])
        began = time.monotonic()
        until(lambda: len(ran(tmp_path)) >= 8, "both nodes are full")
        # Celery looks for what was not acknowledged every ten seconds.
        until(lambda: time.monotonic() > began + 12, "it was looked for")
        (tmp_path / "go").touch()
        assert {client.jobs.wait(one, 60).state for one in (large, *jobs)} == {JobState.DONE}
        assert origin.sent("/large.dat") == len(data)
    assert sorted(ran(tmp_path)) == sorted((large, *jobs))


def test_the_server_lists_its_workers(farm: Farm) -> None:
    worker = farm.start_worker(queue="work", STAGER_NODE="node1")
    with farm.server.client() as client:
        (one,) = client.site.workers().workers
        assert (one.node, one.queues, one.pid, one.threads) == (
            "node1",
            ["work", "work.node1"],
            worker.process.pid,
            4,
        )
        assert (client.site.status()["farm"], client.site.status()["dispatch"]) == ("threads", "celery")
    done = subprocess.run(
        command("workers"), env=os.environ | farm.settings, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\t")[1:4] == ["node1", "work,work.node1", str(worker.process.pid)]
    farm.redis.kill()
    with farm.server.client() as client, pytest.raises(SignalsError, match="can't be used"):
        client.site.workers()


def test_a_server_that_does_all_itself_lists_no_workers(tmp_path: Path) -> None:
    with running_api(tmp_path) as api:
        assert api("GET", "/v1/workers").json() == {"workers": [], "flower_url": ""}


def test_a_node_runs_as_many_jobs_as_it_has_threads(farm: Farm, tmp_path: Path) -> None:
    with farm.server.client() as client, farm.redis.client() as redis:
        jobs = client.jobs.submit([job(tmp_path, gate(tmp_path)) for _ in range(6)])
        until(lambda: redis.llen("work") == 6, "all are in the queue")
        farm.start_worker(queue="work")  # of four threads
        until(lambda: len(ran(tmp_path)) == 4, "four run")
        assert redis.llen("work") == 2
        (tmp_path / "go").touch()
        assert {client.jobs.wait(one, 30).state for one in jobs} == {JobState.DONE}


def test_a_job_goes_to_the_node_that_has_its_input_and_reads_it_there(
    farm: Farm, tmp_path: Path, origin: Origin
) -> None:
    url = origin.serve("/a.dat", content(b"abc" * 100, etag='"a"'))
    own = FileCache(tmp_path / "node2-cache")
    entry = own.put("whatever", b"abc" * 100)
    own.close()
    farm.start_worker(queue="work", STAGER_NODE="node1")
    farm.start_worker(queue="work", STAGER_NODE="node2", STAGER_NODE_CACHE_DIR=str(own.root))
    with farm.redis.client() as redis, farm.server.client() as client:
        until(lambda: redis.exists(f"{keys.HOLDINGS}node2"), "node2 says what it has")
        jobs = client.jobs.submit(
            [job(tmp_path, "readlink inputs/a.dat; cat inputs/a.dat", url) for _ in range(3)]
        )
        for one in jobs:
            assert client.jobs.wait(one, 30).state is JobState.DONE
            link, _, data = whole(client.jobs.log(one, "stdout")).partition(b"\n")
            assert link.decode().startswith(str(own.root))
            assert data == b"abc" * 100
    until(lambda: own.object_path(entry.object).stat().st_nlink == 1, "it is not pinned any more")


def test_a_job_does_not_wait_for_the_node_with_its_input_for_ever(tmp_path: Path) -> None:
    place = CeleryPlace(tmp_path)
    try:
        own = FileCache(tmp_path / "node2-cache")
        entry = own.put("whatever", b"abc")
        place.cache.put("whatever", b"abc")
        busy = place.start_worker(STAGER_NODE="node2", STAGER_NODE_CACHE_DIR=str(own.root))
        with place.redis.client() as redis:
            happened(lambda: redis.exists(f"{keys.HOLDINGS}node2"))
            happened(lambda: any(b"node2" in redis.get(key) for key in redis.keys(f"{keys.WORKER}*")))
            os.kill(busy.process.pid, signal.SIGSTOP)
            dispatcher = place.make(place.heard, locality_wait_seconds=0.5)
            try:
                dispatcher.hand_over(
                    order("readlink inputs/a >&2", DispatchInput("a", entry.object, entry.size, "f"))
                )
                happened(lambda: redis.llen("work.node2") or redis.llen("work"))
                place.start_worker(STAGER_NODE="node1")
                assert place.heard.ended().exit_code == 1  # no link: it is the object itself
            finally:
                os.kill(busy.process.pid, signal.SIGCONT)
                dispatcher.close()
    finally:
        place.close()
