"""Why a job failed without having run."""

from __future__ import annotations

from collections.abc import Mapping

from stager.errors import CredentialError, FetchError, InputFailedError, JobError, JobTooLargeError
from stager.model.records import FetchRecord, JobRecord
from stager.model.urls import parse_url

MOST_HAND_OVERS = 5
"""After that many refused ones the file system is at fault, and fetching once more is no help."""


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


def to_be_given_for(owner: str, error: CredentialError) -> CredentialError:
    """The same error, whose advice names whose the credential has to be: who follows it may be somebody else."""
    command = f"stager credentials add {error.details.get('host')}"
    whose = f"--owner {owner}" if owner else "--site"  # what is nobody's in particular uses everybody's alone
    error.remedy = error.remedy.replace(command, f"{command} {whose}", 1)
    return error


def job_too_large(job: JobRecord, fetches: Mapping[str, FetchRecord], most: int) -> JobTooLargeError | None:
    """What is known of the sizes of the job's inputs is more than `most` bytes (0: no limit)."""
    if not most or job.known_bytes <= most:
        return None
    wanted = set(job.fetches)
    known = [size for fetch in wanted if (size := fetches[fetch].known_size)]
    size = sum(known)
    of = f"{len(known)} of its {len(wanted)} inputs" if len(known) < len(wanted) else "its inputs"
    return JobTooLargeError(
        f"the inputs of job {job.id} are too large",
        cause=f"{of} are {size:,} bytes, of at most {most:,}",
        remedy="make several jobs of it; whoever runs this site sets the limit (max_job_bytes)",
        size=size,
        limit=most,
    )


def inputs_lost(job: JobRecord) -> JobError:
    """The hand-over found inputs gone or damaged too often."""
    return JobError(
        f"job {job.id} could not be handed over",
        cause=f"its inputs were found gone or damaged {job.epoch} times, each time after they had been fetched",
        remedy="check the file system of the cache",
    )
