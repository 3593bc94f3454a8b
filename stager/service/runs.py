"""Reports of a job server to which jobs are handed over."""

from __future__ import annotations

from typing import Protocol

from stager.errors import ConflictError, InputError, NotFoundError
from stager.mapper.dispatch.runs import Outcome
from stager.model.records import JobRecord
from stager.state.store import Store


class ReportedPlace(Protocol):
    """A place for jobs that hears from elsewhere how they go."""

    def report(self, job: str, epoch: int, outcome: Outcome | None) -> bool:
        """Note a start (no outcome) or an end; False when it was known.

        Raises:
            ConflictError: there is no such run, or it ended in another way.
        """
        ...


class RunService:
    """What is reported of runs. A run is named by the job's id and the epoch under which it was handed over.

    Args:
        store: knows which run of a job is the one that counts.
        place: where jobs are handed over.
    """

    def __init__(self, store: Store, place: ReportedPlace) -> None:
        self._store = store
        self._place = place

    def started(self, job: str, epoch: int) -> bool:
        """The command runs; False when that was known.

        Raises:
            NotFoundError: no such job.
            ConflictError: the run is not the one that counts.
        """
        return self._report(job, epoch, None)

    def ended(self, job: str, epoch: int, exit_code: int | None, error: str | None, seconds: float) -> bool:
        """The command is over and its results are in place; False when that was known.

        Args:
            job: its id.
            epoch: of the hand-over.
            exit_code: status of the command; None if it was never started.
            error: why not, in that case.
            seconds: how long it ran.

        Raises:
            InputError: neither status nor error, or an error beside a success.
            NotFoundError: no such job.
            ConflictError: the run is not the one that counts, or ended in another way.
        """
        reason = " ".join((error or "").split())
        if exit_code is None and not reason:
            raise InputError(
                "an end without exit_code or error",
                cause="one of them says how the run ended",
                remedy='send "exit_code": 0 for a success',
            )
        if exit_code == 0 and reason:
            raise InputError(
                "an end with exit_code 0 and an error",
                cause="a run succeeds or fails",
                remedy="send another exit_code, or null if the command was not started",
            )
        return self._report(job, epoch, Outcome(exit_code, reason or None, seconds))

    def _report(self, job: str, epoch: int, outcome: Outcome | None) -> bool:
        if not self._counts(job, epoch):
            return False
        try:
            return self._place.report(job, epoch, outcome)
        except ConflictError:
            if self._counts(job, epoch):  # else its end was recorded, and forgotten there, just now
                raise
            return False

    def _counts(self, job: str, epoch: int) -> bool:
        """Whether the run is open; False when it is over."""
        record = self._record(job)
        if record.epoch != epoch:
            raise ConflictError(
                f"run {epoch} of job {job} is not the one that counts",
                cause=f"the last is {record.epoch}" if record.epoch else "it was never handed over",
                remedy="give that run up",
            )
        return record.handed

    def _record(self, job: str) -> JobRecord:
        found = self._store.job(job)
        if found is None:
            raise NotFoundError(f"no job {job!r}", remedy="report under the id that was posted")
        return found.record
