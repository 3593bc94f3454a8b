"""Calls about jobs."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from stager.client.patience import once, patiently, whole
from stager.client.shapes import view, views
from stager.client.talk import ANSWER_SECONDS, Group, M, Request, Talk, Telling, answered, listened, part
from stager.model.jobs import JobSpec, JobState
from stager.model.views import JobDetail, JobView

MOST = 1000
"""Jobs in one answer."""


class JobCalls(Group[M]):
    """``client.jobs``. A job is named by its id, by an ending of it, or by its name if only one job has it."""

    @answered
    def submit(self, specs: Sequence[JobSpec]) -> Talk[list[str]]:
        """Take in jobs, all or none; their ids.

        Raises:
            StagerError: as of `JobService.submit`; nothing was submitted, unless it is `ServerUnreachableError` with
                the detail ``sent``: the answer was lost and could not be had again.
        """
        request = Request("POST", "jobs", json=[spec.to_dict() for spec in specs])
        answer = yield from once(request, self._driver.outage_seconds)
        return [str(job) for job in answer["ids"]]

    @answered
    def show(self, word: str, *, wait: float = 0.0) -> Talk[JobDetail]:
        """One job with all that belongs to it; answered when it is over or after `wait` seconds."""
        return (yield from _show(word, wait))

    @answered
    def wait(self, word: str, seconds: float | None = None) -> Talk[JobDetail]:
        """Wait until the job is over, for at most `seconds`; the job, over or not.

        A server that is started again meanwhile is waited for.

        Raises:
            ServerUnreachableError: it stayed away too long.
        """
        return (
            yield from patiently(
                lambda patience: _show(word, patience),
                lambda job: job.state.is_final,
                seconds,
                self._driver.outage_seconds,
            )
        )

    @answered
    def cancel(self, word: str) -> Talk[bool]:
        """Cancel a job; False when it was cancelled already."""
        return bool((yield Request("POST", f"jobs/{part(word)}/cancel"))["changed"])

    @answered
    def retry(self, word: str) -> Talk[str]:
        """Submit a job that failed or was cancelled anew; the id of the new one."""
        request = Request("POST", f"jobs/{part(word)}/retry")
        return str((yield from once(request, self._driver.outage_seconds))["ids"][0])

    @listened
    def log(self, word: str, stream: str, *, offset: int = 0) -> Telling[bytes, None]:
        """What the job has printed so far, from byte `offset`, a block at a time."""
        yield from whole(f"jobs/{part(word)}/logs/{part(stream)}", offset=offset)

    @answered
    def list(
        self,
        *,
        states: Collection[JobState] = (),
        limit: int = 100,
        before: str | None = None,
        owner: str | None = None,
        name: str | None = None,
        since: float | None = None,
    ) -> Talk[list[JobView]]:
        """Jobs, newest first: of that owner, called that, submitted since then (seconds since 1970 UTC)."""
        found: list[JobView] = []
        while len(found) < limit:
            query = {
                "state": [s.value for s in states],
                "limit": min(limit - len(found), MOST),
                "before": before,
                "owner": owner,
                "name": name,
                "since": since,
            }
            answer = yield Request("GET", "jobs", query)
            found += views(JobView, answer["jobs"])
            before = answer["next"]
            if before is None:
                break
        return found


def _show(word: str, wait: float) -> Talk[JobDetail]:
    query = {"wait": f"{wait:.3f}"} if wait else {}
    answer = yield Request("GET", f"jobs/{part(word)}", query, patience=ANSWER_SECONDS + wait)
    return view(JobDetail, answer)
