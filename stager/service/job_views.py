"""A job as people see it, put together from what is stored."""

from __future__ import annotations

from stager.model.fetches import FetchState
from stager.model.jobs import JobSpec, JobState
from stager.model.records import FetchRecord, JobRecord, NameRecord
from stager.model.urls import parse_url
from stager.model.views import JobView
from stager.state.store import StoredJob


def view_of(job: StoredJob, fetches: dict[str, FetchRecord], names: dict[str, NameRecord]) -> JobView:
    """The job, with what it waits for."""
    record, spec = job.record, job.spec
    return JobView(
        id=record.id,
        name=spec.name,
        state=record.state,
        priority=record.priority,
        submitted_at=record.submitted_at,
        ready_at=record.ready_at,
        dispatched_at=record.dispatched_at,
        started_at=record.started_at,
        ended_at=record.ended_at,
        exit_code=record.exit_code,
        error=None if record.error is None else record.error.to_dict(),
        command=list(spec.command),
        waits_for=_waits_for(record, spec, fetches, names),
        wants_credentials=_wants_credentials(record, fetches),
        owner=spec.owner,
        request_id=spec.request_id,
    )


def _wants_credentials(record: JobRecord, fetches: dict[str, FetchRecord]) -> list[str]:
    if record.state is not JobState.WAITING:
        return []
    known = (fetches[fetch] for fetch in record.fetches if fetch in fetches)
    locked = (fetch.error for fetch in known if fetch.state is FetchState.LOCKED)
    return list(dict.fromkeys(str(error.details.get("host", "")) for error in locked if error is not None))


def _waits_for(
    record: JobRecord, spec: JobSpec, fetches: dict[str, FetchRecord], names: dict[str, NameRecord]
) -> list[str]:
    if record.state is not JobState.WAITING:
        return []
    urls = [
        parse_url(item.url).redacted
        for item, fetch in zip(spec.inputs, record.fetches, strict=True)
        if fetch in fetches and fetches[fetch].state is not FetchState.READY
    ]
    return urls + [name for name in spec.after if name not in names or names[name].met_at is None]
