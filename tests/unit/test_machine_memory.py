"""What a job's input costs in memory while it waits, when its file is for no other job: the worst case.

A million of them must leave a server below a gigabyte; `benchmarks/memory.py` shows that they do.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from stager.mapper.admission import Admission
from stager.mapper.instructions import NewJob
from stager.mapper.machine import Machine
from stager.model.backoff import RetryPolicy
from stager.model.ids import encode_id
from stager.model.jobs import JobInput, JobSpec
from stager.model.records import Changes
from stager.model.urls import parse_url
from stager.state.store import Store

JOBS, INPUTS, AT_ONCE = 1_000, 10, 100
BYTES_PER_PAIR = 750
"""Its URL and its share of the job included. It is about 665; two small objects more for each, or a dictionary, would show."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path / 'stager.db'}")
    yield made
    made.close()


def machine() -> Machine:
    fetch_ids = (encode_id(1_800_000_000_000, serial) for serial in count())
    return Machine(Admission(slots=1, per_origin=1), RetryPolicy(), job_slots=None, fetch_ids=fetch_ids)


def spec(job: int) -> JobSpec:
    urls = (f"https://data.example.org/run/{job * INPUTS + n:07}.nxs" for n in range(INPUTS))
    return JobSpec(("true",), tuple(JobInput(url) for url in urls))


def submit_all(machine: Machine, written: Callable[[Changes, dict[str, JobSpec]], None]) -> None:
    for start in range(0, JOBS, AT_ONCE):
        specs = {encode_id(1_700_000_000_000, job): spec(job) for job in range(start, start + AT_ONCE)}
        now = 1e9 + start
        for job, what in specs.items():
            machine.submit(NewJob(job, tuple((i.request(), None) for i in what.inputs)), now=now)
        machine.advance(now)
        written(machine.take_changes(), specs)


def bytes_per_pair(fill: Callable[[], Machine]) -> float:
    """What is allocated and stays, per pair, of that which `fill` makes."""
    parse_url.cache_clear()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        filled = fill()
        parse_url.cache_clear()  # its size has a limit of its own
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(filled.fetches) == JOBS * INPUTS
    return held / (JOBS * INPUTS)


def test_a_pair_that_was_submitted_takes_less_than_its_bound() -> None:
    def fill() -> Machine:
        made = machine()
        submit_all(made, lambda *_: None)
        return made

    assert bytes_per_pair(fill) < BYTES_PER_PAIR


def test_a_pair_that_was_read_again_at_a_start_takes_no_more(store: Store) -> None:
    submit_all(machine(), store.save)

    def fill() -> Machine:
        made = machine()
        made.load(*store.load(), now=2e9)
        made.advance(2e9)
        made.take_changes()
        return made

    assert bytes_per_pair(fill) < BYTES_PER_PAIR
