"""Two servers on one PostgreSQL: one leads, the other takes over when it is gone. Nothing is lost, nothing dispatched twice."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Self

import pytest
from sqlalchemy import create_engine, text

from stager.errors import ServerUnreachableError, StagerError
from stager.model.jobs import JobInput, JobSpec, JobState
from stager.state.leadership import LOCK
from tests.support.farm import until
from tests.support.origin import Origin, content
from tests.support.takeover import Site, Standby, free_port

KILLS = 6
PATIENCE = 300.0
pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as made:
        yield made


class Users:
    """Submit jobs all the time, and remember which were taken in."""

    def __init__(self, site: Site, url: str, inputs: list[str]) -> None:
        self.taken: list[str] = []
        self.refused = 0
        self._site = site
        self._url = url
        self._inputs = inputs
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(Random(n),)) for n in range(3)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self, random: Random) -> None:
        script = f"echo $STAGER_JOB_ID >> {self._site.root}/ran; cat inputs/* > /dev/null"
        with self._site.client(self._url) as client:
            while not self._ended.wait(0.05):
                inputs = tuple(JobInput(url) for url in random.sample(self._inputs, 2))
                try:
                    self.taken += client.jobs.submit([JobSpec(("/bin/sh", "-c", script), inputs)])
                except StagerError:  # nobody leads just now; whether it was taken in is not known
                    self.refused += 1


def test_a_leader_is_killed_at_random_under_load_and_no_job_is_lost_or_run_twice(
    site: Site, tmp_path: Path
) -> None:
    random = Random(int(os.environ.get("STAGER_SEED", "6")))
    port = free_port()  # as behind an address that moves: only who leads listens
    with Origin() as origin:
        urls = [origin.serve(f"/{n}.dat", content(random.randbytes(2000))) for n in range(40)]
        leader = site.server("one", port).until_it("leads")
        other = site.server("two", port).until_it("waits")
        site.workers()
        with Users(site, leader.url, urls) as users:
            for kill in range(KILLS):
                enough = len(users.taken) + random.randrange(5, 40)
                until(lambda enough=enough: len(users.taken) >= enough, "jobs are taken in", PATIENCE)  # type: ignore[misc]
                leader.end(signal.SIGKILL)
                other.until_it("leads")
                leader, other = other, site.server(f"next{kill}", port).until_it("waits")
            enough = len(users.taken) + 10
            until(lambda: len(users.taken) >= enough, "the last one takes jobs in as well", PATIENCE)
        with site.client(leader.url) as client:
            for job in users.taken:
                assert client.jobs.wait(job, PATIENCE).state is JobState.DONE
            until(
                lambda: all(not client.jobs.list(states=[s]) for s in OPEN), "nothing is left open", PATIENCE
            )
    ran = Counter((tmp_path / "ran").read_text().split())
    assert set(users.taken) <= set(ran)
    assert set(ran.values()) == {1}, [job for job, times in ran.items() if times > 1]


OPEN = (JobState.WAITING, JobState.READY, JobState.DISPATCHED, JobState.RUNNING)


def test_a_leader_that_was_frozen_and_wakes_up_writes_and_dispatches_nothing(
    site: Site, tmp_path: Path
) -> None:
    """Its session with the lock is gone meanwhile, as when the network was: a lock alone would not stop it."""
    old = site.server("one", free_port()).until_it("leads")
    new = site.server("two", free_port()).until_it("waits")
    site.workers()
    script = f"echo $STAGER_JOB_ID >> {tmp_path}/ran"
    with site.client(old.url) as client:
        jobs = client.jobs.submit([JobSpec(("/bin/sh", "-c", script), after=("go",)) for _ in range(20)])
    meet = threading.Thread(target=met, args=(site, old))
    old.send(signal.SIGSTOP)
    meet.start()  # asked of the old one, which will find it in its inbox when it wakes up
    end_session_of_the_leader(site)
    new.until_it("leads")
    old.send(signal.SIGCONT)
    assert old.process.wait(60) == 6
    meet.join()
    assert '"action": "server.superseded"' in old.said()
    with site.client(new.url) as client:
        assert all(client.jobs.show(job).state is JobState.WAITING for job in jobs)
        client.preconditions.meet("go")
        assert {client.jobs.wait(job, PATIENCE).state for job in jobs} == {JobState.DONE}
    assert sorted((tmp_path / "ran").read_text().split()) == sorted(jobs)


def met(site: Site, server: Standby) -> None:
    with site.client(server.url) as client:
        try:
            client.preconditions.meet("go")
        except ServerUnreachableError:
            return
        raise AssertionError("a server that leads no more has taken something in")


def holders(site: Site) -> set[int]:
    """The sessions of the database that hold the lock: one or none."""
    engine = create_engine(site.database)
    with engine.connect() as connection:
        query = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = :low"
        found = set(connection.execute(text(query), {"low": LOCK & 0xFFFFFFFF}).scalars())
    engine.dispose()
    return found


def end_session_of_the_leader(site: Site) -> int:
    (pid,) = holders(site)
    engine = create_engine(site.database, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    engine.dispose()
    return pid


def test_a_server_that_is_told_to_end_hands_over_at_once_and_one_that_waits_ends_with_status_0(
    site: Site,
) -> None:
    port = free_port()
    first = site.server("one", port).until_it("leads")
    second = site.server("two", port).until_it("waits")
    third = site.server("three", port).until_it("waits")
    assert third.end(signal.SIGTERM) == 0
    assert first.end(signal.SIGTERM) == 0
    second.until_it("leads")
    assert second.end(signal.SIGTERM) == 0


def test_a_database_that_is_restarted_costs_the_leader_nothing(site: Site) -> None:
    """Its session breaks; it has the lock again before anybody else, or ends."""
    leader = site.server("one", free_port()).until_it("leads")
    for _ in range(3):
        before = end_session_of_the_leader(site)

        def is_new(before: int = before) -> bool:
            found = holders(site)
            return len(found) == 1 and before not in found

        until(is_new, "it has the lock again")
    assert leader.process.poll() is None
    with site.client(leader.url) as client:
        assert client.jobs.submit([JobSpec(("true",), after=("never",))])
