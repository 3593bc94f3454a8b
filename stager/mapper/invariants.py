"""What must hold of the machine between any two calls: for tests, and for the sceptic."""

from __future__ import annotations

from stager.mapper.machine import BEFORE_START, Machine
from stager.model.fetches import FetchState
from stager.model.jobs import JobState
from stager.model.records import NAME, FetchRecord, JobRecord
from stager.model.stages import StagedFile, StagedState


def validate(machine: Machine) -> None:
    """Check all of it; raises `AssertionError` naming what does not hold."""
    queued = machine.line.all()
    pending = {(precondition, job) for precondition, jobs in machine.wakes for job in jobs}
    for job in machine.jobs.values():
        _check_job(machine, job, queued, pending)
    for fetch in machine.flights.fetches.values():
        _check_fetch(machine, fetch)
    for file in machine.stages.files.values():
        _check_staged(machine, file)
    if machine.line.slots is not None:
        assert len(machine.line.handed) <= machine.line.slots, "more jobs handed over than there are slots"


def _check_job(machine: Machine, job: JobRecord, queued: set[str], pending: set[tuple[str, str]]) -> None:
    assert not (job.state.is_final and not job.handed), f"job {job.id} is over and still held"
    assert job.handed == (job.id in machine.line.handed), f"job {job.id}: slot and record differ"
    if job.state is JobState.READY:
        assert not job.unmet, f"job {job.id} is ready with {job.unmet} unmet"
        assert job.id in queued, f"job {job.id} is ready and not queued"
    if job.state is JobState.WAITING:
        assert job.unmet, f"job {job.id} waits for nothing"
        decided = {p for p in job.unmet if _is_decided(machine, p)}
        assert all((p, job.id) in pending for p in decided), f"job {job.id} was not woken by {decided}"
    if job.state in BEFORE_START:
        _check_known_bytes(machine, job)
        for fetch in job.fetches:
            assert job.id in machine.flights.fetches[fetch].jobs, f"fetch {fetch} does not know job {job.id}"


def _check_known_bytes(machine: Machine, job: JobRecord) -> None:
    """What is here counts as soon as the job was looked at for it."""
    inputs = [machine.flights.fetches[fetch] for fetch in set(job.fetches)]
    known = sum((fetch.expected_size or 0) if fetch.id in job.unmet else fetch.size for fetch in inputs)
    assert job.known_bytes == known, f"job {job.id} is known to have {job.known_bytes} bytes, not {known}"


def _check_fetch(machine: Machine, fetch: FetchRecord) -> None:
    assert fetch.jobs, f"fetch {fetch.id} is wanted by nobody"
    queued = fetch.id in machine.flights.admission
    assert queued == (fetch.state is FetchState.QUEUED), (
        f"fetch {fetch.id} is {fetch.state}, queued: {queued}"
    )
    locked = fetch.id in machine.flights.locked
    assert locked == (fetch.state is FetchState.LOCKED), (
        f"fetch {fetch.id} is {fetch.state}, waits for a credential: {locked}"
    )
    running = machine.flights.admission.is_running(fetch.id)
    assert running == (fetch.state is FetchState.RUNNING), (
        f"fetch {fetch.id} is {fetch.state}, has a seat: {running}"
    )


def _check_staged(machine: Machine, file: StagedFile) -> None:
    if file.state is StagedState.QUEUED:
        known = file.fetch is None or file.id in machine.fetches[file.fetch].jobs
        assert known, f"fetch {file.fetch} does not know staged file {file.id}"
    else:
        assert file.pinned, f"staged file {file.id} is over and still held"


def _is_decided(machine: Machine, precondition: str) -> bool:
    """Whether it is met, or never will be."""
    if precondition.startswith(NAME):
        return machine.names[precondition.removeprefix(NAME)].met_at is not None
    return machine.flights.fetches[precondition].state in {FetchState.READY, FetchState.FAILED}
