"""Records to rows and back."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import RowMapping

from stager.errors import StagerError, error_from_dict
from stager.model.fetches import FetchState
from stager.model.jobs import JobState
from stager.model.records import FetchRecord, JobRecord, NameRecord
from stager.model.stages import StagedFile

to_json = json.JSONEncoder(separators=(",", ":")).encode
"""`json.dumps` without making an encoder each time."""


def _error_text(error: StagerError | None) -> str | None:
    return None if error is None else to_json(error.to_dict())


def _error(text: str | None) -> StagerError | None:
    return None if text is None else error_from_dict(json.loads(text))


def new_job_row(job: JobRecord, *, name: str, owner: str, spec: str) -> dict[str, Any]:
    """The whole row of a job that has none yet; `spec` is JSON."""
    return job_row(job) | {
        "id": job.id,
        "name": name,
        "owner": owner,
        "spec": spec,
        "priority": job.priority,
        "submitted_at": job.submitted_at,
        "fetches": to_json(job.fetches),
    }


def job_row(job: JobRecord) -> dict[str, Any]:
    """The columns of a job that change; its id under the name that the update binds."""
    return {
        "row_id": job.id,
        "state": job.state.value,
        "epoch": job.epoch,
        "handed": job.handed,
        "ready_at": job.ready_at,
        "dispatched_at": job.dispatched_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "exit_code": job.exit_code,
        "error": _error_text(job.error),
    }


def job_record(row: RowMapping, after: tuple[str, ...], request_id: str = "") -> JobRecord:
    """The record of a job's row; what it waits for by name, and who asked for it, comes from its spec."""
    state = JobState(row["state"])
    return JobRecord(
        id=row["id"],
        fetches=tuple(json.loads(row["fetches"])),
        after=after,
        priority=row["priority"],
        owner=row["owner"],
        state=state,
        epoch=row["epoch"],
        handed=row["handed"],
        submitted_at=row["submitted_at"],
        ready_at=row["ready_at"],
        dispatched_at=row["dispatched_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        exit_code=row["exit_code"],
        error=_error(row["error"]),
        saved=state,
        request_id=request_id,
    )


def fetch_row(fetch: FetchRecord) -> dict[str, Any]:
    """All columns of a fetch; its id twice, the second time under the name that the update binds."""
    return {
        "row_id": fetch.id,
        "id": fetch.id,
        "url": fetch.url,
        **wanted_row(fetch),
        "refresh": fetch.refresh,
        "state": fetch.state.value,
        "generation": fetch.generation,
        "tries": fetch.tries,
        "priority": fetch.priority,
        "owner": fetch.owner,
        "created_at": fetch.created_at,
        "first_try_at": fetch.first_try_at,
        "not_before": fetch.not_before,
        "ended_at": fetch.ended_at,
        "sha256": fetch.sha256,
        "size": fetch.size,
        "fresh_until": fetch.fresh_until,
        "cached": fetch.cached,
        "received": fetch.received,
        "resumed_from": fetch.resumed_from,
        "error": _error_text(fetch.error),
        "restricted": fetch.restricted,
    }


def fetch_record(row: RowMapping) -> FetchRecord:
    """The record of a fetch's row."""
    state = FetchState(row["state"])
    return FetchRecord(
        id=row["id"],
        url=row["url"],
        expected=row["expected"] or row["digest"],
        refresh=row["refresh"],
        state=state,
        generation=row["generation"],
        tries=row["tries"],
        priority=row["priority"],
        owner=row["owner"],
        created_at=row["created_at"],
        first_try_at=row["first_try_at"],
        not_before=row["not_before"] or 0.0,  # a zero of its own for each would be 32 MB for a million
        ended_at=row["ended_at"],
        sha256=row["sha256"],
        size=row["size"],
        fresh_until=row["fresh_until"],
        cached=row["cached"],
        received=row["received"],
        resumed_from=row["resumed_from"],
        error=_error(row["error"]),
        restricted=bool(row["restricted"]),
        saved=state,
        mirrors=mirrors_of(row["mirrors"]),
        expected_size=row["expected_size"],
    )


def wanted_row(wanted: FetchRecord | StagedFile) -> dict[str, Any]:
    """The columns that say what a file must be, and where else it may be had."""
    expected = wanted.expected
    is_sha256 = expected is not None and ":" not in expected
    return {
        "expected": expected if is_sha256 else None,
        "digest": None if is_sha256 else expected,
        "expected_size": wanted.expected_size,
        "mirrors": to_json(wanted.mirrors) if wanted.mirrors else None,
    }


def mirrors_of(text: str | None) -> tuple[str, ...]:
    """The mirrors that `wanted_row` wrote."""
    return tuple(json.loads(text)) if text else ()


def name_row(name: NameRecord) -> dict[str, Any]:
    """All columns of a precondition; its name twice, the second time under the name that the update binds."""
    return {"row_name": name.name, "name": name.name, "met_at": name.met_at}


def name_record(row: RowMapping) -> NameRecord:
    """The record of a precondition's row."""
    return NameRecord(name=row["name"], met_at=row["met_at"], saved=True)
