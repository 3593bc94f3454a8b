"""Jobs that another host runs: claim, end and results come over a real NFS share."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest

from stager.mapper.dispatch.runner import LOST_CLAIM
from tests.support import guest_jobs
from tests.support.guests import Guest
from tests.support.pair import Pair
from tests.support.until import until


@pytest.fixture
def jobs(pair: Pair) -> Iterator[Pair]:
    """The first host is the server, the second one a node."""
    yield pair
    ask(pair, "close")


def ask(pair: Pair, function: str, *arguments: object) -> Any:
    return pair.first.call(f"{guest_jobs.__name__}:{function}", pair.root, *arguments)


def script(pair: Pair, job: str) -> str:
    """The job's script, once it is submitted."""
    until(lambda: "1.script" in ask(pair, "look", job), "it is submitted")
    return f"{pair.root}/jobs/{job}/run/1.script"


def node(guest: Guest, path: str) -> Any:
    """Start the script as a batch system does: in another environment."""
    return guest.start(["env", "-i", f"SLURM_JOB_ID={guest_jobs.NUMBER}", "NODE=yes", path], cwd="/")


def test_the_server_learns_at_once_what_a_node_did_although_it_looked_too_early(jobs: Pair) -> None:
    command = "cat inputs/input; until ls results | grep -q go; do sleep 0.1; done; env > results/env"
    ask(jobs, "hand_over", "job", command, "counts\n")
    path = script(jobs, "job")
    assert ask(jobs, "told", "job") == []  # it has looked for claim and end, which are not there
    running = node(jobs.second, path)
    until(lambda: ask(jobs, "told", "job") == ["started"], "the start is known", 15.0)
    assert jobs.first.run(["touch", f"{jobs.root}/jobs/job/results/go"]).status == 0
    assert running.wait(60).status == 0
    until(lambda: len(ask(jobs, "told", "job")) == 2, "the end is known", 15.0)
    _, (status, error, results) = ask(jobs, "told", "job")
    assert (status, error) == (0, "None")
    printed = jobs.truth / "jobs" / "job"
    assert (printed / "stdout").read_text() == "counts\n"
    environment = (printed / "results" / "env").read_bytes()
    assert results["env"] == sha256(environment).hexdigest()
    assert b"NODE" not in environment
    assert f"STAGER_JOB_DIR={jobs.root}/jobs/job\n".encode() in environment


def test_of_two_hosts_that_start_the_same_job_one_runs_it(jobs: Pair) -> None:
    for job in (f"job{number}" for number in range(3)):
        ask(jobs, "hand_over", job, "echo ran", "counts\n")
        path = script(jobs, job)
        both = [node(guest, path) for guest in (jobs.first, jobs.second)]
        assert sorted(one.wait(60).status for one in both) == [0, LOST_CLAIM]
        until(lambda job=job: len(ask(jobs, "told", job)) == 2, "the end is known", 15.0)  # type: ignore[misc]
        assert (jobs.truth / "jobs" / job / "stdout").read_text() == "ran\n"
