"""``stager jobs`` and ``stager job``: the list, and one in full."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from stager.cli import output
from stager.cli.options import AsJson
from stager.errors import InputError
from stager.model.shown import how_far, ran, reason, span, state_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stager.model.jobs import JobState
    from stager.model.views import JobDetail, JobView

States = Annotated[
    list[str] | None,
    typer.Option(
        "--state", metavar="STATE", help="Only jobs in this state (waiting, running ...); may be repeated."
    ),
]
Limit = Annotated[int, typer.Option("--limit", min=1, metavar="N", help="At most so many, newest first.")]
Job = Annotated[str, typer.Argument(metavar="JOB", help="Id, ending of an id, or name of a job.")]


def jobs(state: States = None, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List jobs, newest first."""
    from stager.cli.connect import connected

    states = [_state(word) for word in state or ()]
    with connected() as client:
        found = client.jobs.list(states=states, limit=limit)
    if as_json:
        for one in found:
            output.json_line(asdict(one))
        return
    now = time.time()
    output.table(
        ("id", "name", "state", "age", "ran", "owner", "waits for, or what went wrong"),
        (
            (
                one.id, one.name, state_of(one), span(now - one.submitted_at), ran(one, now), one.owner,
                _remark(one),
            )
            for one in found
        ),
        right=("age", "ran"),
    )  # fmt: skip


def _state(word: str) -> JobState:
    from stager.model.jobs import JobState

    try:
        return JobState(word)
    except ValueError:
        raise InputError(f"no state {word!r}", remedy=f"the states are {', '.join(JobState)}") from None


def job(job: Job, as_json: AsJson = False) -> None:
    """Show one job: its state, its inputs, what it waits for, what went wrong, what it left."""
    from stager.cli.connect import connected

    with connected() as client:
        found = client.jobs.show(job)
    if as_json:
        output.json_line(asdict(found))
        return
    for line in page(found, time.time()):
        output.line(" " * (len(line) - len(line.lstrip())) + output.one_line(line))


def page(found: JobDetail, now: float) -> Iterator[str]:
    """A job as lines to read."""
    title = f"job {found.id}" + (f"  {found.name}" if found.name else "")
    state = state_of(found) if found.exit_code is None else f"{found.state}, status {found.exit_code}"
    yield f"{title}  {state}"
    yield f"  command    {_shell(found.command)}"
    yield f"  directory  {found.directory}"
    if found.owner:
        yield f"  owner      {found.owner}"
    if found.priority:
        yield f"  priority   {found.priority}"
    for name, value in found.environment.items():
        yield f"  variable   {name}={value}"
    yield from _history(found, now)
    if found.error:
        yield "what went wrong"
        for key, label in (("what", "what"), ("cause", "why"), ("remedy", "way out")):
            if found.error.get(key):
                yield f"  {label:<9}  {found.error[key]}"
    locked = (item.error for item in found.inputs if item.state == "locked" and item.error is not None)
    for remedy in dict.fromkeys(str(error["remedy"]) for error in locked):
        yield f"  way out    {remedy}; then it goes on by itself"
    if found.inputs or found.after:
        yield "waits for" if found.waits_for else "needed"
        width = max(len(name) for name in [i.name for i in found.inputs] + [a.name for a in found.after])
        for item in found.inputs:
            yield f"  {item.name:<{width}}  {how_far(item, now)}"
            yield f"  {'':<{width}}  {item.url}"
        for one in found.after:
            met = f"met {output.moment(one.met_at)}" if one.met_at else "not met yet"
            yield f"  {one.name:<{width}}  {met}"
    if found.results:
        yield "results"
        width = max(len(result.name) for result in found.results)
        for result in found.results:
            yield f"  {result.name:<{width}}  {output.size(result.size):>10}  sha256 {result.sha256}"


def _history(found: JobDetail, now: float) -> Iterator[str]:
    before = found.submitted_at
    yield f"  submitted  {output.moment(before)}  {span(now - before)} ago"
    steps = (
        ("ready", found.ready_at),
        ("dispatched", found.dispatched_at),
        ("started", found.started_at),
        ("ended", found.ended_at),
    )
    for name, moment in steps:
        if moment is not None:
            yield f"  {name:<10} {output.moment(moment)}  after {span(moment - before)}"
            before = moment


def _remark(one: JobView) -> str:
    if one.error:
        return reason(one)
    if one.wants_credentials:
        return f"one for {', '.join(one.wants_credentials)}: `stager job {one.id}` says how to give it"
    return ", ".join(one.waits_for)


def _shell(command: list[str]) -> str:
    import shlex

    return shlex.join(command)
