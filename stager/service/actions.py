"""What becomes of jobs and fetches, as lines of the log: one action a line, with the id of the request it goes back to.

Told in the mapper's thread, after it is durable.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from stager.model.fetches import FetchState
from stager.model.jobs import JobSpec, JobState
from stager.model.records import FetchRecord, JobRecord
from stager.model.urls import parse_url

log = logging.getLogger(__name__)

MOST_NAMED = 20
"""Fetches that the line about a new job names; those of a job with more are found by its id in theirs."""


def job_submitted(job: JobRecord, spec: JobSpec) -> None:
    """A job was taken in."""
    if log.isEnabledFor(logging.INFO):
        given: dict[str, Any] = {"owner": spec.owner, "job_name": spec.name, "after": list(job.after)}
        _say(
            "job submitted",
            "job.submitted",
            job=job.id,
            request_id=job.request_id,
            inputs=len(job.fetches),
            fetches=list(job.fetches[:MOST_NAMED]),
            **{name: value for name, value in given.items() if value},
        )


def job_moved(job: JobRecord, before: JobState | None) -> None:
    """A job is in another state than `before`."""
    if not log.isEnabledFor(logging.INFO):
        return
    state = job.state
    about: dict[str, Any] = {"job": job.id, "request_id": job.request_id}
    if state is JobState.DISPATCHED:
        about |= {"epoch": job.epoch, "waited_seconds": _since(job.submitted_at, job.dispatched_at)}
        _say("job dispatched", "job.dispatched", **about)
    elif state.is_final:
        about |= {"exit_code": job.exit_code, "ran_seconds": _since(job.started_at, job.ended_at)}
        if job.error is not None:
            about |= {"error": job.error.code, "reason": str(job.error)}
        _say(f"job {state.value}", f"job.{state.value}", **about)
    elif state is JobState.RUNNING:
        _say("job runs", "job.running", log.debug, **about)
    elif state is JobState.READY:
        _say("job ready", "job.ready", log.debug, **about)
    elif before is not None:
        _say("job waits again: an input was lost", "job.waiting", log.warning, **about)


def fetch_moved(fetch: FetchRecord, before: FetchState | None) -> None:
    """A fetch is in another state than `before`."""
    state = fetch.state
    if state is FetchState.RUNNING or (before is None and state is not FetchState.READY):
        if log.isEnabledFor(logging.DEBUG):
            began = state is FetchState.RUNNING
            _say(
                *(("fetch runs", "fetch.running") if began else ("fetch queued", "fetch.queued")),
                log.debug,
                **_of(fetch),
            )
        return
    if not log.isEnabledFor(logging.INFO):
        return
    if state is FetchState.READY:
        source = "cache" if fetch.cached else "origin"
        took = _since(fetch.first_try_at, fetch.ended_at)
        _say("fetch ready", "fetch.ready", **_of(fetch), size=fetch.size, source=source, seconds=took)
    elif fetch.error is not None and before is FetchState.RUNNING:
        about = _of(fetch) | {"tries": fetch.tries, "error": fetch.error.code, "reason": str(fetch.error)}
        match state:
            case FetchState.FAILED:
                _say("fetch failed", "fetch.failed", log.warning, **about)
            case FetchState.LOCKED:
                _say("fetch waits for a credential", "fetch.locked", log.warning, **about)
            case FetchState.QUEUED:
                _say("fetch is tried again", "fetch.retry", **about, not_before=fetch.not_before)
            case _:
                _say("fetch cancelled", "fetch.cancelled", **_of(fetch))
    elif state is FetchState.CANCELLED:
        _say("fetch cancelled", "fetch.cancelled", **_of(fetch))


def _of(fetch: FetchRecord) -> dict[str, Any]:
    return {"fetch": fetch.id, "request_id": fetch.request_id, "url": parse_url(fetch.url).redacted}


def _since(began: float | None, ended: float | None) -> float | None:
    return None if began is None or ended is None else round(max(0.0, ended - began), 3)


def _say(text: str, action: str, tell: Callable[..., None] = log.info, **about: Any) -> None:
    tell(text, extra={"action": action} | about)
