"""The rules of the deciding core, one sentence each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from stager.errors import (
    CacheFullError,
    CancelledError,
    CommandFailedError,
    ConflictError,
    ConnectionFailedError,
    CredentialRequiredError,
    HandedBackError,
    IllegalTransitionError,
    InputFailedError,
    JobTooLargeError,
    NotFoundError,
    OriginRefusedError,
    StagerError,
    WorkerLostError,
)
from stager.mapper.admission import Admission
from stager.mapper.grants import GRANT_SECONDS
from stager.mapper.instructions import (
    AdoptFetch,
    Dispatch,
    Instruction,
    MakeRoom,
    NewJob,
    StartFetch,
    StopFetch,
    StopJob,
)
from stager.mapper.invariants import validate
from stager.mapper.machine import Machine
from stager.mapper.verdicts import MOST_HAND_OVERS
from stager.model.backoff import RetryPolicy
from stager.model.entries import Entry
from stager.model.events import JobEnded, JobRefused, JobResult, JobStarted
from stager.model.fetches import Failed, FetchRequest, FetchResult, FetchState, Progress, Ready, Started
from stager.model.jobs import JobState
from stager.model.records import JobRecord
from stager.model.urls import parse_url
from tests.support.oracle import Database

URL = "http://origin.example/run.nxs"
OTHER = "http://origin.example/other.nxs"
THIRD = "http://elsewhere.example/third.nxs"
GOOD, BAD = "a" * 64, "b" * 64


class Bench:
    """A machine on the bench: short words for what the loop does, validated after every step."""

    def __init__(
        self,
        *,
        slots: int = 8,
        per_origin: int = 8,
        job_slots: int | None = None,
        batch: int = 1,
        job_bytes: int = 0,
    ) -> None:
        self.batch = batch
        self.job_bytes = job_bytes
        self.database = Database()
        self.now = 1_000.0
        self.limits = (slots, per_origin, job_slots)
        self._fetch_ids: Iterator[str] = (f"f{n}" for n in count(1))
        self.machine = self.new_machine()

    def new_machine(self) -> Machine:
        slots, per_origin, job_slots = self.limits
        retry = RetryPolicy(attempts=3, first_seconds=1.0, longest_seconds=100.0, deadline_seconds=1000.0)
        admission = Admission(slots=slots, per_origin=per_origin, batch=self.batch)
        return Machine(
            admission, retry, job_slots=job_slots, fetch_ids=self._fetch_ids, job_bytes=self.job_bytes
        )

    def submit(
        self,
        job: str,
        *inputs: str | FetchRequest | tuple[FetchRequest, Entry],
        after: tuple[str, ...] = (),
        priority: int = 0,
        owner: str = "",
    ) -> JobRecord:
        pairs: list[tuple[FetchRequest, Entry | None]] = []
        for item in inputs:
            if isinstance(item, tuple):
                pairs.append(item)
            else:
                pairs.append((FetchRequest(item) if isinstance(item, str) else item, None))
        record = self.machine.submit(NewJob(job, tuple(pairs), after, priority, owner), now=self.now)
        validate(self.machine)
        return record

    def run(self, limit: int = 1000) -> list[Instruction]:
        """One round of the loop."""
        instructions = self.machine.advance(self.now, limit=limit)
        self.database.write(self.machine.take_changes())
        validate(self.machine)
        return instructions

    def ready(
        self, fetch: str = "f1", generation: int = 1, *, sha256: str = GOOD, fresh_until: float | None = None
    ) -> None:
        result = FetchResult(
            URL, sha256, 10, Path("object"), cached=False, received=10, fresh_until=fresh_until
        )
        self.machine.fetch_signal(Ready(fetch, generation, result), now=self.now)
        validate(self.machine)

    def failed(
        self,
        fetch: str = "f1",
        generation: int = 1,
        error: StagerError | None = None,
        *,
        progressed: bool = False,
        jitter: float = 0.0,
    ) -> None:
        error = error if error is not None else ConnectionFailedError("no answer", url=URL)
        self.machine.fetch_signal(
            Failed(fetch, generation, error, progressed=progressed), now=self.now, jitter=jitter
        )
        validate(self.machine)

    def job(self, signal: JobStarted | JobRefused | JobEnded) -> None:
        self.machine.job_signal(signal, now=self.now)
        validate(self.machine)

    def cancel(self, job: str = "j1") -> bool:
        cancelled = self.machine.cancel(job, now=self.now)
        validate(self.machine)
        return cancelled

    def crash(self, *, keep_running: bool = False) -> None:
        """What was not written is gone; fetches that run end with it, or go on."""
        self.machine = self.new_machine()
        self.database.load_into(self.machine, now=self.now, keep_running=keep_running)
        validate(self.machine)

    def state(self, job: str = "j1") -> JobState:
        """What the machine holds; for a job it has let go, what was written."""
        held = self.machine.jobs.get(job)
        return held.state if held is not None else self.database.jobs[job].state


@pytest.fixture
def bench() -> Bench:
    return Bench()


def entry(sha256: str = GOOD, fresh_until: float | None = None, url: str = URL) -> Entry:
    return Entry(url, sha256, 10, 900.0, fresh_until)


def orders(instructions: list[Instruction]) -> list[tuple[str, int]]:
    return [
        (order.fetch, order.generation)
        for i in instructions
        if isinstance(i, StartFetch)
        for order in (i.order, *i.then)
    ]


def seats(instructions: list[Instruction]) -> list[list[str]]:
    return [[o.fetch for o in (i.order, *i.then)] for i in instructions if isinstance(i, StartFetch)]


def dispatched(instructions: list[Instruction]) -> list[str]:
    return [i.job for i in instructions if isinstance(i, Dispatch)]


REFUSED = OriginRefusedError("origin answered 404", cause="not found", url=URL)


# -- submission -----------------------------------------------------------------------------------


def test_a_job_without_preconditions_is_handed_over_at_once(bench: Bench) -> None:
    assert bench.submit("j1").state is JobState.READY
    assert bench.run() == [Dispatch("j1", 1)]


def test_a_job_runs_when_its_last_input_is_in(bench: Bench) -> None:
    bench.submit("j1", URL, OTHER)
    assert orders(bench.run()) == [("f1", 1), ("f2", 1)]
    bench.ready("f1")
    assert dispatched(bench.run()) == []
    bench.ready("f2")
    assert bench.run() == [Dispatch("j1", 1)]


def test_many_jobs_that_name_one_url_share_one_transfer(bench: Bench) -> None:
    for n in range(100):
        bench.submit(f"j{n:03}", URL)
    assert orders(bench.run()) == [("f1", 1)]
    bench.submit("late", URL)
    assert orders(bench.run()) == []
    bench.ready()
    assert len(dispatched(bench.run())) == 101


def test_a_job_may_name_one_url_twice(bench: Bench) -> None:
    record = bench.submit("j1", URL, URL)
    assert record.fetches == ("f1", "f1")
    assert orders(bench.run()) == [("f1", 1)]
    bench.ready()
    assert bench.run() == [Dispatch("j1", 1)]
    bench.job(JobStarted("j1", 1))
    bench.job(JobEnded("j1", 1, 0))
    assert not bench.machine.fetches


def test_fresh_bytes_in_the_cache_make_a_job_ready_without_a_fetch(bench: Bench) -> None:
    bench.submit("j1", (FetchRequest(URL), entry(fresh_until=1_000.5)))
    assert bench.run() == [Dispatch("j1", 1)]
    written = bench.database.fetches["f1"]
    assert (written.state, written.cached, written.sha256) == (FetchState.READY, True, GOOD)


def test_bytes_are_stale_at_the_instant_at_which_their_freshness_ends(bench: Bench) -> None:
    bench.submit("j1", (FetchRequest(URL), entry(fresh_until=1_000.0)))
    assert orders(bench.run()) == [("f1", 1)]


def test_fresh_bytes_of_a_mirror_that_the_job_does_not_name_are_fetched_from_where_it_says(
    bench: Bench,
) -> None:
    mirrored = replace(entry(), url=OTHER)
    assert bench.submit("j1", (FetchRequest(URL), mirrored)).state is JobState.WAITING
    assert bench.submit("j2", (FetchRequest(URL, mirrors=(OTHER,)), mirrored)).state is JobState.READY
    assert bench.submit("j3", (FetchRequest(URL, sha256=GOOD), mirrored)).state is JobState.READY


def test_stale_bytes_with_the_digest_asked_for_are_good(bench: Bench) -> None:
    bench.submit("j1", (FetchRequest(URL, sha256=GOOD), entry(fresh_until=5.0)))
    assert bench.run() == [Dispatch("j1", 1)]


def test_fresh_bytes_with_another_digest_than_asked_for_are_fetched(bench: Bench) -> None:
    bench.submit("j1", (FetchRequest(URL, sha256=GOOD), entry(BAD)))
    assert orders(bench.run()) == [("f1", 1)]


def test_a_refresh_asks_the_origin_although_the_bytes_are_fresh(bench: Bench) -> None:
    bench.submit("j1", (FetchRequest(URL, refresh=True), entry()))
    assert orders(bench.run()) == [("f1", 1)]


def test_bytes_at_hand_are_not_waited_for_while_another_job_refreshes_them(bench: Bench) -> None:
    bench.submit("j1", (FetchRequest(URL, refresh=True), entry()))
    bench.run()
    assert bench.submit("j2", (FetchRequest(URL), entry())).state is JobState.READY


def test_a_transfer_under_way_is_still_shared_after_a_job_found_bytes_at_hand(bench: Bench) -> None:
    bench.submit("j1", (FetchRequest(URL, refresh=True), entry()))
    bench.submit("j2", (FetchRequest(URL), entry()))
    assert bench.submit("j3", URL).fetches == ("f1",)


def test_requests_with_and_without_a_digest_are_two_fetches_one_after_the_other(bench: Bench) -> None:
    bench.submit("j1", URL)
    bench.submit("j2", FetchRequest(URL, sha256=GOOD))
    assert orders(bench.run()) == [("f1", 1)]
    bench.ready("f1")
    assert orders(bench.run()) == [("f2", 1)]


def test_a_later_job_uses_what_a_fetch_brought_while_it_is_fresh(bench: Bench) -> None:
    bench.submit("j1", URL, after=("beam",))
    bench.run()
    bench.ready(fresh_until=1_100.0)
    assert bench.submit("j2", URL).state is JobState.READY
    bench.now = 1_100.0
    assert bench.submit("j3", URL).fetches == ("f2",)


def test_a_later_job_that_refreshes_does_not_use_what_a_fetch_brought(bench: Bench) -> None:
    bench.submit("j1", URL, after=("beam",))
    bench.run()
    bench.ready()
    assert bench.submit("j2", FetchRequest(URL, refresh=True)).fetches == ("f2",)


def test_a_job_does_not_join_a_fetch_that_has_failed(bench: Bench) -> None:
    bench.submit("j1", URL)
    bench.run()
    bench.failed(error=REFUSED)
    assert bench.submit("j2", URL).fetches == ("f2",)
    bench.run()
    assert (bench.state("j1"), bench.state("j2")) == (JobState.FAILED, JobState.WAITING)


def test_jobs_join_the_newer_fetch_after_the_failed_one_is_forgotten(bench: Bench) -> None:
    bench.submit("j1", URL)
    bench.run()
    bench.failed(error=REFUSED)
    bench.submit("j2", URL)
    bench.run()
    assert "f1" not in bench.machine.fetches
    assert bench.submit("j3", URL).fetches == ("f2",)


def test_the_same_job_is_not_taken_in_twice(bench: Bench) -> None:
    bench.submit("j1", URL)
    with pytest.raises(ConflictError, match="j1"):
        bench.submit("j1", OTHER)
    assert list(bench.machine.fetches) == ["f1"]


@pytest.mark.parametrize(
    "url", ["http://a", "https://A.example:8443/x/y?z=/", "http://[::1]:80/x", "http://b:81"]
)
def test_the_origin_of_a_request_is_that_of_its_url(url: str) -> None:
    assert FetchRequest(url).origin == parse_url(url).origin


# -- preconditions by name ------------------------------------------------------------------------


def test_a_job_waits_for_all_its_names(bench: Bench) -> None:
    bench.submit("j1", after=("beam", "operator"))
    assert bench.machine.meet("beam", now=1.0)
    assert dispatched(bench.run()) == []
    assert bench.machine.meet("operator", now=2.0)
    assert dispatched(bench.run()) == ["j1"]


def test_a_name_met_before_submission_holds(bench: Bench) -> None:
    bench.machine.meet("beam", now=1.0)
    assert bench.submit("j1", after=("beam",)).state is JobState.READY


def test_meeting_a_name_again_changes_nothing(bench: Bench) -> None:
    bench.machine.meet("beam", now=1.0)
    bench.run()
    assert not bench.machine.meet("beam", now=2.0)
    assert not bench.machine.take_changes()
    assert bench.machine.names["beam"].met_at == 1.0


def test_a_name_and_an_input_are_both_needed(bench: Bench) -> None:
    bench.submit("j1", URL, after=("beam",))
    bench.run()
    bench.ready()
    assert dispatched(bench.run()) == []
    bench.machine.meet("beam", now=1.0)
    assert dispatched(bench.run()) == ["j1"]


def test_a_name_that_is_met_no_more_holds_back_whoever_is_not_handed_over_yet() -> None:
    bench = Bench(job_slots=1)
    bench.machine.meet("beam", now=1.0)
    bench.submit("j1", after=("beam",))
    bench.submit("j2", after=("beam",))
    assert dispatched(bench.run()) == ["j1"]
    assert bench.machine.unmeet("beam")
    assert not bench.machine.unmeet("beam")
    assert not bench.machine.unmeet("unknown")
    assert [bench.machine.jobs[job].state for job in ("j1", "j2")] == [JobState.DISPATCHED, JobState.WAITING]
    bench.submit("j3", after=("beam",))
    bench.machine.line.slots = None
    assert dispatched(bench.run()) == []
    bench.machine.meet("beam", now=2.0)
    assert dispatched(bench.run()) == ["j2", "j3"]


def test_a_name_unmet_before_its_jobs_were_looked_at_wakes_nobody(bench: Bench) -> None:
    bench.submit("j1", after=("beam",))
    bench.machine.meet("beam", now=1.0)
    bench.machine.unmeet("beam")
    assert dispatched(bench.run()) == []
    assert bench.machine.jobs["j1"].state is JobState.WAITING
    bench.machine.meet("beam", now=2.0)
    assert dispatched(bench.run()) == ["j1"]


def test_a_name_unmet_is_unmet_after_a_crash(bench: Bench) -> None:
    bench.machine.meet("beam", now=1.0)
    bench.run()
    bench.machine.unmeet("beam")
    bench.database.write(bench.machine.take_changes())
    bench.crash()
    bench.submit("j1", after=("beam",))
    assert dispatched(bench.run()) == []


# -- failure and retry ----------------------------------------------------------------------------


def test_a_transient_failure_is_tried_again_later_with_the_next_generation(bench: Bench) -> None:
    bench.submit("j1", URL)
    bench.run()
    bench.failed(jitter=0.5)
    assert bench.machine.next_time() == pytest.approx(1_000.75)
    assert orders(bench.run()) == []
    bench.now = 1_000.75
    assert orders(bench.run()) == [("f1", 2)]


def test_the_wait_grows_from_try_to_try(bench: Bench) -> None:
    bench.submit("j1", URL)
    waits = []
    for generation in (1, 2):
        bench.run()
        bench.failed(generation=generation)
        at = bench.machine.next_time()
        assert at is not None
        waits.append(at - bench.now)
        bench.now = at
    assert waits == [0.5, 1.0]


def test_what_the_origin_asked_us_to_wait_is_kept(bench: Bench) -> None:
    bench.submit("j1", URL)
    bench.run()
    bench.failed(error=ConnectionFailedError("busy", url=URL, retry_after=30))
    assert bench.machine.next_time() == 1_030.0


def test_a_fetch_gives_up_after_its_attempts_and_says_so(bench: Bench) -> None:
    bench.submit("j1", URL)
    for generation in (1, 2, 3):
        bench.now += 100.0
        assert orders(bench.run()) == [("f1", generation)]
        bench.failed(generation=generation)
    bench.run()
    error = bench.database.jobs["j1"].error
    assert isinstance(error, InputFailedError)
    assert "gave up after 3 tries" in error.cause


def test_progress_resets_the_count_of_attempts(bench: Bench) -> None:
    bench.submit("j1", URL)
    for generation in range(1, 10):
        bench.now += 10.0
        assert orders(bench.run()) == [("f1", generation)]
        bench.failed(generation=generation, progressed=generation % 2 == 0)
    assert bench.state() is JobState.WAITING


def test_a_fetch_gives_up_when_its_deadline_would_pass(bench: Bench) -> None:
    bench.submit("j1", URL)
    bench.run()
    bench.failed()
    bench.now += 500.0
    bench.run()
    bench.now += 499.5
    bench.failed(generation=2)  # the next try would be 1,000.5 s after the first
    bench.run()
    assert bench.state() is JobState.FAILED


def test_a_permanent_failure_fails_every_job_that_waits_and_names_url_and_cause(bench: Bench) -> None:
    secret = "http://origin.example/run.nxs?token=geheim"
    bench.submit("j1", secret, OTHER)
    bench.submit("j2", secret, after=("beam",))
    bench.submit("j3", OTHER)
    bench.run()
    bench.failed(error=OriginRefusedError("origin answered 404", cause="not found"))
    bench.run()
    for job in ("j1", "j2"):
        error = bench.database.jobs[job].error
        assert isinstance(error, InputFailedError)
        assert error.details["url"] == "http://origin.example/run.nxs?token=***"
        assert error.details["url"] in error.what
        assert error.cause == "not found"
        assert error.details["code"] == "origin-refused"
        assert error.remedy
        assert "geheim" not in str(error.to_dict())
    assert bench.state("j3") is JobState.WAITING


def test_the_other_fetches_of_a_failed_job_are_stopped(bench: Bench) -> None:
    bench.submit("j1", URL, OTHER)
    bench.run()
    bench.failed("f1", error=REFUSED)
    assert bench.run() == [StopFetch("f2", 1)]
    assert bench.database.fetches["f2"].state is FetchState.CANCELLED


def test_what_a_worker_hands_back_starts_again_at_once_and_is_no_failed_try(bench: Bench) -> None:
    bench.submit("j1", URL)
    bench.run()
    bench.failed()
    bench.now += 10.0
    for generation in range(2, 12):
        assert orders(bench.run()) == [("f1", generation)]
        bench.failed(generation=generation, error=HandedBackError("worker stops", url=URL))
    assert bench.machine.fetches["f1"].tries == 1
    assert orders(bench.run()) == [("f1", 12)]


def test_a_fetch_whose_worker_is_lost_starts_again_at_once_and_its_tries_count_anew(bench: Bench) -> None:
    bench.submit("j1", URL)
    bench.run()
    bench.failed()
    bench.now += 10.0
    for generation in range(2, 12):
        assert orders(bench.run()) == [("f1", generation)]
        bench.now += 900.0  # many workers, each for a while: the deadline begins anew
        lost = WorkerLostError("no sign of life", url=URL)
        bench.failed(generation=generation, error=lost, progressed=True)
    assert bench.machine.fetches["f1"].tries == 0


def test_a_fetch_whose_workers_are_always_lost_fails_after_its_deadline(bench: Bench) -> None:
    bench.submit("j1", URL)
    bench.run()
    bench.now += 1_001.0
    bench.failed(error=WorkerLostError("no sign of life", url=URL))
    bench.run()
    assert bench.state() is JobState.FAILED


def test_a_full_cache_holds_back_other_fetches_until_the_failed_one_is_due(bench: Bench) -> None:
    bench.submit("j1", URL)
    bench.run()
    bench.submit("j2", THIRD)
    bench.failed(error=CacheFullError("no space left"))
    assert orders(bench.run()) == []
    at = bench.machine.next_time()
    assert at is not None
    bench.now = at
    assert sorted(orders(bench.run())) == [("f1", 2), ("f2", 1)]


def room_for(bench: Bench) -> list[MakeRoom]:
    return [one for one in bench.run() if isinstance(one, MakeRoom)]


def full(needed: int, promised: int = 0) -> CacheFullError:
    return CacheFullError("no room", needed=needed, promised=promised)


def test_a_full_cache_counts_as_no_try_and_has_no_deadline(bench: Bench) -> None:
    bench.submit("j1", URL)
    for generation in range(1, 30):
        bench.run()
        bench.failed(generation=generation, error=full(10))
        bench.now += 10_000.0
    bench.run()
    assert bench.state() is JobState.WAITING


def test_room_is_asked_for_once_for_all_who_wait_and_those_start_at_once_when_it_is_made(
    bench: Bench,
) -> None:
    bench.submit("j1", URL, THIRD)
    bench.run()
    bench.failed("f1", error=full(10, promised=5))
    assert room_for(bench) == [MakeRoom(15)]
    bench.failed("f2", error=full(20, promised=7))
    assert room_for(bench) == [MakeRoom(37)]
    assert room_for(bench) == []
    assert bench.machine.flights.room_made() == 2
    assert sorted(orders(bench.run())) == [("f1", 2), ("f2", 2)]


def test_who_is_cancelled_while_he_waits_for_room_needs_none(bench: Bench) -> None:
    bench.submit("j1", URL)
    bench.run()
    bench.failed(error=full(10))
    assert room_for(bench) == [MakeRoom(10)]
    bench.machine.cancel("j1", now=bench.now)
    assert room_for(bench) == [MakeRoom(0)]


def test_why_no_room_can_be_made_is_said_of_each_fetch_that_waits(bench: Bench) -> None:
    bench.submit("j1", URL)
    bench.run()
    bench.failed(error=full(2_000_000))
    bench.run()
    bench.machine.flights.no_room("2MB needed, 1MB free, 5MB pinned")
    error = bench.machine.fetches["f1"].error
    assert error is not None
    assert (error.what, error.cause) == ("waits for 2MB of room", "2MB needed, 1MB free, 5MB pinned")


def test_a_fetch_that_waited_for_room_when_the_server_was_killed_waits_for_it_again(bench: Bench) -> None:
    bench.submit("j1", URL)
    bench.run()
    bench.failed(error=full(10))
    bench.run()
    bench.crash()
    assert MakeRoom(10) in bench.run()


def test_a_file_system_that_refuses_without_saying_how_much_is_given_more_each_time(bench: Bench) -> None:
    bench.submit("j1", URL)
    asked = []
    for generation in range(1, 4):
        bench.run()
        bench.failed(generation=generation, error=CacheFullError("Disk quota exceeded", errno=122))
        asked += room_for(bench)
        bench.machine.flights.room_made()
    assert [(one.size, one.regardless) for one in asked if one.size] == [
        (1 << 20, True), (2 << 20, True), (4 << 20, True),
    ]  # fmt: skip


# -- whose turn it is -----------------------------------------------------------------------------


def test_a_try_that_missed_the_credential_which_was_given_while_it_ran_is_made_again(bench: Bench) -> None:
    wanting = CredentialRequiredError("status 401", url=URL, host="origin.example")
    bench.submit("j1", URL)
    bench.run()
    flights = bench.machine.flights
    assert flights.unlock(lambda fetch: fetch.url == URL, at=bench.now + 1.0) == 0
    bench.failed(error=wanting)
    assert not flights.locked
    assert not orders(bench.run())
    bench.now += 1.0
    assert orders(bench.run()) == [("f1", 2)]
    bench.failed(generation=2, error=wanting)
    assert flights.locked == {"f1"}, "once is enough: that try has seen it"


def test_a_job_whose_owner_takes_long_to_prove_again_that_he_may_read_its_inputs_starts_all_the_same(
    bench: Bench,
) -> None:
    """The proof for each input is over when that for the other one is made."""
    bench.submit("j1", URL, OTHER, owner="ada")
    bench.run()

    def proves(fetch: str, generation: int, url: str, sha256: str) -> None:
        result = FetchResult(
            url, sha256, 10, Path("object"), cached=True, restricted=True, credentials=("c",)
        )
        bench.machine.fetch_signal(Ready(fetch, generation, result), now=bench.now)
        bench.run()
        bench.run()

    proves("f1", 1, URL, GOOD)
    bench.now += 2 * GRANT_SECONDS
    proves("f2", 1, OTHER, BAD)
    assert bench.state() is JobState.WAITING, "the first proof is too old"
    bench.now += 2 * GRANT_SECONDS
    proves("f1", 2, URL, GOOD)
    assert bench.state() is JobState.DISPATCHED


def test_a_fetch_is_one_owners_and_one_of_a_key_runs_at_a_time() -> None:
    bench = Bench(slots=2)
    bench.submit("j1", URL, owner="ann")
    bench.submit("j2", URL, owner="bob")
    bench.submit("j3", URL, owner="bob")
    assert orders(bench.run()) == [("f1", 1)]
    bench.ready("f1")
    assert orders(bench.run()) == [("f2", 1)], "and now it finds the bytes in the cache"
    assert [bench.machine.fetches[f].owner for f in ("f1", "f2")] == ["ann", "bob"]


def test_a_fetch_counts_for_its_owner() -> None:
    bench = Bench(slots=1)
    bench.submit("j1", URL, owner="ann")
    bench.run()
    for number in range(3):
        bench.submit(f"a{number}", f"http://origin.example/a{number}", owner="ann")
    bench.submit("b0", "http://origin.example/a2", owner="bob")
    bench.submit("b1", "http://origin.example/b1", owner="bob")
    order = []
    for fetch in ("f1", "f2", "f5", "f3"):
        bench.ready(fetch)
        order += orders(bench.run())
    assert order == [("f2", 1), ("f5", 1), ("f3", 1), ("f6", 1)]
    assert [bench.database.fetches[f].owner for f in ("f4", "f5")] == ["ann", "bob"]


def test_a_job_of_higher_priority_lifts_a_running_fetch_for_its_next_try() -> None:
    bench = Bench(slots=1)
    bench.submit("j1", URL)
    bench.run()
    bench.submit("j2", OTHER, priority=1)
    bench.submit("j3", URL, priority=2)
    assert bench.machine.fetches["f1"].priority == 2
    bench.failed()
    bench.now += 0.1
    assert orders(bench.run()) == [("f2", 1)]
    bench.now += 10.0
    bench.submit("j4", THIRD, priority=1)
    bench.ready("f2")
    assert orders(bench.run()) == [("f1", 2)]
    assert bench.database.fetches["f1"].priority == 2


def test_small_files_of_one_origin_are_ordered_together_and_one_that_failed_alone() -> None:
    bench = Bench(slots=1, batch=4)
    bench.submit("j0", "http://origin.example/first")
    bench.run()
    bench.ready("f1")
    for number in range(2, 6):
        bench.now += 1.0
        bench.submit(f"j{number}", f"http://origin.example/{number}")
    assert seats(bench.run()) == [["f2", "f3"]]
    bench.failed("f2", error=ConnectionFailedError("reset", url=URL))
    bench.ready("f3")
    bench.now += 10.0
    assert seats(bench.run()) == [["f2"]]
    bench.ready("f2", generation=2)
    assert seats(bench.run()) == [["f4", "f5"]]


def test_the_other_fetches_of_a_seat_stay_when_one_is_stopped() -> None:
    bench = Bench(slots=1, batch=4)
    bench.submit("j0", "http://origin.example/first")
    bench.run()
    bench.ready("f1")
    bench.submit("j1", URL)
    bench.submit("j2", OTHER)
    bench.submit("j3", "http://origin.example/last")
    assert seats(bench.run()) == [["f2", "f3"]]
    bench.cancel("j2")
    assert bench.run() == [StopFetch("f3", 1)]
    bench.ready("f2")
    assert seats(bench.run()) == []
    bench.failed("f3", error=CancelledError("cancelled", url=OTHER))
    assert seats(bench.run()) == [["f4"]]


# -- signals that come late, twice or out of nowhere ----------------------------------------------


def test_a_signal_of_an_older_try_changes_nothing(bench: Bench) -> None:
    bench.submit("j1", URL)
    bench.run()
    bench.failed()
    bench.now += 10
    bench.run()
    bench.ready(generation=1)
    bench.failed(generation=1, error=REFUSED)
    assert not bench.machine.take_changes()
    assert bench.machine.fetches["f1"].state is FetchState.RUNNING
    assert bench.machine.stale_signals == 2


def test_a_late_end_of_an_older_try_does_not_free_the_place_of_the_newer(bench: Bench) -> None:
    bench = Bench(slots=1)
    bench.submit("j1", URL)
    bench.run()
    bench.failed()
    bench.now += 10
    bench.run()
    bench.submit("j2", OTHER)
    bench.failed(generation=1)
    assert orders(bench.run()) == []


def test_a_second_ready_changes_nothing(bench: Bench) -> None:
    bench.submit("j1", URL, after=("beam",))
    bench.run()
    bench.ready()
    bench.run()
    bench.ready(sha256=BAD)
    assert not bench.machine.take_changes()
    assert not bench.machine.pending


def test_a_failure_after_ready_changes_nothing(bench: Bench) -> None:
    bench.submit("j1", URL, after=("beam",))
    bench.run()
    bench.ready()
    bench.failed(error=REFUSED)
    bench.run()
    assert bench.state() is JobState.WAITING


def test_signals_of_strangers_are_counted_and_ignored(bench: Bench) -> None:
    bench.ready("nobody")
    bench.job(JobStarted("nobody", 1))
    assert bench.machine.stale_signals == 2
    assert not bench.machine.take_changes()


def test_started_and_progress_change_no_state(bench: Bench) -> None:
    bench.submit("j1", URL)
    bench.run()
    bench.machine.fetch_signal(Started("f1", 1), now=1.0)
    bench.machine.fetch_signal(Progress("f1", 1, 5, 10), now=1.0)
    assert not bench.machine.take_changes()


# -- lost objects ---------------------------------------------------------------------------------


def test_an_object_lost_before_the_hand_over_is_fetched_again_and_the_job_waits(bench: Bench) -> None:
    bench = Bench(job_slots=0)
    bench.submit("j1", URL)
    bench.run()
    bench.ready()
    bench.run()
    assert bench.state() is JobState.READY
    bench.machine.lose("f1")
    validate(bench.machine)
    assert bench.state() is JobState.WAITING
    assert orders(bench.run()) == [("f1", 2)]
    bench.ready(generation=2)
    bench.run()
    assert bench.state() is JobState.READY


def test_an_object_lost_before_the_waiting_jobs_were_looked_at_wakes_none(bench: Bench) -> None:
    bench.submit("j1", URL)
    bench.run()
    bench.ready()
    bench.machine.lose("f1")
    assert dispatched(bench.run()) == []
    assert bench.state() is JobState.WAITING


def test_losing_what_is_not_ready_or_not_known_changes_nothing(bench: Bench) -> None:
    bench.submit("j1", URL)
    bench.run()
    bench.machine.lose("f1")
    bench.machine.lose("nobody")
    assert not bench.machine.take_changes()


def test_a_lost_object_is_tried_as_often_as_a_new_one(bench: Bench) -> None:
    bench.submit("j1", URL, after=("beam",))
    bench.run()
    bench.failed()
    bench.now += 10
    bench.run()
    bench.ready(generation=2)
    bench.machine.lose("f1")
    for generation in (3, 4):
        bench.now += 10
        assert orders(bench.run()) == [("f1", generation)]
        bench.failed(generation=generation)
    bench.now += 10
    assert orders(bench.run()) == [("f1", 5)]


def test_a_refused_job_waits_for_what_was_lost_and_is_handed_over_with_the_next_epoch(bench: Bench) -> None:
    bench.submit("j1", URL, OTHER)
    bench.run()
    bench.ready("f1")
    bench.ready("f2")
    bench.run()
    bench.job(JobRefused("j1", 1, ("f2",)))
    assert bench.state() is JobState.WAITING
    assert list(bench.machine.jobs["j1"].unmet) == ["f2"]
    assert orders(bench.run()) == [("f2", 2)]
    bench.ready("f2", 2)
    assert bench.run() == [Dispatch("j1", 2)]


def test_a_second_refusal_of_the_same_hand_over_changes_nothing(bench: Bench) -> None:
    bench.submit("j1", URL)
    bench.run()
    bench.ready()
    bench.run()
    bench.job(JobRefused("j1", 1, ("f1",)))
    bench.run()
    bench.ready(generation=2)
    bench.run()
    bench.job(JobRefused("j1", 1, ("f1",)))
    assert bench.state() is JobState.DISPATCHED
    assert bench.machine.fetches["f1"].state is FetchState.READY


def test_a_second_refusal_before_the_next_hand_over_loses_nothing_again() -> None:
    bench = Bench(job_slots=1)
    bench.submit("j1", (FetchRequest(URL), entry()))
    bench.submit("j2")
    bench.run()
    bench.job(JobRefused("j1", 1, ("f1",)))
    bench.run()
    bench.ready(generation=2)
    bench.run()
    bench.job(JobRefused("j1", 1, ("f1",)))
    assert bench.state("j1") is JobState.READY


def test_a_job_that_became_ready_twice_is_handed_over_once() -> None:
    bench = Bench(job_slots=0)
    bench.submit("j1", (FetchRequest(URL), entry()))
    bench.machine.lose("f1")
    bench.run()
    bench.ready(generation=2)
    bench.run()
    bench.machine.line.slots = None
    assert bench.run() == [Dispatch("j1", 1)]


def test_a_refused_job_whose_input_failed_meanwhile_fails(bench: Bench) -> None:
    for job in ("j1", "j2"):
        bench.submit(job, URL)
    bench.run()
    bench.ready()
    bench.run()
    bench.job(JobRefused("j1", 1, ("f1",)))
    bench.run()
    bench.failed(generation=2, error=REFUSED)
    bench.run()
    assert (bench.state("j1"), bench.state("j2")) == (JobState.FAILED, JobState.DISPATCHED)
    bench.job(JobRefused("j2", 1, ("f1",)))
    bench.run()
    assert bench.state("j2") is JobState.FAILED


def test_a_refused_job_whose_input_came_back_meanwhile_is_handed_over_again(bench: Bench) -> None:
    for job in ("j1", "j2"):
        bench.submit(job, URL)
    bench.run()
    bench.ready()
    bench.run()
    bench.job(JobRefused("j1", 1, ("f1",)))
    bench.run()
    bench.ready(generation=2)
    bench.run()
    bench.job(JobRefused("j2", 1, ()))
    assert bench.run() == [Dispatch("j2", 2)]


def test_a_job_that_is_known_to_run_can_not_be_refused(bench: Bench) -> None:
    bench.submit("j1")
    bench.run()
    bench.job(JobStarted("j1", 1))
    bench.job(JobRefused("j1", 1, ()))
    bench.job(JobEnded("j1", 1, 0))
    bench.run()
    assert bench.state() is JobState.DONE


# -- jobs: slots, order, life ---------------------------------------------------------------------


def test_no_more_jobs_are_handed_over_than_there_are_slots() -> None:
    bench = Bench(job_slots=2)
    for job in ("j1", "j2", "j3"):
        bench.submit(job)
    assert dispatched(bench.run()) == ["j1", "j2"]
    bench.job(JobStarted("j1", 1))
    assert dispatched(bench.run()) == []
    bench.job(JobEnded("j1", 1, 0))
    assert dispatched(bench.run()) == ["j3"]


def test_a_refused_job_gives_its_slot_back() -> None:
    bench = Bench(job_slots=1)
    bench.submit("j1", (FetchRequest(URL), entry()))
    bench.submit("j2")
    bench.run()
    bench.job(JobRefused("j1", 1, ("f1",)))
    assert dispatched(bench.run()) == ["j2"]


def test_the_slot_of_a_cancelled_job_is_free_only_when_its_process_is_over() -> None:
    bench = Bench(job_slots=1)
    bench.submit("j1")
    bench.submit("j2")
    bench.run()
    bench.job(JobStarted("j1", 1))
    bench.cancel("j1")
    assert bench.run() == [StopJob("j1", 1)]
    bench.job(JobEnded("j1", 1, 143, CommandFailedError("ended by signal 15")))
    assert dispatched(bench.run()) == ["j2"]
    written = bench.database.jobs["j1"]
    assert (written.state, written.exit_code, written.handed) == (JobState.CANCELLED, 143, False)
    assert written.error is None


def test_ready_jobs_go_by_priority_and_then_by_age() -> None:
    bench = Bench(job_slots=1)
    bench.submit("j0")
    bench.run()
    for job, priority in (("j1", 0), ("j2", 5), ("j3", 0), ("j4", 5)):
        bench.submit(job, priority=priority)
    order = []
    last = "j0"
    for _ in range(4):
        bench.job(JobStarted(last, 1))
        bench.job(JobEnded(last, 1, 0))
        (last,) = dispatched(bench.run())
        order.append(last)
    assert order == ["j2", "j4", "j1", "j3"]


def test_a_fetch_takes_the_highest_priority_of_the_jobs_that_need_it() -> None:
    bench = Bench(slots=1)
    bench.submit("j0", THIRD)
    bench.run()
    bench.submit("j1", URL, priority=1)
    bench.submit("j2", OTHER)
    bench.submit("j3", OTHER, priority=2)
    bench.submit("j4", OTHER, priority=-3)
    bench.ready("f1")
    assert orders(bench.run()) == [("f3", 1)]
    assert bench.database.fetches["f3"].priority == 2


def test_a_fetch_lifted_while_it_runs_keeps_its_priority_for_the_next_try() -> None:
    bench = Bench(slots=1)
    bench.submit("j1", URL)
    bench.run()
    bench.submit("j2", URL, priority=5)
    bench.submit("j3", OTHER, priority=3)
    bench.failed()
    bench.now += 10
    assert orders(bench.run()) == [("f1", 2)]


def test_a_job_that_succeeds_is_done_with_its_results(bench: Bench) -> None:
    bench.submit("j1")
    bench.run()
    bench.now = 1_001.0
    bench.job(JobStarted("j1", 1))
    bench.now = 1_005.0
    bench.job(JobEnded("j1", 1, 0, None, (JobResult("out", GOOD, 3),), 4.0))
    bench.run()
    written = bench.database.jobs["j1"]
    assert (written.state, written.exit_code, written.results) == (
        JobState.DONE,
        0,
        (JobResult("out", GOOD, 3),),
    )
    assert (written.dispatched_at, written.started_at, written.ended_at) == (1_000.0, 1_001.0, 1_005.0)
    assert not bench.machine.jobs


def test_a_job_whose_command_fails_has_failed(bench: Bench) -> None:
    bench.submit("j1")
    bench.run()
    error = CommandFailedError("status 3")
    bench.job(JobStarted("j1", 1))
    bench.job(JobEnded("j1", 1, 3, error))
    bench.run()
    written = bench.database.jobs["j1"]
    assert (written.state, written.exit_code, written.error) == (JobState.FAILED, 3, error)


def test_an_end_that_overtakes_the_start_counts_as_both(bench: Bench) -> None:
    bench.submit("j1")
    bench.run()
    bench.job(JobEnded("j1", 1, 0, seconds=4.0))
    bench.job(JobStarted("j1", 1))
    bench.run()
    written = bench.database.jobs["j1"]
    assert (written.state, written.started_at) == (JobState.DONE, 996.0)


def test_a_job_that_could_not_be_started_has_failed_without_a_start(bench: Bench) -> None:
    bench.submit("j1")
    bench.run()
    bench.job(JobEnded("j1", 1, None, CommandFailedError("no such program")))
    bench.run()
    written = bench.database.jobs["j1"]
    assert (written.state, written.started_at, written.handed) == (JobState.FAILED, None, False)


def test_a_second_end_changes_nothing(bench: Bench) -> None:
    bench.submit("j1")
    bench.run()
    for exit_code in (0, 3):
        bench.job(JobEnded("j1", 1, exit_code))
    bench.run()
    assert bench.database.jobs["j1"].exit_code == 0


def test_signals_of_another_epoch_change_nothing(bench: Bench) -> None:
    bench.submit("j1", (FetchRequest(URL), entry()))
    bench.run()
    for epoch in (0, 2):
        bench.job(JobStarted("j1", epoch))
        bench.job(JobRefused("j1", epoch, ("f1",)))
        bench.job(JobEnded("j1", epoch, 0))
    assert bench.state() is JobState.DISPATCHED
    assert bench.machine.fetches["f1"].state is FetchState.READY


def test_what_the_tables_do_not_have_raises() -> None:
    bench = Bench()
    record = bench.submit("j1")
    with pytest.raises(IllegalTransitionError, match="j1 can't go from ready to running"):
        bench.machine._move_job(record, JobState.RUNNING)
    bench.submit("j2", URL)
    with pytest.raises(IllegalTransitionError, match="f1 can't go from queued to ready"):
        bench.machine.flights.move(bench.machine.fetches["f1"], FetchState.READY)
    assert record.state is JobState.READY


# -- cancelling -----------------------------------------------------------------------------------


def test_cancelling_a_waiting_job_stops_the_fetch_that_nobody_else_needs(bench: Bench) -> None:
    bench.submit("j1", URL, OTHER)
    bench.submit("j2", OTHER)
    bench.run()
    assert bench.cancel("j1")
    assert bench.run() == [StopFetch("f1", 1)]
    assert bench.database.jobs["j1"].state is JobState.CANCELLED
    assert bench.database.fetches["f1"].state is FetchState.CANCELLED
    assert bench.machine.fetches["f2"].state is FetchState.RUNNING


def test_a_queued_fetch_that_nobody_needs_is_never_started() -> None:
    bench = Bench(slots=1)
    bench.submit("j1", URL)
    bench.submit("j2", OTHER)
    bench.run()
    bench.cancel("j2")
    bench.ready("f1")
    assert orders(bench.run()) == []
    assert bench.database.fetches["f2"].state is FetchState.CANCELLED


def test_a_fetch_that_waits_for_its_next_try_is_not_tried_when_nobody_needs_it(bench: Bench) -> None:
    bench.submit("j1", URL)
    bench.run()
    bench.failed()
    bench.cancel("j1")
    bench.now += 100
    assert bench.run() == []


@pytest.mark.parametrize("ends", ["ready", "failed"])
def test_the_place_of_a_stopped_fetch_is_free_when_its_try_has_ended(ends: str) -> None:
    bench = Bench(slots=1)
    bench.submit("j1", URL)
    bench.run()
    bench.cancel("j1")
    bench.submit("j2", OTHER)
    assert orders(bench.run()) == []
    if ends == "ready":
        bench.ready("f1")
    else:
        bench.failed("f1", error=CancelledError("stopped"))
    assert orders(bench.run()) == [("f2", 1)]


def test_a_late_signal_of_an_older_try_does_not_free_the_place_of_a_stopped_one() -> None:
    bench = Bench(slots=1)
    bench.submit("j1", URL)
    bench.run()
    bench.failed(generation=1)
    bench.now += 10
    bench.run()
    bench.cancel("j1")
    bench.submit("j2", OTHER)
    bench.failed(generation=1)
    assert orders(bench.run()) == []
    bench.ready(generation=2)
    assert orders(bench.run()) == [("f2", 1)]


def test_a_job_that_wants_a_stopped_fetch_gets_a_new_one_after_the_old_try_has_ended(bench: Bench) -> None:
    bench.submit("j1", URL)
    bench.run()
    bench.cancel("j1")
    bench.submit("j2", URL)
    assert orders(bench.run()) == []
    bench.failed("f1", error=CancelledError("stopped"))
    assert orders(bench.run()) == [("f2", 1)]
    assert bench.state("j2") is JobState.WAITING


def test_cancelling_a_ready_job_keeps_it_from_being_handed_over() -> None:
    bench = Bench()
    bench.submit("j1")
    bench.cancel("j1")
    assert bench.run() == []
    assert bench.state() is JobState.CANCELLED


def test_cancelling_a_job_that_was_woken_and_not_looked_at_keeps_it_from_running(bench: Bench) -> None:
    bench.submit("j1", URL)
    bench.run()
    bench.ready()
    bench.cancel("j1")
    assert dispatched(bench.run()) == []


def test_a_dispatched_job_that_is_cancelled_is_stopped_and_stays_cancelled(bench: Bench) -> None:
    bench.submit("j1")
    bench.run()
    assert bench.cancel("j1")
    assert bench.run() == [StopJob("j1", 1)]
    bench.job(JobStarted("j1", 1))
    bench.job(JobEnded("j1", 1, 0))
    bench.run()
    assert bench.state() is JobState.CANCELLED
    assert not bench.machine.jobs


def test_a_dispatched_job_that_is_cancelled_and_then_refused_is_over(bench: Bench) -> None:
    bench = Bench(job_slots=1)
    bench.submit("j1", (FetchRequest(URL), entry()))
    bench.run()
    bench.cancel("j1")
    bench.job(JobRefused("j1", 1, ("f1",)))
    bench.submit("j2")
    assert dispatched(bench.run()) == ["j2"]
    assert not bench.database.jobs["j1"].handed


def test_cancelling_twice_says_that_nothing_was_done(bench: Bench) -> None:
    bench.submit("j1")
    bench.run()
    assert bench.cancel("j1")
    assert not bench.cancel("j1")
    assert bench.run() == [StopJob("j1", 1)]


def test_cancelling_what_the_machine_does_not_hold_is_an_error(bench: Bench) -> None:
    with pytest.raises(NotFoundError, match="nobody"):
        bench.cancel("nobody")


# -- pieces ---------------------------------------------------------------------------------------


def test_many_waiting_jobs_are_woken_a_piece_at_a_time(bench: Bench) -> None:
    for n in range(10):
        bench.submit(f"j{n}", URL)
    bench.run()
    bench.ready()
    sizes = []
    while bench.machine.pending:
        sizes.append(len(dispatched(bench.run(limit=4))))
    assert sizes == [4, 4, 2]


def test_a_failure_is_spread_a_piece_at_a_time(bench: Bench) -> None:
    for n in range(10):
        bench.submit(f"j{n}", URL)
    bench.run()
    bench.failed(error=REFUSED)
    bench.run(limit=4)
    assert len(bench.machine.jobs) == 6
    bench.run(limit=4)
    bench.run(limit=4)
    assert not bench.machine.jobs
    assert not bench.machine.fetches


def test_an_idle_machine_has_nothing_pending_and_nothing_to_write(bench: Bench) -> None:
    bench.submit("j1", URL)
    bench.run()
    assert not bench.machine.pending
    assert not bench.machine.take_changes()


# -- crashes --------------------------------------------------------------------------------------


def test_a_job_whose_submission_was_not_written_is_unknown_after_a_crash(bench: Bench) -> None:
    bench.submit("j1", URL)
    bench.machine.advance(1.0)
    bench.crash()
    assert not bench.machine.jobs
    assert bench.run() == []


def test_a_fetch_that_ran_starts_anew_with_the_next_generation(bench: Bench) -> None:
    bench.submit("j1", URL)
    bench.run()
    bench.crash()
    assert orders(bench.run()) == [("f1", 2)]
    bench.ready(generation=1)
    assert dispatched(bench.run()) == []
    bench.ready(generation=2)
    assert bench.run() == [Dispatch("j1", 1)]


def test_a_wait_before_the_next_try_survives_a_crash(bench: Bench) -> None:
    bench.submit("j1", URL)
    bench.run()
    bench.failed()
    bench.run()
    bench.crash()
    assert orders(bench.run()) == []
    bench.now += 0.5
    assert orders(bench.run()) == [("f1", 2)]


def test_jobs_not_woken_yet_are_woken_by_the_next_start(bench: Bench) -> None:
    for n in range(5):
        bench.submit(f"j{n}", URL)
    bench.run()
    bench.ready()
    first = dispatched(bench.run(limit=2))
    bench.crash()
    assert sorted(dispatched(bench.run())) == [f"j{n}" for n in range(5)]
    assert first == ["j0", "j1"]
    assert {j.epoch for j in bench.machine.jobs.values()} == {1}


def test_jobs_not_failed_yet_are_failed_by_the_next_start(bench: Bench) -> None:
    for n in range(3):
        bench.submit(f"j{n}", URL)
    bench.run()
    bench.failed(error=REFUSED)
    bench.run(limit=1)
    bench.crash()
    bench.run()
    assert {j.state for j in bench.database.jobs.values()} == {JobState.FAILED}
    assert not bench.machine.jobs


def test_a_name_met_before_the_crash_holds_after_it(bench: Bench) -> None:
    bench.submit("j1", after=("beam",))
    bench.run()
    bench.machine.meet("beam", now=5.0)
    bench.database.write(bench.machine.take_changes())
    bench.crash()
    assert dispatched(bench.run()) == ["j1"]


def test_a_ready_job_is_ready_after_a_crash_in_the_order_of_priority() -> None:
    bench = Bench(job_slots=0)
    bench.submit("j1")
    bench.submit("j2", priority=1)
    bench.run()
    bench.limits = (8, 8, None)
    bench.crash()
    assert dispatched(bench.run()) == ["j2", "j1"]


@pytest.mark.parametrize("known", ["dispatched", "running"])
def test_a_job_handed_over_and_not_over_is_handed_over_again_under_the_same_id(known: str) -> None:
    bench = Bench(job_slots=1)
    bench.submit("j1")
    bench.submit("j2")
    bench.run()
    if known == "running":
        bench.job(JobStarted("j1", 1))
        bench.run()
    bench.crash()
    assert bench.machine.pending
    assert bench.run() == [Dispatch("j1", 1)]
    bench.job(JobStarted("j1", 1))
    bench.job(JobEnded("j1", 1, 0))
    assert bench.run() == [Dispatch("j2", 1)]


def test_a_cancelled_job_that_may_still_run_is_stopped_again_after_a_crash() -> None:
    bench = Bench(job_slots=1)
    bench.submit("j1")
    bench.submit("j2")
    bench.run()
    bench.cancel("j1")
    bench.run()
    bench.crash()
    assert bench.run() == [StopJob("j1", 1)]
    bench.job(JobEnded("j1", 1, None, CommandFailedError("never ran")))
    assert bench.run() == [Dispatch("j2", 1)]
    assert bench.state("j1") is JobState.CANCELLED


def test_fetches_that_outlive_the_server_are_adopted_with_their_generation_and_keep_their_seats() -> None:
    bench = Bench(slots=2)
    bench.submit("j1", URL)
    bench.submit("j2", OTHER)
    bench.submit("j3", THIRD)
    bench.run()
    bench.failed("f2")
    bench.now += 10.0
    bench.run()
    bench.crash(keep_running=True)
    adopted = bench.run()
    assert [(i.order.fetch, i.order.generation) for i in adopted if isinstance(i, AdoptFetch)] == [
        ("f1", 1),
        ("f3", 1),
    ]
    assert orders(adopted) == []
    bench.ready("f3")
    assert orders(bench.run()) == [("f2", 2)]


def test_fetches_that_outlive_the_server_count_for_their_owners() -> None:
    bench = Bench(slots=2)
    bench.submit("j1", URL, owner="ann")
    bench.run()
    bench.submit("j2", OTHER, owner="ann")
    bench.submit("j3", THIRD, owner="bob")
    bench.database.write(bench.machine.take_changes())
    bench.crash(keep_running=True)
    assert orders(bench.run()) == [("f3", 1)]


def test_a_fetch_that_only_running_jobs_used_is_forgotten_by_a_start(bench: Bench) -> None:
    bench.submit("j1", URL)
    bench.run()
    bench.ready()
    bench.run()
    bench.job(JobStarted("j1", 1))
    bench.run()
    bench.crash()
    assert not bench.machine.fetches
    assert bench.database.fetches["f1"].state is FetchState.READY


def test_a_job_joins_the_transfer_under_way_after_a_crash_in_whatever_order_fetches_are_read(
    bench: Bench,
) -> None:
    bench.submit("j1", URL, after=("beam",))
    bench.run()
    bench.ready(fresh_until=1_001.0)
    bench.now = 1_002.0
    bench.submit("j2", URL)
    bench.run()
    for _ in range(2):
        bench.crash()
        assert bench.submit("j3", URL).fetches == ("f2",)
        bench.database.fetches = dict(reversed(bench.database.fetches.items()))


def test_a_hand_over_refused_between_the_load_and_the_first_round_is_not_repeated(bench: Bench) -> None:
    """Dispatchers outlive an outage of the database: their signals may come before the loop goes on."""
    bench.submit("j1", (FetchRequest(URL), entry()))
    bench.run()
    bench.crash()
    bench.job(JobRefused("j1", 1, ("f1",)))
    assert dispatched(bench.run()) == []
    bench.ready(generation=2)
    assert bench.run() == [Dispatch("j1", 2)]


def test_a_job_cancelled_between_the_load_and_the_first_round_is_only_stopped(bench: Bench) -> None:
    bench.submit("j1")
    bench.run()
    bench.crash()
    bench.cancel("j1")
    assert set(bench.run()) == {StopJob("j1", 1)}


def test_a_job_whose_inputs_are_found_lost_again_and_again_fails_with_a_reason(bench: Bench) -> None:
    bench.submit("j1", URL)
    for epoch in range(1, MOST_HAND_OVERS + 1):
        assert bench.state() is JobState.WAITING
        bench.run()
        bench.ready("f1", epoch)
        assert bench.run() == [Dispatch("j1", epoch)]
        bench.job(JobRefused("j1", epoch, ("f1",)))
    bench.run()
    error = bench.database.jobs["j1"].error
    assert bench.state() is JobState.FAILED
    assert error is not None
    assert f"{MOST_HAND_OVERS} times" in error.cause


def test_a_try_with_progress_is_followed_by_as_many_fruitless_ones_as_the_first(bench: Bench) -> None:
    bench.submit("j1", URL)
    for generation, progressed in enumerate([True, False, False, False], start=1):
        bench.now += 10.0
        bench.run()
        assert bench.state() is JobState.WAITING
        bench.failed(generation=generation, progressed=progressed)
    bench.run()
    assert bench.state() is JobState.FAILED


# -- how large a job may be ------------------------------------------------------------------------


def urls(count: int) -> list[str]:
    return [f"http://origin.example/{n}.nxs" for n in range(count)]


def test_a_job_whose_inputs_are_too_large_in_all_fails_before_it_runs() -> None:
    bench = Bench(job_bytes=25)
    large = bench.submit("large", *urls(3))
    fits = bench.submit("fits", *urls(2))
    bench.run()
    for fetch in ("f1", "f2", "f3"):
        bench.ready(fetch)
    assert Dispatch("fits", 1) in bench.run()
    assert large.state is JobState.FAILED
    assert isinstance(large.error, JobTooLargeError)
    assert large.error.cause == "its inputs are 30 bytes, of at most 25"
    assert fits.state is JobState.DISPATCHED


def test_a_job_of_many_inputs_is_failed_before_all_are_fetched_and_the_rest_is_given_up() -> None:
    bench = Bench(job_bytes=25, slots=16, per_origin=16)
    large = bench.submit("large", *urls(16))
    bench.submit("other", urls(16)[15])
    bench.run()
    for number in range(1, 9):
        bench.ready(f"f{number}")
    stopped = [i.fetch for i in bench.run() if isinstance(i, StopFetch)]
    assert large.state is JobState.FAILED
    assert large.error is not None
    assert large.error.cause == "8 of its 16 inputs are 80 bytes, of at most 25"
    assert sorted(stopped) == sorted(
        f"f{number}" for number in range(9, 16)
    )  # another job wants the last one


def test_it_is_failed_by_the_very_input_that_is_too_much() -> None:
    bench = Bench(job_bytes=25, slots=16, per_origin=16)
    large = bench.submit("large", *urls(16))
    bench.run()
    for number in (1, 2, 3):
        assert large.state is JobState.WAITING
        bench.ready(f"f{number}")
        bench.run()
    assert large.state is JobState.FAILED
    assert large.error is not None
    assert large.error.cause == "3 of its 16 inputs are 30 bytes, of at most 25"


def test_sizes_that_were_given_with_the_inputs_fail_it_before_anything_is_fetched() -> None:
    bench = Bench(job_bytes=25)
    large = bench.submit("large", *(FetchRequest(url, size=9) for url in urls(3)))
    assert large.state is JobState.FAILED
    assert not [i for i in bench.run() if isinstance(i, StartFetch)]
    fits = bench.submit("fits", *(FetchRequest(url, size=10) for url in urls(2)))
    bench.run()
    assert fits.state is JobState.WAITING
    for fetch in list(bench.machine.fetches):
        bench.ready(fetch)
    assert Dispatch("fits", 1) in bench.run()


def test_an_input_that_is_lost_and_comes_again_counts_once() -> None:
    bench = Bench(job_bytes=25)
    job = bench.submit("job", *urls(2), after=("beam",))
    bench.run()
    bench.ready("f1")
    bench.run()
    for generation in (2, 3, 4):
        bench.machine.lose("f1")
        bench.run()
        bench.ready("f1", generation)
        bench.run()
    bench.ready("f2")
    bench.run()
    assert (job.state, job.known_bytes) == (JobState.WAITING, 20)


def test_one_file_under_two_names_counts_once() -> None:
    bench = Bench(job_bytes=15)
    job = bench.submit("job", URL, URL)
    bench.run()
    bench.ready()
    assert bench.run() == [Dispatch("job", 1)]
    assert job.error is None


def test_a_job_that_became_too_large_while_nothing_ran_fails_at_the_next_start() -> None:
    bench = Bench()
    bench.submit("job", URL, OTHER, after=("beam",))
    bench.run()
    bench.ready("f1")
    bench.ready("f2")
    bench.run()
    bench.machine.meet("beam", now=bench.now)
    bench.database.write(bench.machine.take_changes())
    bench.job_bytes = 15
    bench.machine = bench.new_machine()
    bench.database.load_into(bench.machine, now=bench.now)
    assert not [i for i in bench.run() if isinstance(i, Dispatch)]
    assert bench.database.jobs["job"].state is JobState.FAILED
