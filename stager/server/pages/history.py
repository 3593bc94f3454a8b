"""What happened to a job, in order."""

from __future__ import annotations

from dataclasses import dataclass

from stager.model.views import JobDetail

MOST_SINGLY = 12
"""Inputs; of more only the first and the last are told."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happened.

    Attributes:
        at: when, seconds since 1970 UTC.
        what: in words.
        after: seconds after the step before it; None: it is the first.
    """

    at: float
    what: str
    after: float | None = None


def history(job: JobDetail) -> list[Step]:
    """All steps, the first one first."""
    found = [Step(job.submitted_at, "submitted")]
    staged = sorted(
        (item.ended_at, item.name)
        for item in job.inputs
        if item.state == "ready" and item.ended_at is not None
    )
    at_once = [one for one in staged if one[0] <= job.submitted_at]
    staged = staged[len(at_once) :]
    if at_once:
        count = len(at_once)
        what = f"input {at_once[0][1]} was there" if count == 1 else f"{count} inputs were there"
        found.append(Step(job.submitted_at, what))
    if len(staged) > MOST_SINGLY:
        found.append(Step(staged[0][0], f"first input staged: {staged[0][1]}"))
        found.append(Step(staged[-1][0], f"{len(staged)} inputs staged, the last one: {staged[-1][1]}"))
    else:
        found += [Step(at, f"input staged: {name}") for at, name in staged]
    found += [
        Step(one.met_at, f"met: {one.name}")
        for one in job.after
        if one.met_at is not None and one.met_at > job.submitted_at
    ]
    moments = (
        (job.ready_at, "ready"),
        (job.dispatched_at, "dispatched"),
        (job.started_at, "running"),
        (job.ended_at, str(job.state)),
    )
    later = [Step(at, what) for at, what in moments if at is not None]
    ordered = sorted(found, key=lambda step: step.at) + later
    return [
        Step(step.at, step.what, max(0.0, step.at - before.at) if before else None)
        for before, step in zip([None, *ordered], ordered, strict=False)
    ]
