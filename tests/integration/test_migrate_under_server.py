"""A cache that is moved to and fro under a running server: every job has its inputs, and their bytes are right."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from stager.cache.migrate import Migration
from stager.model.jobs import JobInput, JobSpec, JobState
from stager.wiring.server import JobServer
from tests.support import crashing
from tests.support.origin import Origin, content

FILES = {f"/run-{number}.dat": b"%d " % number * (number * 700 + 1) for number in range(24)}


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as running:
        for path, data in FILES.items():
            running.serve(path, content(data, etag=f'"{path}"'))
        yield running


def specs(origin: Origin, after: tuple[str, ...]) -> list[JobSpec]:
    """Each file is the input of two jobs; a job reads its inputs, waits a little, and reads them again."""
    script = "sha256sum inputs/* > results/sums && sleep 0.3 && sha256sum -c results/sums >/dev/null"
    paths = list(FILES)
    return [
        JobSpec(
            ("/bin/sh", "-c", script),
            (JobInput(origin.url(path)), JobInput(origin.url(paths[number - 1]))),
            after=after,
            results=("sums",),
        )
        for number, path in enumerate(paths)
    ]


def test_jobs_do_not_notice_that_the_cache_is_moved(tmp_path: Path, origin: Origin) -> None:
    over = threading.Event()
    moved: list[str] = []
    errors: list[BaseException] = []

    def move() -> None:
        try:
            while not over.is_set():
                for shards in ("4+4", "flat", "2+2"):
                    for _ in Migration(tmp_path / "cache", shards, grace_seconds=1.2).run(time.sleep):
                        pass
                    moved.append(shards)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            errors.append(error)

    with JobServer(crashing.settings(tmp_path)) as server:
        mover = threading.Thread(target=move)
        mover.start()
        try:
            first = server.jobs.submit(specs(origin, ()))
            second = server.jobs.submit(specs(origin, ("go",)))  # their inputs wait while the cache is moved
            jobs = [server.jobs.wait(job, 60) for job in first]
            seen = len(moved)
            while len(moved) == seen and mover.is_alive():
                over.wait(0.05)
            server.jobs.meet("go")
            jobs += [server.jobs.wait(job, 60) for job in second]
        finally:
            over.set()
            mover.join()
        assert errors == []
        assert {job.state for job in jobs} == {JobState.DONE}, [job.error for job in jobs if job.error]
        for job in jobs:
            _, file = server.jobs.open_result(job.id, "sums")
            with file:
                sums = file.read().decode()
            for item in server.jobs.job(job.id).inputs:
                assert f"{sha256(FILES['/' + item.name]).hexdigest()}  inputs/{item.name}" in sums
    assert len(moved) > 1
    assert {len(origin.seen(path)) for path in FILES} == {1}, "nothing was fetched twice"
