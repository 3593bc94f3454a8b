"""A farm as its operator sees it: the way of a job through all logs, and whether the server is ready."""

from __future__ import annotations

from pathlib import Path

from stager.errors import SignalsError
from stager.model.jobs import JobState
from stager.server.tracking import HEADER
from tests.integration.test_readyz import ready
from tests.integration.test_request_ids import ID, actions, grep, submit, token_of
from tests.support.farm import Farm, until
from tests.support.origin import Origin, content
from tests.support.processes import PATIENCE


def test_one_grep_finds_the_way_of_a_job_through_server_workers_and_nodes(tmp_path: Path) -> None:
    with (
        Origin() as origin,
        Farm(tmp_path, STAGER_DISPATCH="celery", STAGER_LOG_FORMAT="json", PYTHONWARNINGS="ignore") as farm,
    ):
        farm.start_worker(queue="fetch")
        farm.start_worker(queue="work")
        with farm.server.client() as client:
            job = {
                "command": ["/bin/sh", "-c", "echo $STAGER_REQUEST_ID"],
                "inputs": [origin.serve("/run.dat", content(b"data"))],
            }
            answer = submit(farm.server.url, token_of(tmp_path), job, **{HEADER: ID})
            assert answer.headers[HEADER] == ID
            (one,) = answer.json()["ids"]
            done = client.jobs.wait(one, PATIENCE)
            assert done.state is JobState.DONE
            assert client.jobs.show(one).request_id == ID
            assert (tmp_path / "cache" / "jobs" / one / "stdout").read_text().strip() == ID

        def said() -> set[str]:
            workers = (tmp_path / "workers.log").read_text().splitlines()
            server = actions(grep(farm.server.said, ID))
            here, there = server, actions(grep(workers, ID))
            return {f"server {a}" for a in here} | {f"worker {a}" for a in there}

        expected = {
            *("server request", "server job.submitted", "server fetch.ready", "server job.dispatched"),
            *("server job.done", "worker fetch.tried", "worker job.started", "worker job.ended"),
        }
        until(lambda: expected <= said(), f"all is said: {expected - said()}")


def test_one_of_a_farm_is_not_ready_without_redis(tmp_path: Path) -> None:
    with Farm(tmp_path) as farm:
        assert ready(farm.server)[1]["parts"]["redis"] == "ok"
        farm.redis.kill()
        until(lambda: ready(farm.server)[0] == 503, "it has noticed")
        assert ready(farm.server)[1]["cause"] == f"redis: {SignalsError.code}"
        farm.redis.start()
        until(lambda: ready(farm.server)[0] == 200, "Redis is back")
