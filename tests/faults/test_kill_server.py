"""kill -9 at every step of fetch, publish, record and dispatch; then a restart, and all is as it should be."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from stager import steps
from stager.model.jobs import JobInput, JobSpec, JobState
from stager.transfer.buffers import BLOCK_BYTES
from stager.wiring.server import JobServer
from tests.support import crashing
from tests.support.origin import OVERLAP, Origin, content, status

LARGE = bytes(range(256)) * (3 * BLOCK_BYTES // 256 + 4096)  # several blocks, so that it has a partial file
SMALL = b"0.01 1.0 0.1\n"

CASES = [(step, 1) for step in steps.STEPS] + [
    ("fetch.written", 3),
    ("publish.linked", 2),
    ("record.begin", 2),
    ("record.committed", 2),
    ("record.begin", 4),
    ("record.committed", 4),
    ("dispatch.started", 3),
    ("results.kept", 2),
]


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as running:
        running.serve("/large.nxs", content(LARGE, etag='"L1"'))
        running.serve("/small.dat", content(SMALL, etag='"S1"'))
        running.serve("/gone.dat", status(404))
        yield running


def write_jobs(root: Path, origin: Origin) -> Path:
    """Three jobs that share inputs, one that waits for a name, one whose input does not exist."""
    ran = root / "ran"
    script = f'echo "$STAGER_JOB_ID" >> {ran}; sha256sum inputs/* > results/sums'
    large, small = JobInput(origin.url("/large.nxs")), JobInput(origin.url("/small.dat"))
    command = ("/bin/sh", "-c", script)
    specs = [
        JobSpec(command, (large, small), results=("sums",)),
        JobSpec(command, (large,), results=("sums",)),
        JobSpec(command, (small,), results=("sums",)),
        JobSpec(command, (small,), after=("go",), results=("sums",)),
        JobSpec(command, (JobInput(origin.url("/gone.dat")),)),
    ]
    path = root / "jobs.json"
    path.write_text(json.dumps([spec.to_dict() for spec in specs]))
    return path


def check_all_is_well(root: Path, origin: Origin) -> None:
    """Every job ended as it should, the good ones ran once, and no bytes are wrong or left over."""
    with JobServer(crashing.settings(root)) as server:
        jobs = [server.jobs.job(job.id) for job in server.jobs.jobs()]
        assert sorted(job.state.value for job in jobs) == ["done"] * 4 + ["failed"]
        done = [job for job in jobs if job.state is JobState.DONE]
        assert sorted((root / "ran").read_text().split()) == sorted(job.id for job in done)
        for job in done:
            result, file = server.jobs.open_result(job.id, "sums")
            with file:
                text = file.read().decode()
            assert sha256(text.encode()).hexdigest() == result.sha256
            for item in job.inputs:
                data = LARGE if item.name == "large.nxs" else SMALL
                assert f"{sha256(data).hexdigest()}  inputs/{item.name}" in text
        (failed,) = [job for job in jobs if job.state is JobState.FAILED]
        assert failed.error is not None
        assert origin.url("/gone.dat") in failed.error["what"]
    for path in (root / "cache" / "objects").rglob("*"):
        if path.is_file() and path.suffix != ".shared":
            assert sha256(path.read_bytes()).hexdigest() == path.name
            assert path.stat().st_mode & 0o777 == 0o444
    assert not [p for p in (root / "cache" / "partial").rglob("*") if p.is_file()]


@pytest.mark.parametrize(("step", "count"), CASES, ids=[f"{step}-{count}" for step, count in CASES])
def test_a_server_killed_at_any_step_recovers(step: str, count: int, tmp_path: Path, origin: Origin) -> None:
    jobs = write_jobs(tmp_path, origin)
    killed = crashing.run(tmp_path, jobs, step, str(count))
    assert killed.returncode == -signal.SIGKILL, f"{step} was not reached {count} times: {killed.stderr}"
    partials = list((tmp_path / "cache" / "partial").rglob("*.part"))
    in_place = partials[0].stat().st_size if partials else 0
    before = len(origin.seen("/large.nxs"))
    again = crashing.run(tmp_path, jobs)
    assert again.returncode == 0, again.stderr
    check_all_is_well(tmp_path, origin)
    after = origin.seen("/large.nxs")[before:]
    if in_place:
        assert [seen.headers.get("range") for seen in after] == [f"bytes={in_place - OVERLAP}-"], (
            "resumed bytes were fetched again"
        )


def test_a_server_killed_again_and_again_gets_there(tmp_path: Path, origin: Origin) -> None:
    jobs = write_jobs(tmp_path, origin)
    for step in ("fetch.written", "publish.linked", "record.committed", "dispatch.started", "results.kept"):
        assert crashing.run(tmp_path, jobs, step, "1").returncode in {-signal.SIGKILL, 0}
    assert crashing.run(tmp_path, jobs).returncode == 0
    check_all_is_well(tmp_path, origin)
