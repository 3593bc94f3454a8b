"""A server's state is backed up while it runs, and what was restored is gone on with."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from stager.cli import main
from stager.model.jobs import JobInput, JobSpec, JobState
from tests.support.farm import until
from tests.support.origin import Origin, content
from tests.support.processes import PATIENCE, ServerProcess, environment


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)


def made(tmp_path: Path, *options: str) -> Path:
    target = tmp_path / "backup"
    assert main(["backup", str(target), *options]) == 0
    return target


def test_after_the_loss_of_all_state_the_jobs_of_a_backup_are_finished_and_none_runs_twice(
    tmp_path: Path,
) -> None:
    go = tmp_path / "go"
    script = f"echo $STAGER_JOB_NAME >> {tmp_path}/ran"
    with Origin() as origin:
        url = origin.serve("/run.dat", content(b"data"))
        with ServerProcess(tmp_path) as server, server.client() as client:
            done, waits, runs = client.jobs.submit(
                [
                    JobSpec(("sh", "-c", script), (JobInput(url),), name="done"),
                    JobSpec(("sh", "-c", script), (JobInput(url),), after=("go",), name="waits"),
                    JobSpec(("sh", "-c", f"{script}; until [ -e {go} ]; do sleep 0.05; done"), name="runs"),
                ]
            )
            assert client.jobs.wait(done, PATIENCE).state is JobState.DONE
            until(lambda: client.jobs.show(runs).state is JobState.RUNNING, "it runs")
            backup = made(tmp_path)  # while the server is at work
            server.kill()
        shutil.rmtree(tmp_path / "state")
        assert main(["restore", str(backup)]) == 0
        go.touch()
        with ServerProcess(tmp_path) as server, server.client() as client:
            client.preconditions.meet("go")
            assert client.jobs.wait(waits, PATIENCE).state is JobState.DONE
            assert client.jobs.show(done).state is JobState.DONE
            assert client.jobs.wait(runs, PATIENCE).state in {JobState.DONE, JobState.FAILED}
            server.end()
    assert sorted((tmp_path / "ran").read_text().split()) == ["done", "runs", "waits"]


def test_a_backup_has_no_secret_unless_it_is_asked_for_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server, server.client() as client:
        client.jobs.submit([JobSpec(("true",), after=("go",))])
        token = (tmp_path / "state" / "token").read_text().strip()
        without = made(tmp_path)
        assert main(["backup", str(tmp_path / "full"), "--with-keys"]) == 0
        server.end()
    found = b"".join(file.read_bytes() for file in without.rglob("*") if file.is_file())
    assert token.encode() not in found
    assert not (without / "keys").exists()
    assert (tmp_path / "full" / "keys" / "token").read_text().strip() == token
    for directory in (without, tmp_path / "full" / "keys"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_restore_puts_what_there_was_aside_and_only_on_demand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ServerProcess(tmp_path) as server, server.client() as client:
        (first,) = client.jobs.submit([JobSpec(("true",), after=("never",), name="first")])
        backup = made(tmp_path)
        (second,) = client.jobs.submit([JobSpec(("true",), after=("never",), name="second")])
        assert main(["restore", str(backup), "--force"]) == 6, "a server runs"
        server.kill()  # what it wrote last is beside the database still
    assert main(["restore", str(backup)]) == 6
    assert "--force" in capsys.readouterr().err
    assert main(["restore", str(backup), "--force"]) == 0
    with ServerProcess(tmp_path) as server, server.client() as client:
        assert [job.id for job in client.jobs.list()] == [first]
        server.end()
    (aside,) = (tmp_path / "state").glob("before-restore-*")
    with closing(sqlite3.connect(aside / "stager.db")) as database:
        assert {row[0] for row in database.execute("SELECT id FROM jobs")} == {first, second}


@pytest.fixture
def idle(tmp_path: Path) -> Path:
    """A backup of a server that has ended, and whose state is gone."""
    with ServerProcess(tmp_path) as server:
        server.end()
    backup = made(tmp_path)
    shutil.rmtree(tmp_path / "state")
    return backup


def test_what_is_damaged_or_no_backup_is_refused_and_changes_nothing(
    idle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((idle / "backup.json").read_text())
    newer = tmp_path / "newer"
    shutil.copytree(idle, newer)
    (newer / "backup.json").write_text(json.dumps(manifest | {"format": 99}))
    with (idle / "stager.db").open("r+b") as file:
        file.seek(5000)
        file.write(b"x")
    for place, said in ((idle, "damaged"), (newer, "format 99"), (tmp_path / "cache", "no backup")):
        assert main(["restore", str(place)]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "state" / "stager.db").exists()
    assert main(["backup", str(idle)]) == 6
    assert "exists" in capsys.readouterr().err


def test_a_restore_that_was_interrupted_is_called_again(
    idle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copy2

    def breaks(source: Path, target: Path) -> None:
        if Path(source).name == "stager.db":
            raise OSError(28, "No space left on device", os.fspath(target))
        copy(source, target)

    monkeypatch.setattr(shutil, "copy2", breaks)
    assert main(["restore", str(idle)]) == 5
    monkeypatch.undo()
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    assert main(["restore", str(idle), "--force"]) == 0
    with ServerProcess(tmp_path) as server:
        server.end()


def test_what_there_was_stays_until_what_comes_in_its_place_is_whole(
    idle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["restore", str(idle)]) == 0
    state = tmp_path / "state"
    before = (state / "stager.db").read_bytes()
    copy, halves = shutil.copy2, []

    def breaks(source: Path, target: Path) -> None:
        copy(source, target)
        if Path(source).name == "stager.db":
            halves.append(Path(target))
            os.truncate(target, 5000)
            raise OSError(28, "No space left on device", os.fspath(target))

    with monkeypatch.context() as broken:
        broken.setattr(shutil, "copy2", breaks)
        assert main(["restore", str(idle), "--force"]) == 5
    assert len(halves) == 1
    assert (state / "stager.db").read_bytes() == before
    assert not halves[0].exists()
    halves[0].write_bytes(b"half")  # as a power loss leaves it
    assert main(["restore", str(idle), "--force"]) == 0
    assert (state / "stager.db").read_bytes() == (idle / "stager.db").read_bytes()
    assert not halves[0].exists()
