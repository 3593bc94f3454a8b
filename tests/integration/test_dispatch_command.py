"""Jobs in a batch system: the documented commands, and what goes wrong around them."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stager.errors import CommandFailedError, JobError, RunnerLostError
from stager.mapper.dispatch import runner
from stager.mapper.dispatch.command import CommandDispatcher
from stager.model.events import JobStarted
from tests.support.batch.site import SYSTEMS
from tests.support.places import PATIENCE, CommandPlace, order, until


@pytest.fixture
def place(tmp_path: Path) -> Iterator[CommandPlace]:
    made = CommandPlace(tmp_path)
    yield made
    (made.root / "go").touch()  # commands whose node was taken down wait for it still
    made.close()


def slow(place: CommandPlace) -> str:
    return f"echo ran >> {place.root}/ran; until [ -e {place.root}/go ]; do sleep 0.02; done"


def runs(place: CommandPlace) -> int:
    path = place.root / "ran"
    return path.read_text().count("ran\n") if path.exists() else 0


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_example_runs_a_job_to_its_end(place: CommandPlace, system: str) -> None:
    place.system = system
    place.new().hand_over(order("env > results/env"))
    ended = place.heard.ended()
    assert ended.error is None
    environment = place.cache.path("result:job1/env").read_text().splitlines()
    assert "NODE=yes" not in environment  # the variables of the node are not the job's
    assert f"TMPDIR={place.site.spool}" in environment  # but what the batch system allots to it is
    until(lambda: not place.site.jobs())
    assert place.site.submitted() == 1


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_example_ends_a_job_that_runs(place: CommandPlace, system: str) -> None:
    place.system = system
    dispatcher = place.new()
    dispatcher.hand_over(order(f"trap 'echo bye > results/bye; exit 5' TERM; {slow(place)}"))
    until(lambda: runs(place))
    dispatcher.stop("job1", 1)
    assert place.heard.ended().exit_code == 5
    until(lambda: not place.site.jobs())


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_example_takes_a_job_out_of_the_queue(place: CommandPlace, system: str) -> None:
    place.system = system
    place.site.hold()
    dispatcher = place.new()
    dispatcher.hand_over(order(slow(place)))
    until(place.site.jobs)
    dispatcher.stop("job1", 1)
    ended = place.heard.ended()
    assert ended.exit_code is None
    assert place.heard.kinds() == ["JobEnded"]
    until(lambda: not place.site.jobs())
    assert runs(place) == 0


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_example_finds_a_job_that_its_node_took_down(place: CommandPlace, system: str) -> None:
    place.system = system
    place.new().hand_over(order(slow(place)))
    until(lambda: runs(place))
    place.heard.wait_for(JobStarted)
    place.site.power_cut()
    ended = place.heard.ended()
    assert isinstance(ended.error, RunnerLostError)
    assert "left the batch system before the command ended" in str(ended.error)


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_example_finds_a_job_that_was_taken_out_of_the_queue(place: CommandPlace, system: str) -> None:
    place.system = system
    place.site.hold()
    place.new().hand_over(order(slow(place)))
    until(place.site.jobs)
    cancel = {"slurm": "scancel", "pbs": "qdel", "htcondor": "condor_rm"}[system]
    subprocess.run([place.site.bin / cancel, "17"], check=True, stdout=subprocess.DEVNULL)
    ended = place.heard.ended()
    assert isinstance(ended.error, RunnerLostError)
    assert "never started" in str(ended.error)
    assert "17" in str(ended.error)
    assert runs(place) == 0


def test_many_jobs_are_asked_for_in_one_call(place: CommandPlace) -> None:
    place.system = "pbs"
    asked = place.root / "asked"
    real = (place.site.bin / "qstat").read_text().splitlines()[-1]
    place.site.command("qstat", f'echo "$@" >> {asked}\n{real}')
    place.site.hold()
    dispatcher = place.new()
    for number in range(5):
        dispatcher.hand_over(order("true", job=f"job{number}"))
    ids = [f"{number}.pbs" for number in range(17, 22)]
    until(lambda: asked.exists() and " ".join(ids) in asked.read_text().splitlines())
    place.site.let_go()
    assert {place.heard.ended(n).error for n in range(1, 6)} == {None}


def test_an_idle_dispatcher_asks_for_nothing(place: CommandPlace) -> None:
    asked = place.root / "asked"
    real = (place.site.bin / "squeue").read_text().splitlines()[-1]
    place.site.command("squeue", f"echo asked >> {asked}\n{real}")
    dispatcher = place.new()
    dispatcher.hand_over(order("true"))
    place.heard.ended()
    until(lambda: not dispatcher._polling)  # type: ignore[attr-defined]
    assert dispatcher._executor._due == []  # type: ignore[attr-defined]


def test_a_submission_that_fails_is_made_again(place: CommandPlace, caplog: pytest.LogCaptureFixture) -> None:
    real = (place.site.bin / "sbatch").read_text().splitlines()[-1]
    once = place.root / "once"
    place.site.command(
        "sbatch", f"[ -e {once} ] || {{ touch {once}; echo 'slurm is asleep' >&2; exit 1; }}\n{real}"
    )
    place.new().hand_over(order("true"))
    assert place.heard.ended().error is None
    assert "slurm is asleep" in caplog.text
    assert "try 1 of 3" in caplog.text


def test_after_the_last_try_the_job_fails_with_what_the_batch_system_said(place: CommandPlace) -> None:
    place.site.command("sbatch", "printf '\\nsbatch: error: invalid partition\\nmore\\n' >&2; exit 1")
    place.new().hand_over(order(slow(place)))
    ended = place.heard.ended()
    assert isinstance(ended.error, CommandFailedError)
    assert "sbatch did not take the job: sbatch: error: invalid partition; see" in str(ended.error)
    assert ended.exit_code is None


def test_a_submit_command_that_is_not_there_is_named(place: CommandPlace) -> None:
    (place.site.bin / "sbatch").unlink()
    place.new().hand_over(order("true"))
    assert "sbatch can't be run: No such file or directory" in str(place.heard.ended().error)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_job_submitted_twice_runs_once_and_is_watched_to_its_end(place: CommandPlace, system: str) -> None:
    """The first submission is taken, but the answer is lost: as when the server is killed just then."""
    place.system = system
    name = {"slurm": "sbatch", "pbs": "qsub", "htcondor": "condor_submit"}[system]
    real = (place.site.bin / name).read_text().splitlines()[-1].removeprefix("exec ")
    once = place.root / "once"
    place.site.command(name, f"[ -e {once} ] || {{ touch {once}; {real} >&2; exit 1; }}\n{real}")
    dispatcher = place.new()
    dispatcher.hand_over(order(f"{slow(place)}; exit 3"))
    until(lambda: runs(place))
    until(lambda: len(place.site.jobs()) == 1)  # the loser has left
    place.heard.wait_for(JobStarted)
    passes = place.root / "passes"
    status = {"slurm": "squeue", "pbs": "qstat", "htcondor": "condor_q"}[system]
    real_status = (place.site.bin / status).read_text().splitlines()[-1]
    place.site.command(status, f"echo pass >> {passes}\n{real_status}")
    until(lambda: passes.exists() and passes.read_text().count("pass") >= 4)
    (place.root / "go").touch()
    assert place.heard.ended().exit_code == 3
    assert (runs(place), place.site.submitted()) == (1, 2)


def test_a_server_killed_before_it_knew_the_batch_id_starts_the_job_once(
    place: CommandPlace, tmp_path: Path
) -> None:
    real = (place.site.bin / "sbatch").read_text().splitlines()[-1].removeprefix("exec ")
    told, once = tmp_path / "told", tmp_path / "once"
    place.site.command(
        "sbatch",
        f"[ -e {once} ] && exec {real}\ntouch {once}; number=$({real}); touch {told}; kill -9 $PPID; echo $number",
    )
    code = f"""
from pathlib import Path
from tests.support.places import CommandPlace, order
class Again(CommandPlace):
    def __init__(self, root):
        from stager.cache.store import FileCache
        from tests.support.batch.site import Site
        self.root, self.cache, self.site = root, FileCache(root / "cache"), Site
place = Again(Path({str(tmp_path)!r}))
place.make(print).hand_over(order({slow(place)!r}))
import threading; threading.Event().wait({PATIENCE})
"""
    server = subprocess.run([sys.executable, "-c", code], check=False, timeout=PATIENCE)
    assert server.returncode == -signal.SIGKILL
    assert told.exists()
    place.new().hand_over(order(slow(place)))
    until(lambda: runs(place))
    place.heard.wait_for(JobStarted)
    (tmp_path / "go").touch()
    assert place.heard.ended().exit_code == 0
    until(lambda: not place.site.jobs())
    assert runs(place) == 1


def test_a_batch_system_that_does_not_answer_loses_no_job(
    place: CommandPlace, caplog: pytest.LogCaptureFixture
) -> None:
    place.site.command("squeue", "echo 'Unable to contact slurm controller' >&2; exit 1")
    place.new().hand_over(order(slow(place)))
    until(lambda: runs(place))
    until(lambda: caplog.text.count("Unable to contact slurm controller") >= 4)
    (place.root / "go").touch()
    assert place.heard.ended().exit_code == 0


def test_a_cancel_that_fails_is_tried_again(place: CommandPlace) -> None:
    real = (place.site.bin / "scancel").read_text().splitlines()[-1]
    once = place.root / "once"
    place.site.command("scancel", f"[ -e {once} ] || {{ touch {once}; exit 1; }}\n{real}")
    dispatcher = place.new()
    dispatcher.hand_over(order(slow(place)))
    until(lambda: runs(place))
    dispatcher.stop("job1", 1)
    assert place.heard.ended().exit_code == 128 + signal.SIGTERM


def test_a_restarted_server_knows_the_batch_id_of_a_job_in_the_queue(
    place: CommandPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.site.hold()
    first = place.new()
    first.hand_over(order(slow(place)))
    notes = place.root / "runs" / "job1.1.json"
    until(lambda: notes.exists() and json.loads(notes.read_text()).get("batch_ids") == ["17"])
    first.close()
    monkeypatch.setattr(CommandDispatcher, "_begin", lambda *_: None)  # the cancel is the quicker one
    second = place.new()
    second.hand_over(order(slow(place)))
    second.stop("job1", 1)
    assert isinstance(place.heard.ended().error, JobError)
    until(lambda: not place.site.jobs())
    assert place.site.submitted() == 1


def test_the_script_is_for_its_owner_alone_and_holds_no_variable(place: CommandPlace) -> None:
    place.site.hold()
    place.new().hand_over(order("true"))
    until(place.site.jobs)
    folder = place.cache.root / "jobs" / "job1" / "run"
    script = folder / "1.script"
    assert script.stat().st_mode & 0o777 == 0o700
    assert "MODE" not in script.read_text()
    assert (folder / "1.order").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    place.site.let_go()
    place.heard.ended()


def test_names_and_owners_are_no_options_of_the_batch_system(place: CommandPlace) -> None:
    said = place.root / "said"
    real = (place.site.bin / "sbatch").read_text().splitlines()[-1]
    place.site.command("sbatch", f'printf "%s\\n" "$@" > {said}\n{real}')
    place.new().hand_over(order("true", name="--wrap=rm -rf / "))
    place.heard.ended()
    lines = said.read_text().splitlines()
    assert "--job-name=wrap_rm_-rf_" in lines
    assert "--comment=ada" in lines


def test_the_submit_command_sees_none_of_the_servers_secrets(
    place: CommandPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGER_DATABASE_URL", "canary")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    seen = place.root / "seen"
    real = (place.site.bin / "sbatch").read_text().splitlines()[-1]
    place.site.command("sbatch", f"env > {seen}\n{real}")
    place.new().hand_over(order("true"))
    place.heard.ended()
    assert "canary" not in seen.read_text()
    assert "SLURM_CONF=/etc/slurm.conf" in seen.read_text()


def test_a_close_does_not_wait_for_a_batch_system_that_hangs(place: CommandPlace) -> None:
    pid = place.root / "pid"
    place.site.command("sbatch", f"echo $$ > {pid}; exec sleep 1000")
    dispatcher = place.new()
    dispatcher.hand_over(order("true"))
    until(lambda: pid.exists() and pid.read_text().strip())
    dispatcher.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_of_two_runners_on_the_share_only_one_starts_the_command(tmp_path: Path) -> None:
    base = tmp_path / "1"
    order_ = {
        "command": ["/bin/sh", "-c", "echo ran >> ran"],
        "directory": str(tmp_path),
        "environment": {"PATH": "/usr/bin:/bin"},
        "keep": [],
    }
    (tmp_path / "1.order").write_text(json.dumps(order_))
    command = [sys.executable, "-I", "-S", runner.__file__, str(base), "1"]
    runners = [subprocess.Popen(command, env={"SLURM_JOB_ID": str(number)}, cwd="/") for number in range(6)]
    statuses = sorted(one.wait(PATIENCE) for one in runners)
    assert statuses == [0, *[runner.LOST_CLAIM] * 5]
    assert (tmp_path / "ran").read_text() == "ran\n"
    process, host, number = (tmp_path / "1.claim").read_text().split()
    assert (host, int(process)) == (os.uname().nodename, runners[int(number)].pid)


def test_a_runner_that_can_not_use_the_jobs_directory_records_why(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", runner.__file__, str(tmp_path / "1"), "1"]
    assert subprocess.run(command, check=False, timeout=PATIENCE).returncode == 0
    recorded = json.loads((tmp_path / "1.exit").read_text())
    assert recorded["exit_code"] is None
    assert os.uname().nodename in recorded["error"]
    assert "No such file" in recorded["error"]


def test_waiting_for_a_share_that_refuses_costs_no_job(
    place: CommandPlace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from stager.mapper.dispatch import command, shared_runs

    monkeypatch.setattr(command, "AGAIN_SECONDS", 0.01)
    real, tries = shared_runs.SharedRun.look, 0

    def stale_twice(self: shared_runs.SharedRun) -> shared_runs.Look:
        nonlocal tries
        tries += 1
        if tries <= 2:
            raise OSError(116, "Stale file handle")
        return real(self)

    monkeypatch.setattr(shared_runs.SharedRun, "look", stale_twice)
    with caplog.at_level(logging.WARNING):
        place.new().hand_over(order("true"))
        assert place.heard.ended().error is None
    assert "Stale file handle" in caplog.text
