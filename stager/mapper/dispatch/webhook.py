"""Jobs that another job server runs: told by signed posts, heard by reports.

A ready job is posted, at least once and always under the same ``Idempotency-Key``; whoever takes it says
so with a status of 2xx, reports its start and its end to the API, and leaves its results in the job's
directory. A report is noted before it is answered, so that none is lost with the server.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from stager import steps
from stager.cache.store import FileCache
from stager.errors import CommandFailedError, ConflictError, JobError
from stager.mapper.dispatch.executor import DelayedExecutor
from stager.mapper.dispatch.handovers import HandOver, HandOvers
from stager.mapper.dispatch.notes import HandOverNotes
from stager.mapper.dispatch.posting import Answer, Webhook
from stager.mapper.dispatch.prepare import job_variables
from stager.mapper.dispatch.runs import Outcome
from stager.model.backoff import RetryPolicy
from stager.model.events import DispatchOrder, JobEnded, JobSignal

log = logging.getLogger(__name__)

THREADS = 4
"""Posts at once."""
POSTS = RetryPolicy(attempts=30, first_seconds=1.0, longest_seconds=300.0)
"""Two hours: long enough for somebody to be called."""
GONE = frozenset({404, 409, 410})
"""Answers to a cancel that mean: there is nothing to end."""


@dataclass(slots=True, eq=False)
class _Run(HandOver):
    posting: bool = False
    halting: bool = False  # a cancel is on its way, or taken
    tries: int = 0
    tried_at: float = 0.0  # the first of them


class WebhookDispatcher:
    """Hands jobs to another job server.

    Args:
        cache: on a share that the other server sees under the same path.
        notes: directory on a local disk for what was posted and reported.
        emit: takes the signals; called from several threads.
        webhook: where jobs are posted.
        retry: when a post that failed is made again.
    """

    def __init__(
        self,
        cache: FileCache,
        notes: Path,
        emit: Callable[[JobSignal], None],
        *,
        webhook: Webhook,
        retry: RetryPolicy = POSTS,
    ) -> None:
        self._cache = cache
        self._notes = HandOverNotes(notes)
        self._webhook = webhook
        self._retry = retry
        self._executor = DelayedExecutor(THREADS, "dispatch")
        self._hand_overs: HandOvers[_Run] = HandOvers(cache, emit, self._executor, _Run)
        self._lock = threading.Lock()

    # -- the port -------------------------------------------------------------------------------

    def hand_over(self, order: DispatchOrder) -> None:
        """See `JobPlace.hand_over`."""
        run = self._hand_overs.take(order)
        if run is not None:
            self._executor.submit(self._begin, run)

    def holds(self, job: str, epoch: int) -> bool:
        """See `JobPlace.holds`."""
        return self._hand_overs.get(job, epoch) is not None

    def stop(self, job: str, epoch: int) -> None:
        """See `JobPlace.stop`."""
        run, new = self._hand_overs.stop(job, epoch)
        run.tries = 0  # those of the cancel are counted from here
        self._executor.submit(self._begin if new else self._halt, run)

    def clean_up(self, job: str, epoch: int) -> None:
        """See `JobPlace.clean_up`."""
        self._executor.submit(self._clean_up, job, epoch)

    def tidy(self, open_jobs: Collection[str]) -> None:
        """See `JobPlace.tidy`."""
        for job, epoch in self._notes.all_but(open_jobs):
            self.clean_up(job, epoch)

    def close(self) -> None:
        """Stop posting. Jobs go on; what is reported meanwhile is reported again to the next server."""
        self._hand_overs.close()
        self._executor.close()
        self._webhook.close()

    # -- what the other side reports ------------------------------------------------------------

    def report(self, job: str, epoch: int, outcome: Outcome | None) -> bool:
        """Note that a run has started (no outcome) or ended; False when that was known. Durable on return.

        Raises:
            ConflictError: that run was not posted, or ended in another way.
        """
        with self._lock:
            note = self._notes.read(job, epoch)
            if not note.get("sent"):
                raise ConflictError(
                    f"run {epoch} of job {job} was not handed over",
                    remedy="report under the job and epoch that were posted",
                )
            known = note.get("outcome")
            if outcome is None:
                if note.get("started") or known is not None:
                    return False
                self._notes.update(job, epoch, taken=True, started=True)
            else:
                if known is not None:
                    if known["exit_code"] == outcome.exit_code:
                        return False
                    raise ConflictError(
                        f"run {epoch} of job {job} has ended already",
                        cause=f"with status {known['exit_code']}, as was reported first",
                    )
                self._notes.update(job, epoch, taken=True, outcome=asdict(outcome))
        run = self._hand_overs.get(job, epoch)
        if run is not None:  # else the next hand-over finds the note
            self._executor.submit(self._begin, run)
        return True

    # -- from hand-over to end ------------------------------------------------------------------

    def _begin(self, run: _Run) -> None:
        """Tell what is noted of the run; post it if nothing is."""
        if not self._hand_overs.holds(run):
            return
        note = self._notes.read(*run.id)
        if note.get("outcome") is not None:
            self._hand_overs.collect(run, Outcome(**note["outcome"]))
            return
        if note.get("started"):
            self._hand_overs.start(run)
        if self._hand_overs.is_stopped(run):
            self._halt(run)
        elif not note.get("taken"):
            directory = self._hand_overs.prepare(run, self._begin)
            if directory is not None:
                steps.reached("dispatch.prepared")
                self._post(run, directory)

    def _post(self, run: _Run, directory: Path) -> None:
        with self._lock:
            stopped = self._hand_overs.is_stopped(run)
            run.posting = not stopped  # a cancel must not overtake the post
        if stopped:
            self._halt(run)
            return
        try:
            self._notes.update(*run.id, sent=True)
            answer = self._webhook.post(_key(run), _order(run.order, directory))
            if answer.taken:
                self._notes.update(*run.id, taken=True)
        finally:
            with self._lock:
                run.posting = False
        if self._hand_overs.is_stopped(run):
            self._halt(run)
        elif self._notes.read(*run.id).get("taken"):  # also when the other side reported instead of answering
            log.info("job %s was taken by %s", run.order.job, self._webhook.host)
        elif not self._again(run, answer, self._begin, "take"):
            self._hand_overs.end(run, JobEnded(*run.id, None, self._refusal(run, answer)))

    def _halt(self, run: _Run) -> None:
        """Have it ended; over at once if it was never posted, or if the other side says so."""
        with self._lock:
            if run.posting or run.halting:
                return  # whoever posts sees it
            run.halting = True
            note = self._notes.read(*run.id)
            posted = bool(note.get("sent"))
            if not posted:
                never = Outcome(None, "cancelled before it started", 0.0)
                self._notes.update(*run.id, sent=True, outcome=asdict(never))
        if not self._hand_overs.holds(run):
            return
        if note.get("outcome") is not None:
            self._hand_overs.collect(run, Outcome(**note["outcome"]))
            return
        if not posted:
            self._hand_overs.end(run, JobEnded(*run.id, None, JobError("cancelled before it started")))
            return
        job, epoch = run.id
        message = {"state": "cancel", "job": job, "epoch": epoch}
        answer = self._webhook.post(f"{_key(run)}:cancel", message)
        if answer.status == HTTPStatus.ACCEPTED or self._again(run, answer, self._halt_again, "cancel"):
            return
        if not answer.taken and answer.status not in GONE:
            log.error("%s", self._refusal(run, answer))
        self._hand_overs.end(run, JobEnded(job, epoch, None, JobError("cancelled")))

    def _halt_again(self, run: _Run) -> None:
        with self._lock:
            run.halting = False
        self._halt(run)

    def _again(self, run: _Run, answer: Answer, work: Callable[[_Run], None], verb: str) -> bool:
        """Do it again later, if that may help."""
        if not answer.passing:
            return False
        now = time.monotonic()
        run.tried_at = run.tried_at if run.tries else now
        run.tries += 1
        jitter = random.random()  # noqa: S311 - spreads load, guards nothing
        at = self._retry.next_try(
            run.tries, started=run.tried_at, now=now, jitter=jitter, retry_after=answer.retry_after
        )
        if at is None:
            return False
        log.warning(
            "%s did not %s job %s: %s; try %d of %d, the next in %.0f s",
            self._webhook.host, verb, run.order.job, answer.cause, run.tries, self._retry.attempts, at - now,
        )  # fmt: skip
        self._executor.submit_after(at - now, work, run)
        return True

    def _refusal(self, run: _Run, answer: Answer) -> CommandFailedError:
        remedy = "see the log of the server behind webhook_url"
        if 300 <= answer.status < 400:  # noqa: PLR2004
            remedy = "write the final address into webhook_url"
        elif answer.status in {401, 403}:
            remedy = "check that both sides have the same webhook secret"
        return CommandFailedError(
            f"{self._webhook.host} did not take job {run.order.job}",
            cause=answer.cause,
            remedy=remedy,
            status=answer.status,
        )

    def _clean_up(self, job: str, epoch: int) -> None:
        """Inputs and collected results go; what the job printed stays for people to read."""
        self._hand_overs.forget(job)
        self._cache.release(job)
        self._notes.forget(job, epoch)


def _key(run: _Run) -> str:
    return f"{run.order.job}:{run.order.epoch}"


def _order(order: DispatchOrder, directory: Path) -> dict[str, Any]:
    return {
        "state": "run",
        "job": order.job,
        "epoch": order.epoch,
        "name": order.name,
        "owner": order.owner,
        "request_id": order.request_id,
        "command": list(order.command),
        "environment": job_variables(order, directory),
        "inputs": [
            {"name": i.name, "sha256": i.sha256, "size": i.size, "path": str(directory / "inputs" / i.name)}
            for i in order.inputs
        ],
        "results": list(order.results),
        "directory": str(directory),
    }
