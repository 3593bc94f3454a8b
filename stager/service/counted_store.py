"""Counts what is written, and says it in the log: jobs and fetches by state, how long they took, what failed.

It stands between the mapper and the database, so that what is counted is what is durable, and the mapper's rules
know nothing of it. A record remembers in which state it is counted.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping

from stager import metrics as m
from stager.errors import StateError, WorkerLostError
from stager.mapper.ports import StateStore
from stager.metrics import Metrics, Values
from stager.model.fetches import FetchState
from stager.model.jobs import JobSpec, JobState
from stager.model.records import Changes, FetchRecord, JobRecord, NameRecord, Position
from stager.model.stages import StagedFile
from stager.service import actions

OPEN_FETCHES = (FetchState.QUEUED, FetchState.RUNNING, FetchState.LOCKED)
_HANDED = frozenset({JobState.DISPATCHED, JobState.RUNNING, JobState.DONE})
_ORIGIN, _CACHE = ("origin",), ("cache",)
_SPARE = 1000
"""Jobs in the line that wait no more, at least, before it is made anew."""


class CountedStore:
    """A `StateStore` that counts. Figures may be read from any thread, the rest is the mapper's.

    Args:
        store: where the truth is kept.
        metrics: where the figures are.
    """

    def __init__(self, store: StateStore, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._jobs: Counter[JobState] = Counter()
        self._fetches: Counter[FetchState] = Counter()
        self._sums: defaultdict[tuple[m.Metric, tuple[str, ...]], float] = defaultdict(float)
        self._line: deque[JobRecord] = deque()  # jobs that waited when they were put there, oldest first

    # -- figures ----------------------------------------------------------------------------------

    def read(self) -> Iterable[tuple[m.Metric, Values]]:
        """How much there is now; costs the same however much that is."""
        yield m.JOBS, {(state.value,): self._jobs[state] for state in JobState if not state.is_final}
        yield m.FETCHES, {(state.value,): self._fetches[state] for state in OPEN_FETCHES}

    def oldest_waiting(self) -> float | None:
        """When the job that has waited longest was submitted; None: none waits."""
        try:
            return self._line[0].submitted_at
        except IndexError:
            return None

    # -- the mapper's side ------------------------------------------------------------------------

    def load(self) -> tuple[list[JobRecord], list[FetchRecord], list[NameRecord]]:
        """See `StateStore.load`; counting begins anew."""
        jobs, fetches, names = self._store.load()
        self._jobs, self._fetches = Counter(), Counter()
        self._line.clear()
        for job in jobs:
            self._move_job(job)
        for fetch in fetches:
            self._fetches[fetch.state] += 1
            fetch.counted, fetch.counted_bytes = fetch.state, fetch.received
        return jobs, fetches, names

    def save(self, changes: Changes, specs: Mapping[str, JobSpec]) -> None:
        """See `StateStore.save`."""
        began = time.perf_counter()
        try:
            self._store.save(changes, specs)
        except StateError:
            self._metrics.add(m.STATE_ERRORS)
            raise
        self._metrics.observe(m.STATE_WRITE, time.perf_counter() - began)
        for job in changes.jobs:
            if job.counted is not job.state:
                self._job(job, specs)
        for fetch in changes.fetches:
            if fetch.counted is not fetch.state:
                self._fetch(fetch)
        self._settle_line()
        self._add_up()

    def staged(self) -> Iterable[StagedFile]:
        """See `StateStore.staged`."""
        return self._store.staged()

    def specs(self, ids: Iterable[str]) -> dict[str, JobSpec]:
        """See `StateStore.specs`."""
        return self._store.specs(ids)

    def fetches(self, ids: Iterable[str]) -> dict[str, FetchRecord]:
        """See `StateStore.fetches`."""
        return self._store.fetches(ids)

    def position(self) -> Position | None:
        """See `StateStore.position`."""
        return self._store.position()

    # -- counting ---------------------------------------------------------------------------------

    def _job(self, job: JobRecord, specs: Mapping[str, JobSpec]) -> None:
        before, now = job.counted, job.state
        if before is None:
            job.request_id = specs[job.id].request_id
            actions.job_submitted(job, specs[job.id])
            self._sums[m.JOBS_SUBMITTED, ()] += 1
        if before in {None, JobState.WAITING} and job.ready_at is not None and now is not JobState.WAITING:
            self._metrics.observe(m.JOB_READY, max(0.0, job.ready_at - job.submitted_at))
        if before not in _HANDED and now in _HANDED and job.dispatched_at is not None:
            self._sums[m.JOBS_DISPATCHED, ()] += 1
            self._metrics.observe(m.JOB_DISPATCH, max(0.0, job.dispatched_at - (job.ready_at or 0.0)))
        if now.is_final:
            self._sums[m.JOBS_ENDED, (now.value,)] += 1
        if before is not None or now is not JobState.WAITING:
            actions.job_moved(job, before)
        self._move_job(job)

    def _move_job(self, job: JobRecord) -> None:
        before, job.counted = job.counted, job.state
        if before is not None:
            self._jobs[before] -= 1
        self._jobs[job.state] += 1
        if job.state is JobState.WAITING:
            (self._line.append if before is None else self._line.appendleft)(job)

    def _fetch(self, fetch: FetchRecord) -> None:
        before, now = fetch.counted, fetch.state
        if before is not None:
            self._fetches[before] -= 1
        self._fetches[now] += 1
        fetch.counted = now
        actions.fetch_moved(fetch, before)
        if fetch.received > fetch.counted_bytes:
            self._sums[m.RECEIVED_BYTES, ()] += fetch.received - fetch.counted_bytes
            fetch.counted_bytes = fetch.received
        if now is FetchState.READY:
            source = _CACHE if fetch.cached else _ORIGIN
            self._sums[m.FETCHES_READY, source] += 1
            self._sums[m.STAGED_BYTES, source] += fetch.size
            if not fetch.cached and fetch.ended_at is not None and fetch.first_try_at is not None:
                self._metrics.observe(m.FETCH, max(0.0, fetch.ended_at - fetch.first_try_at))
        elif before is FetchState.RUNNING and fetch.error is not None and _failed(fetch):
            self._sums[m.FETCH_ERRORS, (fetch.error.code,)] += 1
            if now is FetchState.FAILED:
                self._sums[m.FETCHES_FAILED, (fetch.error.code,)] += 1

    def _add_up(self) -> None:
        """A counter costs more than all else here: each is told once a batch."""
        for (metric, labels), amount in self._sums.items():
            self._metrics.add(metric, amount, *labels)
        self._sums.clear()

    def _settle_line(self) -> None:
        """The first in the line is one that waits; it is never much longer than there are who wait."""
        line = self._line
        while line and line[0].counted is not JobState.WAITING:
            line.popleft()
        if len(line) > 2 * self._jobs[JobState.WAITING] + _SPARE:
            self._line = deque(job for job in line if job.counted is JobState.WAITING)


def _failed(fetch: FetchRecord) -> bool:
    """Whether its try failed: one that was given back, or whose fetch is wanted no more, did not."""
    if fetch.state is FetchState.QUEUED:
        return fetch.not_before > 0.0 or isinstance(fetch.error, WorkerLostError)
    return fetch.state in {FetchState.FAILED, FetchState.LOCKED}
