"""Whatever an origin or a file system does, the job ends in the right state and says why and what to do."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from stager.model.jobs import JobInput, JobSpec, JobState
from stager.model.views import JobDetail
from stager.settings import Settings
from stager.wiring.server import JobServer
from tests.support.needs import needs
from tests.support.origin import Answer, Origin, content, status

DATA = bytes(range(256)) * 8192  # 2 MiB: large enough for a partial file
OTHER = bytes(reversed(DATA))
PATIENCE = 60.0


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


@contextmanager
def server(root: Path, cache: Path | None = None, **more: object) -> Iterator[JobServer]:
    settings = Settings(
        cache_dir=cache or root / "cache",
        state_dir=root / "state",
        retry_first_seconds=0.01,
        **more,  # type: ignore[arg-type]
    )
    with JobServer(settings) as running:
        yield running


def outcome(running: JobServer, url: str, sha256: str | None = None) -> JobDetail:
    command = ("/bin/sh", "-c", "sha256sum < inputs/data")
    (job,) = running.jobs.submit([JobSpec(command, (JobInput(url, "data", sha256),))])
    assert running.jobs.wait(job, PATIENCE).state.is_final, f"the job is stuck: {running.jobs.job(job)}"
    return running.jobs.job(job)


def printed(running: JobServer, job: JobDetail) -> str:
    return running.jobs.log_file(job.id, "stdout").read_text().split()[0]


PASSING: dict[str, tuple[Answer, ...]] = {
    "a body cut short": (content(DATA, etag='"1"', cut=1_500_000), content(DATA, etag='"1"')),
    "a reset": (content(DATA, etag='"1"', cut=1_500_000, end="reset"), content(DATA, etag='"1"')),
    "a reset before the first byte": (content(DATA, cut=0, end="reset"), content(DATA)),
    "500, then 200": (status(500), content(DATA)),
    "503 with Retry-After, then 200": (status(503, {"Retry-After": "0"}), content(DATA)),
    "429, then 200": (status(429), content(DATA)),
    "a cut body without a validator": (content(DATA, cut=1_500_000), content(DATA)),
    "a change between two tries": (content(OTHER, etag='"0"', cut=1_500_000), content(DATA, etag='"1"')),
}


@pytest.mark.parametrize("trouble", PASSING)
def test_what_passes_is_tried_again_and_the_job_gets_the_right_bytes(
    trouble: str, tmp_path: Path, origin: Origin
) -> None:
    url = origin.serve("/data", *PASSING[trouble])
    with server(tmp_path) as running:
        job = outcome(running, url)
        assert (job.state, job.error) == (JobState.DONE, None)
        assert printed(running, job) == sha256(DATA).hexdigest()
        assert job.inputs[0].tries == 2
    assert len(origin.seen("/data")) == 2


LASTING: dict[str, tuple[Answer, str, int]] = {
    "404": (status(404), "404", 1),
    "410": (status(410), "410", 1),
    "a body that never comes whole": (content(DATA, cut=0), "of 2097152", 3),
    "500 for ever": (status(500), "500", 3),
}


@pytest.mark.parametrize("trouble", LASTING)
def test_what_lasts_fails_the_job_with_the_url_the_cause_and_the_way_out(
    trouble: str, tmp_path: Path, origin: Origin
) -> None:
    answer, cause, requests = LASTING[trouble]
    url = origin.serve("/data", answer)
    with server(tmp_path, retry_attempts=3) as running:
        job = outcome(running, url)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error["code"] == "input-failed"
    assert url in job.error["what"]
    assert cause in job.error["cause"]
    assert job.error["remedy"]
    assert len(origin.seen("/data")) == requests


def test_wrong_bytes_are_asked_for_once_more_and_then_refused(tmp_path: Path, origin: Origin) -> None:
    url = origin.serve("/data", content(OTHER))
    expected = sha256(DATA).hexdigest()
    with server(tmp_path) as running:
        job = outcome(running, url, expected)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert expected in job.error["cause"]
    assert sha256(OTHER).hexdigest() in job.error["cause"]
    assert len(origin.seen("/data")) == 2
    assert not list((tmp_path / "cache" / "objects").rglob(sha256(OTHER).hexdigest()))


def test_wrong_bytes_followed_by_the_right_ones_are_no_failure(tmp_path: Path, origin: Origin) -> None:
    url = origin.serve("/data", content(OTHER), content(DATA))
    with server(tmp_path) as running:
        job = outcome(running, url, sha256(DATA).hexdigest())
        assert printed(running, job) == sha256(DATA).hexdigest()


def test_two_jobs_that_disagree_about_the_digest_each_get_their_verdict(
    tmp_path: Path, origin: Origin
) -> None:
    url = origin.serve("/data", content(DATA))
    command = ("/bin/sh", "-c", "sha256sum < inputs/data")
    right, wrong = sha256(DATA).hexdigest(), sha256(OTHER).hexdigest()
    with server(tmp_path) as running:
        jobs = running.jobs.submit(
            [JobSpec(command, (JobInput(url, "data", digest),)) for digest in (right, wrong, None)]
        )
        states = [running.jobs.wait(job, PATIENCE).state for job in jobs]
    assert states == [JobState.DONE, JobState.FAILED, JobState.DONE]


def test_a_full_disk_delays_the_job_until_there_is_room(tmp_path: Path, origin: Origin) -> None:
    small = tmp_path / "small"
    small.mkdir()
    needs(os.geteuid() == 0, "root, to mount a small file system")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m,mode=700", "none", small], capture_output=True, check=False
    )
    needs(mounted.returncode == 0, f"the right to mount: {mounted.stderr.decode()}")
    try:
        ballast = small / "ballast"
        ballast.write_bytes(bytes(2_000_000))
        url = origin.serve("/data", content(DATA, etag='"1"'))
        with server(tmp_path, small / "cache", retry_attempts=4096, retry_longest_seconds=0.05) as running:
            command = ("/bin/sh", "-c", "sha256sum < inputs/data")
            (job,) = running.jobs.submit([JobSpec(command, (JobInput(url, "data"),))])
            origin.wait_for("/data", 2)  # it failed for lack of space, and is tried again
            waiting = running.jobs.job(job)
            assert waiting.state is JobState.WAITING
            assert waiting.waits_for == [url]
            ballast.unlink()
            assert running.jobs.wait(job, PATIENCE).state is JobState.DONE
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_directory_that_nobody_can_write_fails_the_job_and_names_it(tmp_path: Path, origin: Origin) -> None:
    url = origin.serve("/data", content(DATA))
    with server(tmp_path) as running:
        blocked = tmp_path / "cache" / "objects"
        blocked.touch()  # root may write anywhere, but not below a file
        job = outcome(running, url)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert str(blocked) in job.error["cause"]
    assert job.error["remedy"]
