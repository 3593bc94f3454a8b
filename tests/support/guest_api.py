"""What a test asks a guest to ask the server that runs there; the guest calls it by name (see hosts.py).

The API listens on the guest's loopback only, and starting the `stager` command takes seconds there.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from stager.client import Client
from stager.model.jobs import JobInput, JobSpec


def _client(url: str, state: str) -> Client:
    return Client(url, Path(state, "token").read_text().strip())


def submit(url: str, state: str, script: str, *urls: str) -> str:
    """Submit a job that runs `script` when these are there; its id."""
    spec = JobSpec(("/bin/sh", "-c", script), tuple(JobInput(one) for one in urls))
    with _client(url, state) as client:
        (job,) = client.jobs.submit([spec])
    return job


def job(url: str, state: str, job: str, seconds: float) -> dict[str, Any]:
    """The job, when it is over or after so many seconds."""
    with _client(url, state) as client:
        return asdict(client.jobs.wait(job, seconds))
