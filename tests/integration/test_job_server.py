"""Jobs from submission to result, with scripted fetches and real files, processes and database."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stager.errors import ConflictError, ConnectionFailedError, InputError, NotFoundError, StateError
from stager.mapper.ports import StateStore
from stager.model.jobs import JobSpec, JobState
from stager.model.records import Changes
from stager.state.store import Store
from tests.support.jobserver import SmallServer, shell, url

PATIENCE = 60.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SmallServer]:
    with SmallServer(tmp_path) as running:
        yield running


def outcome(server: SmallServer, job: str) -> tuple[str, str]:
    """State of the job when it is over, and what it printed."""
    view = server.jobs.wait(job, PATIENCE)
    assert view.state.is_final, f"{view} is not over"
    return view.state.value, server.jobs.log_file(job, "stdout").read_text()


def test_a_job_sees_its_input_under_its_own_name_and_its_result_is_kept(server: SmallServer) -> None:
    server.origin.content[url("run1.dat")] = b"1 2 3\n"
    script = (
        'cat inputs/run1.dat; cp "$STAGER_INPUTS/run1.dat" "$STAGER_RESULTS/fit.dat"; echo "$STAGER_JOB_ID"'
    )
    (job,) = server.jobs.submit([shell(script, "run1.dat", results=("fit.dat",))])
    assert outcome(server, job) == ("done", f"1 2 3\n{job}\n")
    result, file = server.jobs.open_result(job, "fit.dat")
    with file:
        assert file.read() == b"1 2 3\n"
    assert result.size == 6


def test_many_jobs_that_need_one_url_cause_one_transfer(server: SmallServer) -> None:
    server.origin.content[url("shared.dat")] = b"x"
    server.origin.gate.clear()
    jobs = server.jobs.submit([shell("cat inputs/shared.dat", "shared.dat") for _ in range(20)])
    server.origin.gate.set()
    assert {outcome(server, job) for job in jobs} == {("done", "x")}
    assert server.origin.tries[url("shared.dat")] == 1


def test_a_job_without_preconditions_runs_at_once(server: SmallServer) -> None:
    (job,) = server.jobs.submit([shell("echo here")])
    assert outcome(server, job) == ("done", "here\n")


def test_a_job_waits_for_its_named_precondition_and_says_so(server: SmallServer) -> None:
    (job,) = server.jobs.submit([shell("echo now", after=("calibration",))])
    assert server.jobs.job(job).waits_for == ["calibration"]
    assert server.jobs.meet("calibration")
    assert outcome(server, job) == ("done", "now\n")
    assert not server.jobs.meet("calibration")


def test_a_precondition_met_before_the_submission_holds_for_it(server: SmallServer) -> None:
    server.jobs.meet("beam-on")
    (job,) = server.jobs.submit([shell("echo now", after=("beam-on",))])
    assert outcome(server, job)[0] == "done"


def test_an_input_refused_for_good_fails_the_job_and_names_url_and_cause(server: SmallServer) -> None:
    (job,) = server.jobs.submit([shell("echo never", "missing.dat")])
    assert server.jobs.wait(job, PATIENCE).state is JobState.FAILED
    error = server.jobs.job(job).error
    assert error is not None
    assert error["code"] == "input-failed"
    assert url("missing.dat") in error["what"]
    assert "404 Not Found" in error["cause"]
    assert error["remedy"]
    assert server.origin.tries[url("missing.dat")] == 1


def test_a_transient_failure_is_tried_again(server: SmallServer) -> None:
    server.origin.content[url("a")] = [ConnectionFailedError("reset", url="a"), b"ok"]
    (job,) = server.jobs.submit([shell("cat inputs/a", "a")])
    assert outcome(server, job) == ("done", "ok")
    assert server.origin.tries[url("a")] == 2


def test_a_command_that_fails_fails_the_job_with_its_status(server: SmallServer) -> None:
    (job,) = server.jobs.submit([shell("echo partial > results/p; exit 3")])
    view = server.jobs.wait(job, PATIENCE)
    assert (view.state, view.exit_code) == (JobState.FAILED, 3)
    assert [r.name for r in server.jobs.results(job)] == ["p"]


def test_a_command_that_does_not_exist_fails_the_job_with_a_reason(server: SmallServer) -> None:
    (job,) = server.jobs.submit([JobSpec(("no-such-program-anywhere",))])
    view = server.jobs.wait(job, PATIENCE)
    assert (view.state, view.exit_code) == (JobState.FAILED, None)
    assert view.error is not None
    assert "No such file" in view.error["cause"]


def test_a_promised_result_that_is_missing_fails_the_job(server: SmallServer) -> None:
    (job,) = server.jobs.submit([shell("touch results/other", results=("fit-*.json",))])
    view = server.jobs.wait(job, PATIENCE)
    assert view.state is JobState.FAILED
    assert view.error is not None
    assert "fit-*.json" in view.error["what"]


def test_a_killed_command_reports_the_signal_as_its_status(server: SmallServer) -> None:
    (job,) = server.jobs.submit([shell("kill -KILL $$")])
    assert server.jobs.wait(job, PATIENCE).exit_code == 128 + 9


def test_a_running_job_can_be_cancelled_and_its_process_ends(server: SmallServer, tmp_path: Path) -> None:
    fifo = tmp_path / "started"
    fifo.touch()
    started = threading.Event()
    (job,) = server.jobs.submit([shell("exec sleep 1000")])
    remove = server.jobs.watch(
        job, lambda: started.set() if server.jobs.state(job) is JobState.RUNNING else None
    )
    if server.jobs.state(job) is not JobState.RUNNING:
        assert started.wait(PATIENCE)
    remove()
    assert server.jobs.cancel(job)
    assert server.jobs.state(job) is JobState.CANCELLED
    free = server.mapper.inspect(lambda machine: job not in machine.jobs)
    while not free.result(PATIENCE):  # the slot is free only when the process is gone
        free = server.mapper.inspect(lambda machine: job not in machine.jobs)
    assert not server.jobs.cancel(job)


def test_cancelling_what_is_over_is_a_conflict(server: SmallServer) -> None:
    (job,) = server.jobs.submit([shell("true")])
    outcome(server, job)
    with pytest.raises(ConflictError, match="done"):
        server.jobs.cancel(job)


def test_an_unknown_job_is_not_found(server: SmallServer) -> None:
    with pytest.raises(NotFoundError):
        server.jobs.job("nothing")


def test_a_job_is_found_by_its_name_or_the_end_of_its_id(server: SmallServer) -> None:
    (job,) = server.jobs.submit([shell("true", name="fit-7")])
    assert server.jobs.find("fit-7") == job
    assert server.jobs.find(job[-6:]) == job


def test_an_input_lost_before_the_hand_over_is_fetched_again(server: SmallServer) -> None:
    server.origin.content[url("a")] = b"twice"
    (job,) = server.jobs.submit([shell("cat inputs/a", "a", after=("go",))])
    (first,) = server.jobs.submit([shell("cat inputs/a", "a")])
    outcome(server, first)
    entry = server.cache.lookup(url("a"))
    assert entry is not None
    server.cache.object_path(entry.object).unlink()
    server.jobs.meet("go")
    assert outcome(server, job) == ("done", "twice")
    assert server.origin.tries[url("a")] == 2


def test_more_jobs_than_slots_all_run(tmp_path: Path) -> None:
    with SmallServer(tmp_path, slots=2) as server:
        jobs = server.jobs.submit([shell("echo $STAGER_JOB_ID >> ../../../ran") for _ in range(12)])
        assert {outcome(server, job)[0] for job in jobs} == {"done"}
    assert sorted((tmp_path / "ran").read_text().split()) == sorted(jobs)


def test_too_many_jobs_in_one_call_are_refused_whole(server: SmallServer) -> None:
    with pytest.raises(InputError, match="1001 jobs"):
        server.jobs.submit([shell("true")] * 1001)
    assert server.jobs.jobs() == []


def test_a_restart_goes_on_with_waiting_jobs_and_keeps_preconditions(tmp_path: Path) -> None:
    with SmallServer(tmp_path) as server:
        server.jobs.meet("one")
        (job,) = server.jobs.submit([shell("echo both", after=("one", "two"))])
    with SmallServer(tmp_path) as server:
        assert server.jobs.job(job).waits_for == ["two"]
        server.jobs.meet("two")
        assert outcome(server, job) == ("done", "both\n")


def test_a_job_that_runs_during_a_restart_is_found_again_and_runs_once(tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"echo ran >> {tmp_path}/ran; while ! test -e {go}; do sleep 0.05; done; echo end"
    with SmallServer(tmp_path) as server:
        running = threading.Event()
        (job,) = server.jobs.submit([shell(script)])
        remove = server.jobs.watch(
            job, lambda: running.set() if server.jobs.state(job) is JobState.RUNNING else None
        )
        assert server.jobs.state(job) is JobState.RUNNING or running.wait(PATIENCE)
        remove()
    with SmallServer(tmp_path) as server:
        go.touch()
        assert outcome(server, job) == ("done", "end\n")
    assert (tmp_path / "ran").read_text() == "ran\n"


def test_a_job_that_ended_while_no_server_was_there_is_done(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with SmallServer(tmp_path) as server:
        running = threading.Event()
        (job,) = server.jobs.submit(
            [shell(f"while ! test -e {go}; do sleep 0.05; done; echo end > results/r")]
        )
        remove = server.jobs.watch(
            job, lambda: running.set() if server.jobs.state(job) is JobState.RUNNING else None
        )
        assert server.jobs.state(job) is JobState.RUNNING or running.wait(PATIENCE)
        remove()
    go.touch()
    while not list((tmp_path / "runs").glob("*.exit")):  # the runner writes it; nobody is there to be told
        threading.Event().wait(0.01)
    with SmallServer(tmp_path) as server:
        assert server.jobs.wait(job, PATIENCE).state is JobState.DONE
        assert [r.name for r in server.jobs.results(job)] == ["r"]


class FailingStore(Store):
    """A store whose disk is full for the next `failures` writes."""

    failures = 0

    def save(self, changes: Changes, specs: object) -> None:
        if self.failures > 0:
            self.failures -= 1
            raise StateError("state can't be written", cause="database or disk is full")
        super().save(changes, specs)  # type: ignore[arg-type]


def test_a_submission_that_could_not_be_written_is_refused_and_the_server_recovers(tmp_path: Path) -> None:
    made: list[FailingStore] = []

    def new_store(address: str) -> StateStore:
        made.append(FailingStore(address))
        return made[0]

    with SmallServer(tmp_path, store=new_store) as server:
        (before,) = server.jobs.submit([shell("echo before", after=("go",))])
        made[0].failures = 1
        with pytest.raises(StateError, match="can't be written"):
            server.jobs.submit([shell("echo refused")])
        assert [job.id for job in server.jobs.jobs()] == [before]
        with pytest.raises(StateError):
            server.jobs.meet("go")  # still within the pause
        (later,) = _until_accepted(server)
        server.jobs.meet("go")
        assert outcome(server, before) == ("done", "before\n")
        assert outcome(server, later) == ("done", "later\n")
    made[0].close()


def _until_accepted(server: SmallServer) -> list[str]:
    while True:
        try:
            return server.jobs.submit([shell("echo later")])
        except StateError:
            threading.Event().wait(0.05)
