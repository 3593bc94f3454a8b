"""The tasks: thin, named, ids in and nothing out."""

from __future__ import annotations

from typing import Any

from stager.farm.names import FETCH_TASK, RUN_TASK
from workers import lifecycle
from workers.celery import app


@app.task(name=FETCH_TASK, bind=True)  # type: ignore[untyped-decorator]  # celery has no types
def fetch(self: Any, tries: list[tuple[str, int]]) -> str:
    """Fetch these, one after another: pairs of fetch and generation."""
    return lifecycle.said(
        lambda: lifecycle.fetch_worker().run(
            [(str(fetch), int(generation)) for fetch, generation in tries],
            lifecycle.notes(self.request.id, self.request.hostname),
        )
    )


@app.task(name=RUN_TASK, bind=True)  # type: ignore[untyped-decorator]  # celery has no types
def run(self: Any, job: str, epoch: int) -> str:
    """Run a job, unless another node has it."""
    note = lifecycle.notes(self.request.id, self.request.hostname)

    def work() -> str:
        lifecycle.job_worker().run(job, epoch, note)
        return f"job {job} is over"

    return lifecycle.said(work)
