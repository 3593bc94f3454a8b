"""What should never be, and how it is put right: the machine's side of reconciliation. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection

from stager.errors import WorkerLostError
from stager.mapper.machine import Machine
from stager.model.fetches import Failed, FetchState
from stager.model.jobs import JobState
from stager.model.records import NAME, JobRecord

FETCH_ALONE, JOB_ASLEEP, JOB_UNQUEUED, JOB_ALONE = (
    "fetch-without-worker",
    "job-waiting-for-nothing",
    "job-ready-and-not-queued",
    "job-without-place",
)
Suspect = tuple[str, str]
"""What is wrong, and with which fetch or job."""
Holds = Callable[[str, int], bool]
"""Whether a place has that fetch and generation, or job and epoch."""


def find(
    machine: Machine, jobs: Collection[str], fetches: Collection[str], farm: Holds, place: Holds
) -> set[Suspect]:
    """Those of these jobs and fetches that look wrong; what is on its way through an inbox does so for a moment."""
    woken = {precondition for precondition, _ in machine.wakes}
    queued = machine.line.all()
    found: set[Suspect] = set()
    for name in fetches:
        fetch = machine.fetches.get(name)
        if fetch is not None and fetch.state is FetchState.RUNNING and not farm(fetch.id, fetch.generation):
            found.add((FETCH_ALONE, name))
    for name in jobs:
        job = machine.jobs.get(name)
        if job is None:
            continue
        if job.handed:
            if not job.state.is_final and not place(job.id, job.epoch):
                found.add((JOB_ALONE, name))
        elif job.state is JobState.WAITING and _is_asleep(machine, job, woken):
            found.add((JOB_ASLEEP, name))
        elif job.state is JobState.READY and name not in queued:
            found.add((JOB_UNQUEUED, name))
    return found


def mend(machine: Machine, suspects: Collection[Suspect], now: float) -> Counter[str]:
    """Put right what was found twice in a row; how many of each kind."""
    for kind, name in suspects:
        if kind == FETCH_ALONE:
            fetch = machine.fetches[name]
            error = WorkerLostError(f"fetch {name} is nowhere", cause="nobody works on it")
            machine.fetch_signal(Failed(name, fetch.generation, error, progressed=True), now=now)
        elif kind == JOB_ALONE:
            machine.line.again.append(name)
        elif kind == JOB_ASLEEP:
            machine.settle_anew(machine.jobs[name], now)
        elif kind == JOB_UNQUEUED:
            machine.line.add(machine.jobs[name])
    return Counter(kind for kind, _ in suspects)


def lose_object(machine: Machine, sha256: str) -> int:
    """The object was taken out of the cache: what had brought it brings it anew; how many fetches that are."""
    lost = [f.id for f in machine.fetches.values() if f.state is FetchState.READY and f.sha256 == sha256]
    for fetch in lost:
        machine.lose(fetch)
    return len(lost)


def _is_asleep(machine: Machine, job: JobRecord, woken: Collection[str]) -> bool:
    """Whether all that it waits for is decided, and nothing is going to wake it."""
    return all(p not in woken and _is_decided(machine, p) for p in job.unmet)


def _is_decided(machine: Machine, precondition: str) -> bool:
    if precondition.startswith(NAME):
        return machine.names[precondition.removeprefix(NAME)].met_at is not None
    return machine.fetches[precondition].state in {FetchState.READY, FetchState.FAILED}
