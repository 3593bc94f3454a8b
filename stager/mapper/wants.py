"""Who wants what: jobs, and the fetches and preconditions that they wait for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stager.mapper.flights import Flights
from stager.mapper.instructions import StopFetch
from stager.model.fetches import FetchState
from stager.model.jobs import JobState
from stager.model.records import NAME, FetchRecord, JobRecord, NameRecord

NOT_HANDED = frozenset({JobState.WAITING, JobState.READY})


class Wants:
    """Preconditions by name, and jobs registered with these and with fetches.

    Args:
        flights: holds the fetches.
    """

    def __init__(self, flights: Flights) -> None:
        self._flights = flights
        self.names: dict[str, NameRecord] = {}
        self._dirty: dict[str, NameRecord] = {}

    def load(self, names: Iterable[NameRecord]) -> None:
        """Take in what the database holds."""
        for name in names:
            self.names[name.name] = name

    def name(self, name: str) -> NameRecord:
        """The precondition of that name, made when nobody knew it."""
        record = self.names.get(name)
        if record is None:
            record = self.names[name] = NameRecord(name)
            self._dirty[name] = record
        return record

    def meet(self, name: str, now: float) -> NameRecord | None:
        """The precondition, which is met now; None when it was already."""
        record = self.name(name)
        if record.met_at is not None:
            return None
        record.met_at = now
        self._dirty[name] = record
        return record

    def unmeet(self, name: str, jobs: Mapping[str, JobRecord]) -> list[JobRecord] | None:
        """The precondition holds no more: those of these jobs that have not passed it; None: it did not hold."""
        record = self.names.get(name)
        if record is None or record.met_at is None:
            return None
        record.met_at = None
        self._dirty[name] = record
        before = [job for job in map(jobs.get, record.jobs) if job is not None and job.state in NOT_HANDED]
        for job in before:
            job.unmet.add(NAME + name)
        return before

    def holds(self, precondition: str) -> bool:
        """Whether that (a name, with `NAME` before it) is met."""
        return self.names[precondition.removeprefix(NAME)].met_at is not None

    def attach(self, job: JobRecord) -> None:
        """Register the job with what it waits for, and note what of it is not met."""
        job.known_bytes = 0
        for fetch_id in set(job.fetches):
            fetch = self._flights.fetches[fetch_id]
            fetch.jobs.add(job.id)
            job.known_bytes += fetch.known_size
            if fetch.state is not FetchState.READY:
                job.unmet.add(fetch.id)
        for name in job.after:
            record = self.name(name)
            record.jobs.add(job.id)
            if record.met_at is None:
                job.unmet.add(NAME + name)

    def met(self, job: JobRecord, precondition: str) -> None:
        """One thing that the job waits for is there; for the second time it makes no difference."""
        if precondition not in job.unmet:
            return
        job.unmet.discard(precondition)
        if not precondition.startswith(NAME):
            fetch = self._flights.fetches[precondition]
            job.known_bytes += fetch.size - (fetch.expected_size or 0)

    def lost(self, job: JobRecord, fetch: FetchRecord) -> None:
        """An input that was there is there no more."""
        if fetch.id not in job.unmet:
            job.unmet.add(fetch.id)
            job.known_bytes -= fetch.size - (fetch.expected_size or 0)

    def detach(self, job: JobRecord, now: float) -> list[StopFetch]:
        """The job needs nothing any more: fetches that nobody else needs are given up."""
        for name in job.after:
            self.names[name].jobs.discard(job.id)
        stops = (self._flights.leave(fetch_id, job.id, now) for fetch_id in job.fetches)
        return [stop for stop in stops if stop is not None]

    def take_changes(self) -> list[NameRecord]:
        """Preconditions that changed since the last call."""
        changed, self._dirty = list(self._dirty.values()), {}
        return changed
