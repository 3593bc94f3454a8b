"""What every place for jobs does after a command: keep its results, say how the job ended."""

from __future__ import annotations

import time

from stager import steps
from stager.cache.store import FileCache
from stager.errors import CacheError, CommandFailedError, RunnerLostError, StagerError
from stager.mapper.dispatch.results import check_results, keep_results
from stager.mapper.dispatch.runs import Outcome
from stager.model.events import DispatchOrder, JobEnded, JobRefused, JobSignal


def collect(cache: FileCache, order: DispatchOrder, outcome: Outcome, *, stopped: bool = False) -> JobEnded:
    """Turn what a run left into the job's end; of a job that was `stopped` no results are kept.

    Raises:
        CacheError: a transient one: nothing is lost, collecting again may succeed.
    """
    steps.reached("dispatch.ended")
    code, seconds = outcome.exit_code, outcome.seconds
    if stopped:
        return JobEnded(order.job, order.epoch, code, None, seconds=seconds)
    try:
        kept = keep_results(
            cache,
            order.job,
            cache.job_dir(order.job) / "results",
            order.results,
            owner=order.owner,
            keep_until=time.time() + cache.promise_seconds,
            restricted=order.restricted,
        )
    except CacheError as error:
        if error.transient:
            raise
        return JobEnded(order.job, order.epoch, code, error, seconds=seconds)
    steps.reached("results.kept")
    verdict = _verdict(order, outcome) or check_results(kept, order.results)
    return JobEnded(order.job, order.epoch, code, verdict, kept, seconds)


def cut_short(order: DispatchOrder) -> JobEnded:
    """The end of a job that was started and whose end nobody recorded."""
    lost = RunnerLostError(
        f"job {order.job} was cut short",
        cause="its runner was killed, or the machine went down, before the command ended",
        remedy="submit it again if it may run twice",
    )
    return JobEnded(order.job, order.epoch, None, lost)


def _verdict(order: DispatchOrder, outcome: Outcome) -> StagerError | None:
    if outcome.exit_code == 0:
        return None
    if outcome.exit_code is None:
        return CommandFailedError(
            f"the command of job {order.job} was not started",
            cause=outcome.error or "",
            remedy="check its name and mode",
        )
    return CommandFailedError(
        f"the command of job {order.job} failed",
        cause=f"status {outcome.exit_code}" + (f", {outcome.error}" if outcome.error else ""),
        remedy=f"see `stager logs {order.job}`",
        exit_code=outcome.exit_code,
    )


class Refusals:
    """The newest refusal of each job: what was refused once stays refused, though its inputs came back.

    Not for several threads at once: who has one holds a lock.
    """

    def __init__(self) -> None:
        self._newest: dict[str, JobRefused] = {}

    def of(self, job: str, epoch: int) -> JobRefused | None:
        """The refusal of this hand-over."""
        refused = self._newest.get(job)
        return refused if refused is not None and refused.epoch == epoch else None

    def note(self, signal: JobSignal) -> None:
        """Remember a refusal; any other end makes an earlier one pointless."""
        if isinstance(signal, JobRefused):
            self._newest[signal.job] = signal
        else:
            self.forget(signal.job)

    def forget(self, job: str) -> None:
        """The job is over."""
        self._newest.pop(job, None)
