"""Taking in jobs that were submitted together. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from stager.mapper.instructions import NewJob
from stager.mapper.machine import Machine
from stager.model.answered import Answered
from stager.model.jobs import JobSpec

Submission = tuple[NewJob, JobSpec]


def take_in(jobs: Sequence[Submission], answered: Answered | None, machine: Machine, now: float) -> list[str]:
    """Submit jobs, all or none; their ids. With them is written what the call is answered with, if it has a key."""
    for new, _ in jobs:  # looked at before the first is taken in
        machine.check_new(new.id)
    if answered is not None:
        machine.besides.answered.append(answered)
    return [machine.submit(new, now=now).id for new, _ in jobs]
