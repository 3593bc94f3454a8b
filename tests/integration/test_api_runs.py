"""A whole server that hands its jobs to somebody else: settings in, reports and results out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import requests

from stager.client import Client
from stager.model.jobs import JobSpec, JobState
from tests.support.api import running_api
from tests.support.batch.site import Site
from tests.support.places import PATIENCE, until
from tests.support.ports import free_port
from tests.support.processes import ServerProcess
from tests.support.receiver import ReceiverProcess

TOKEN = "t" * 43


def shell(script: str, **more: Any) -> JobSpec:
    return JobSpec(("/bin/sh", "-c", script), **more)


def write_token(root: Path) -> None:
    (root / "state").mkdir(mode=0o700)
    (root / "state" / "token").write_text(TOKEN)
    (root / "state" / "token").chmod(0o600)


def over(client: Client, job: str) -> JobState:
    return client.jobs.wait(job, PATIENCE).state


def test_the_documented_receiver_runs_the_jobs_of_a_server_that_is_killed_meanwhile(tmp_path: Path) -> None:
    write_token(tmp_path)
    port = free_port()
    with ReceiverProcess(tmp_path, f"http://127.0.0.1:{port}", TOKEN) as receiver:
        settings = {
            "STAGER_DISPATCH": "webhook",
            "STAGER_WEBHOOK_URL": receiver.url,
            "STAGER_WEBHOOK_SECRET_FILE": str(receiver.secret_file),
        }
        with ServerProcess(tmp_path, "--port", str(port), **settings) as server, server.client() as client:
            wait = f"echo ran >> {tmp_path}/ran; until [ -e {tmp_path}/go ]; do sleep 0.02; done; echo 42 > results/a"
            (slow,) = client.jobs.submit([shell(wait, results=("a",))])
            (failing,) = client.jobs.submit([shell("exit 3")])
            (endless,) = client.jobs.submit([shell("exec sleep 1000")])
            assert over(client, failing) is JobState.FAILED
            assert client.jobs.show(failing).exit_code == 3
            until(lambda: client.jobs.show(endless).state is JobState.RUNNING)
            client.jobs.cancel(endless)
            assert over(client, endless) is JobState.CANCELLED
            until(lambda: client.jobs.show(slow).state is JobState.RUNNING)
            server.kill()
        (tmp_path / "go").touch()  # it ends while no server is there
        with ServerProcess(tmp_path, "--port", str(port), **settings) as server, server.client() as client:
            assert over(client, slow) is JobState.DONE
            assert [result.name for result in client.results.list(slow)] == ["a"]
            assert (tmp_path / "ran").read_text() == "ran\n"
            report = f"{server.url}/v1/runs/{slow}"
            said = {
                name: requests.post(
                    f"{report}/{epoch}",
                    json=body,
                    headers={"Authorization": f"Bearer {TOKEN}"},
                    timeout=PATIENCE,
                )
                for name, epoch, body in [
                    ("again", 1, {"state": "ended", "exit_code": 0}),
                    ("stale", 2, {"state": "started"}),
                    ("typo", 1, {"state": "ended", "exit_cod": 0}),
                    ("mute", 1, {"state": "ended"}),
                    ("torn", 1, {"state": "ended", "exit_code": 0, "error": "no"}),
                ]
            }
            assert (said["again"].status_code, said["again"].json()) == (200, {"changed": False})
            assert said["stale"].status_code == 409
            assert f"run 2 of job {slow} is not the one that counts: the last is 1" in said["stale"].text
            assert said["typo"].status_code == 422
            assert "unknown key 'exit_cod'; did you mean 'exit_code'?" in said["typo"].text
            assert said["mute"].status_code == said["torn"].status_code == 422
            stranger = requests.post(f"{report}/1", json={"state": "started"}, timeout=PATIENCE)
            assert stranger.status_code == 401


def test_a_server_that_hands_jobs_to_nobody_takes_no_reports(tmp_path: Path) -> None:
    with running_api(tmp_path) as api:
        found = api.problem("POST", "/v1/runs/x/1", 409, json={"state": "started"})
        assert found["detail"] == (
            "this server takes no reports on runs: its jobs are not handed over by webhook; "
            'set dispatch = "webhook"'
        )


def test_a_server_runs_its_jobs_in_a_batch_system_and_finds_them_after_a_kill(tmp_path: Path) -> None:
    write_token(tmp_path)
    site = Site(tmp_path / "site")
    config = tmp_path / "stager.toml"
    lines = [f"{k} = {v!r}" for k, v in site.example("slurm").items() if k.startswith("dispatch")]
    config.write_text("\n".join(lines).replace("seconds = 10", "seconds = 0.1"))
    variables = {"STAGER_CONFIG": str(config), "PATH": f"{site.bin}:{os.environ['PATH']}"}
    try:
        with ServerProcess(tmp_path, **variables) as server, server.client() as client:
            wait = f"echo ran >> {tmp_path}/ran; until [ -e {tmp_path}/go ]; do sleep 0.02; done; echo 42 > results/a"
            (slow,) = client.jobs.submit([shell(wait, results=("a",))])
            (endless,) = client.jobs.submit([shell("exec sleep 1000")])
            until(lambda: client.jobs.show(endless).state is JobState.RUNNING)
            client.jobs.cancel(endless)
            assert over(client, endless) is JobState.CANCELLED
            until((tmp_path / "ran").exists)
            server.kill()
        (tmp_path / "go").touch()
        until(lambda: not site.jobs())
        with ServerProcess(tmp_path, **variables) as server, server.client() as client:
            assert over(client, slow) is JobState.DONE
            assert [result.name for result in client.results.list(slow)] == ["a"]
        assert (tmp_path / "ran").read_text() == "ran\n"
    finally:
        site.close()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"STAGER_DISPATCH": "command", "STAGER_DISPATCH_SUBMIT": "sbatch {scrpt}"},
            "unknown placeholder {scrpt}",
        ),
        ({"STAGER_DISPATCH": "command"}, "setting dispatch_submit is empty"),
        ({"STAGER_DISPATCH": "webhook"}, "setting webhook_secret_file is empty"),
    ],
)
def test_settings_that_make_no_sense_end_the_start_with_one_line(
    tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    with pytest.raises(AssertionError) as raised:
        ServerProcess(tmp_path, **settings)
    assert said in str(raised.value)
    assert "Traceback" not in str(raised.value)
