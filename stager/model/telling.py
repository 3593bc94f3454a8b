"""Which events a batch of changes tells.

They follow from what is written anyway: a record's state against the one that the database has of it. So the rules of
the mapper know nothing of events, and each is written in the same transaction as what it tells of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from stager.errors import CacheFullError, StagerError
from stager.model.chronicle import Event
from stager.model.fetches import FetchState
from stager.model.jobs import JobState
from stager.model.records import Changes, FetchRecord, JobRecord, NameRecord
from stager.model.stages import StagedFile, StagedState

_WAY = (JobState.WAITING, JobState.READY, JobState.DISPATCHED, JobState.RUNNING)
_JOB_KINDS = {state: f"job.{state.value}" for state in JobState}
_STAGED_KINDS = {state: f"staged.{state.value}" for state in StagedState}


def events_of(changes: Changes) -> list[Event]:
    """What these changes tell, before they are written: `saved` of each record is what the database has of it."""
    events = [*changes.besides.told]
    for name in changes.names:
        events += _of_name(name)
    for fetch in changes.fetches:
        if fetch.saved is not fetch.state:
            events += _of_fetch(fetch)
    for file in changes.staged:
        if file.saved is not file.state:
            events.append(_of_file(file))
    for job in changes.jobs:
        if job.saved is not job.state:
            events += _of_job(job)
    return events


def _of_job(job: JobRecord) -> Iterator[Event]:
    """Each state on the way counts, also one that it left before it was written."""
    before = job.saved
    if before is None:
        yield Event("job.submitted", job.owner, job.id)
        before = JobState.WAITING
    for state in _passed(before, job):
        yield Event(
            _JOB_KINDS[state],
            job.owner,
            job.id,
            details={"epoch": job.epoch} if state is JobState.DISPATCHED else {},
        )
    if job.state.is_final:
        details = {"exit_code": job.exit_code} | _why(job.error)
        yield Event(_JOB_KINDS[job.state], job.owner, job.id, details=details)


def _passed(before: JobState, job: JobRecord) -> Iterable[JobState]:
    """States after `before`, up to the one that is not final."""
    last = job.state
    if last.is_final:
        last = JobState.RUNNING if job.started_at is not None else before
    first, end = _WAY.index(before), _WAY.index(last)
    return _WAY[first + 1 : end + 1] if end >= first else (last,)


def _of_fetch(fetch: FetchRecord) -> Iterator[Event]:
    match fetch.state:
        case FetchState.READY:
            if fetch.saved is None:  # it was there when it was asked for: nobody waited
                return
            details = {"url": fetch.url, "sha256": fetch.sha256, "size": fetch.size, "cached": fetch.cached}
            yield Event("fetch.ready", fetch.owner, fetch=fetch.id, details=details)
        case FetchState.FAILED | FetchState.LOCKED:
            kind = "fetch.failed" if fetch.state is FetchState.FAILED else "credential.missing"
            yield Event(kind, fetch.owner, fetch=fetch.id, details={"url": fetch.url} | _why(fetch.error))
        case FetchState.QUEUED if isinstance(fetch.error, CacheFullError):
            details = {"url": fetch.url} | _why(fetch.error)
            yield Event("space.waiting", fetch.owner, fetch=fetch.id, details=details)


def _of_file(file: StagedFile) -> Event:
    details: dict[str, Any] = {"url": file.url} | _why(file.error)
    if file.state is StagedState.READY:
        details |= {"sha256": file.sha256, "size": file.size, "pinned_until": file.pinned_until}
    return Event(_STAGED_KINDS[file.state], file.stage.owner, stage=file.stage.id, details=details)


def _of_name(name: NameRecord) -> Iterator[Event]:
    if name.met_at is not None:
        yield Event("precondition.met", details={"name": name.name})
    elif name.saved:
        yield Event("precondition.unmet", details={"name": name.name})


def _why(error: StagerError | None) -> dict[str, Any]:
    return {} if error is None else {"error": error.to_dict()}
