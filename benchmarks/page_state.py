"""A state directory as a site has it after years: a hundred thousand jobs, a million files in the catalogue."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from stager.clock import SystemClock
from stager.errors import OriginRefusedError
from stager.model.catalogue import CachedFile, FileRow, host_of, row_of
from stager.model.fetches import FetchState
from stager.model.jobs import JobInput, JobSpec, JobState
from stager.model.keys import key_digest
from stager.model.records import Changes, FetchRecord, JobRecord, NameRecord
from stager.service.ids import IdMaker
from stager.settings import Settings
from stager.state.store import Store
from stager.wiring.cache import build_cache_site

HOSTS = (
    "archive.example.org",
    "data.example.org",
    "portal.example.com",
    "s3.example.net",
    "beamline.example.org",
)
AT_ONCE = 5000
WAITING_SHARE, FAILED_SHARE = 0.2, 0.05
"""Of all jobs; the others are done."""


def fill_catalogue(settings: Settings, files: int) -> None:
    """Rows of so many files, without the files."""
    site = build_cache_site(settings)
    try:
        walk = site.catalogue.begin_walk()
        rows: list[FileRow] = []
        for row in _rows(files):
            rows.append(row)
            if len(rows) == AT_ONCE:
                site.catalogue.walked(rows, walk)
                rows.clear()
        site.catalogue.walked(rows, walk)
        site.catalogue.end_walk(walk, time.time())
    finally:
        site.close()


def _rows(files: int) -> Iterator[FileRow]:
    chance = random.Random(1)
    now = time.time()
    for number in range(files):
        host = HOSTS[number % 17 % len(HOSTS)] if number % 11 else f"lab{number % 40}.example.org"
        key = f"https://{host}/instrument/{number % 100:02}/run{number:07}.nxs"
        stored = now - chance.random() * 3e7
        yield row_of(
            CachedFile(
                key_digest(key),
                key,
                sha256(key.encode()).hexdigest(),
                int(chance.lognormvariate(16, 3)),
                stored,
                min(now, stored + chance.random() * 2e7),
                owner=f"user{number % 9}",
                host=host_of(key),
            )
        )


def fill_jobs(settings: Settings, jobs: int) -> None:
    """So many jobs; each that waits does so for a precondition of its own and for two inputs."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    store = Store(f"sqlite:///{settings.state_dir / 'stager.db'}")
    ids = IdMaker(SystemClock())
    chance = random.Random(2)
    try:
        for start in range(0, jobs, AT_ONCE):
            changes = Changes()
            specs = {}
            for number in range(start, min(start + AT_ONCE, jobs)):
                job, spec = _job(number, next(ids), [next(ids), next(ids)], chance.random(), changes)
                specs[job.id] = spec
            store.save(changes, specs)
    finally:
        store.close()


def _job(
    number: int, job_id: str, fetches: list[str], luck: float, changes: Changes
) -> tuple[JobRecord, JobSpec]:
    now = time.time() - 1000
    state = (
        JobState.FAILED
        if luck < FAILED_SHARE
        else JobState.WAITING
        if luck < FAILED_SHARE + WAITING_SHARE
        else JobState.DONE
    )
    waits = state is JobState.WAITING
    urls = [f"http://127.0.0.1:9/instrument/run{number}-{part}.nxs" for part in range(len(fetches))]
    for fetch, url in zip(fetches, urls, strict=True):
        ready = FetchState.QUEUED if waits else FetchState.READY
        changes.fetches.append(
            FetchRecord(
                fetch, url, state=ready, created_at=now, not_before=now + 1e6 if waits else 0.0, size=4096
            )
        )
    name = f"calibrated-{number}"
    changes.names.append(NameRecord(name, None if waits else now))
    error = OriginRefusedError(f"{urls[0]} was refused", cause="404 Not Found", remedy="check the URL")
    job = JobRecord(
        job_id,
        tuple(fetches),
        (name,),
        state=state,
        submitted_at=now,
        ended_at=None if waits else now + 60,
        error=error if state is JobState.FAILED else None,
    )
    changes.jobs.append(job)
    inputs = tuple(JobInput(url) for url in urls)
    return job, JobSpec(
        ("python3", "reduce.py"), inputs, (name,), name=f"reduce-{number}", owner=f"user{number % 9}"
    )


def fill(directory: Path, *, files: int, jobs: int) -> Settings:
    """Both, in a directory; the settings of its server, which keeps what it has."""
    settings = Settings(
        cache_dir=directory / "cache",
        state_dir=directory / "state",
        port=0,
        input_days=0.0,
        result_days=0.0,
        verify_days=0.0,
        max_used_percent=100.0,
    )
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    fill_jobs(settings, jobs)
    fill_catalogue(settings, files)
    return settings
