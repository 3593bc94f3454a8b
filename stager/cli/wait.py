"""``stager wait``, ``stager cancel`` and ``stager retry``: jobs to their end, one way or the other."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from stager.cli import output
from stager.cli.exit_codes import Exit
from stager.cli.options import AsJson

if TYPE_CHECKING:
    from stager.model.views import JobDetail

Jobs = Annotated[list[str], typer.Argument(metavar="JOB...", help="Ids, endings of ids, or names of jobs.")]
Timeout = Annotated[
    float | None, typer.Option("--timeout", min=0, metavar="SECONDS", help="Wait no longer than this.")
]


def wait(jobs: Jobs, timeout: Timeout = None, as_json: AsJson = False) -> Exit:
    """Wait until the jobs are over. Status 0: all done; 1: one failed or was cancelled; 7: time is up."""
    from stager.cli.connect import connected

    until = None if timeout is None else time.monotonic() + timeout
    ended = Exit.OK
    with connected() as client:
        for word in jobs:
            job = client.jobs.wait(word, None if until is None else max(0.0, until - time.monotonic()))
            ended = max(ended, _tell(job, as_json=as_json))
    return ended


def _tell(job: JobDetail, *, as_json: bool) -> Exit:
    from stager.errors import error_from_dict
    from stager.model.jobs import JobState

    if as_json:
        output.json_line(
            {
                "id": job.id,
                "name": job.name,
                "state": job.state,
                "exit_code": job.exit_code,
                "error": job.error,
            }
        )
    else:
        output.line(f"{job.id} {job.state}")
    if not job.state.is_final:
        waits = f"waits for {', '.join(job.waits_for)}" if job.waits_for else f"is {job.state}"
        output.note(f"time is up: job {job.id} {waits}")
        return Exit.TIMEOUT
    if job.state is JobState.DONE:
        return Exit.OK
    if job.error and not as_json:
        output.note(str(error_from_dict(job.error)))
    return Exit.FAILED


def retry(jobs: Jobs, as_json: AsJson = False) -> None:
    """Submit jobs that failed or were cancelled anew, with the same descriptions, and print the new ids."""
    from stager.cli.connect import connected

    with connected() as client:
        for word in jobs:
            new = client.jobs.retry(word)
            if as_json:
                output.json_line({"job": word, "id": new})
            else:
                output.line(new)


def cancel(jobs: Jobs, as_json: AsJson = False) -> None:
    """Cancel jobs; a process that runs for one is ended. Jobs that are over already are left alone."""
    from stager.cli.connect import connected

    with connected() as client:
        for word in jobs:
            changed = client.jobs.cancel(word)
            if as_json:
                output.json_line({"job": word, "changed": changed})
            elif not changed:
                output.note(f"job {word} was cancelled already")
