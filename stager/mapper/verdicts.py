"""Why a job failed without having run."""

from __future__ import annotations

from stager.errors import FetchError, InputFailedError, JobError
from stager.model.records import FetchRecord, JobRecord
from stager.model.urls import parse_url


def input_failed(fetch: FetchRecord) -> InputFailedError:
    """A fetch that the job needs has failed for good, or was cancelled."""
    error = fetch.error
    url = parse_url(fetch.url).redacted
    if error is None:
        return InputFailedError(f"input {url} was cancelled", remedy="submit the job again", url=url)
    told = isinstance(error, FetchError) and error.cause  # of these `what` only repeats the URL
    return InputFailedError(
        f"input {url} could not be fetched",
        cause=told or ": ".join(part for part in (error.what, error.cause) if part),
        remedy=error.remedy or "mend the cause and submit the job again",
        url=url,
        fetch=fetch.id,
        code=error.code,
    )


def inputs_lost(job: JobRecord) -> JobError:
    """The hand-over found inputs gone or damaged too often."""
    return JobError(
        f"job {job.id} could not be handed over",
        cause=f"its inputs were found gone or damaged {job.epoch} times, each time after they had been fetched",
        remedy="check the file system of the cache",
    )
