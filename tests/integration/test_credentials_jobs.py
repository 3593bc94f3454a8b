"""Jobs whose inputs want a credential: they wait, say so, and go on by themselves once it is given."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stager.cli.jobs import page
from stager.model.credential_scope import Scope
from stager.model.credentials import Kind, NewCredential
from stager.model.fetches import FetchState
from stager.model.jobs import JobInput, JobSpec, JobState
from stager.model.views import JobDetail
from stager.settings import Settings
from stager.wiring.credential_care import build_credential_service
from stager.wiring.server import JobServer
from tests.support.origin import Origin, content, redirect, status
from tests.support.vault import basic, guarded, place

DATA = b"behind a login"
PATIENCE = 60.0
WRONG = {"user": "ada", "password": "canary-wrong"}
RIGHT = {"user": "ada", "password": "canary-password"}


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


@pytest.fixture
def url(origin: Origin) -> str:
    return origin.serve("/data", guarded(DATA, lambda h: h.get("authorization") == basic()))


@contextmanager
def server(root: Path, **more: object) -> Iterator[JobServer]:
    given = {"cache_dir": root / "cache", "state_dir": root / "state", "retry_first_seconds": 0.01}
    with JobServer(Settings(**given | more)) as running:  # type: ignore[arg-type]
        yield running


def submit(running: JobServer, url: str, owner: str = "ann") -> str:
    spec = JobSpec(("/bin/cat", "inputs/data"), (JobInput(url, "data"),), owner=owner)
    return running.jobs.submit([spec])[0]


def until(running: JobServer, job: str, holds: Callable[[JobDetail], bool]) -> JobDetail:
    end = time.monotonic() + PATIENCE
    while not holds(found := running.jobs.job(job)):
        assert time.monotonic() < end, found
        time.sleep(0.02)
    return found


def waiting(running: JobServer, job: str) -> JobDetail:
    return until(running, job, lambda found: bool(found.wants_credentials))


def new(origin: Origin, parts: dict[str, str], owner: str = "ann", prefix: str = "/") -> NewCredential:
    return NewCredential(Scope(place(origin.base), prefix, owner, allow_http=True), Kind.BASIC, parts)


def test_a_job_waits_for_its_credential_says_so_and_goes_on_once_it_is_given(
    tmp_path: Path, origin: Origin, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with server(tmp_path) as running:
        job = submit(running, url)
        found = waiting(running, job)
        assert found.state is JobState.WAITING
        assert found.wants_credentials == [place(origin.base)]
        (item,) = found.inputs
        assert (item.state, item.next_try_at) == (FetchState.LOCKED, None)
        assert item.error is not None
        assert item.error["code"] == "credential-required"
        shown = "\n".join(page(found, time.time()))
        how = f"`stager credentials add {place(origin.base)} --owner ann --allow-http`"
        assert f"way out    give it once with {how}" in shown
        assert "  owner      ann" in shown
        assert (found.owner, running.jobs.jobs()[0].owner) == ("ann", "ann")
        assert "  locked: 401 Unauthorized" in shown
        (listed,) = running.jobs.jobs()
        assert listed.wants_credentials == found.wants_credentials
        assert [r for r in caplog.records if "jobs of ann wait for a credential" in r.getMessage()]
        asked = len(origin.seen())
        time.sleep(0.5)
        assert len(origin.seen()) == asked, "nothing is tried while it waits"
        running.credentials.add(new(origin, RIGHT))
        assert running.jobs.wait(job, PATIENCE).state is JobState.DONE
        assert running.jobs.log_file(job, "stdout").read_bytes() == DATA


def test_a_refused_one_is_told_apart_from_a_missing_one_and_rotation_lets_the_job_go_on(
    tmp_path: Path, origin: Origin, url: str
) -> None:
    with server(tmp_path) as running:
        given = running.credentials.add(new(origin, WRONG))
        job = submit(running, url)
        found = waiting(running, job)
        assert found.inputs[0].error is not None
        assert found.inputs[0].error["code"] == "credential-refused"
        assert given.id in found.inputs[0].error["remedy"]
        shown = "\n".join(page(found, time.time()))
        assert (
            f"way out    `stager credentials rotate {given.id}` takes the right one; then it goes on" in shown
        )
        assert "credentials add" not in shown
        running.credentials.rotate(given.id, {"password": RIGHT["password"]})
        assert running.jobs.wait(job, PATIENCE).state is JobState.DONE


def test_one_that_was_given_without_the_server_is_noticed(tmp_path: Path, origin: Origin, url: str) -> None:
    with server(tmp_path) as running:
        job = submit(running, url)
        waiting(running, job)
        elsewhere = Settings(cache_dir=tmp_path / "cache", state_dir=tmp_path / "state")
        build_credential_service(elsewhere).add(new(origin, RIGHT))
        assert running.jobs.wait(job, PATIENCE).state is JobState.DONE


def test_what_waits_does_so_across_a_restart_and_goes_on_if_it_was_given_meanwhile(
    tmp_path: Path, origin: Origin, url: str
) -> None:
    with server(tmp_path) as running:
        first, second = submit(running, url), submit(running, url, owner="bob")
        for job in (first, second):
            waiting(running, job)
    elsewhere = Settings(cache_dir=tmp_path / "cache", state_dir=tmp_path / "state")
    build_credential_service(elsewhere).add(new(origin, RIGHT, owner="bob"))
    with server(tmp_path) as running:
        assert running.jobs.wait(second, PATIENCE).state is JobState.DONE
        assert waiting(running, first).state is JobState.WAITING, "it is not given for ann"


def test_for_a_job_of_nobody_in_particular_one_of_the_site_is_asked_for(
    tmp_path: Path, origin: Origin, url: str
) -> None:
    with server(tmp_path) as running:
        job = submit(running, url, owner="")
        shown = "\n".join(page(waiting(running, job), time.time()))
        assert f"`stager credentials add {place(origin.base)} --site --allow-http`" in shown
        running.credentials.add(new(origin, RIGHT, owner=""))
        assert running.jobs.wait(job, PATIENCE).state is JobState.DONE


def test_one_that_could_not_be_opened_is_tried_again_when_its_key_may_be_there(
    tmp_path: Path, origin: Origin, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stager.service.credential_watch.UNREADABLE_SECONDS", 0.1)
    key = tmp_path / "state" / "credentials" / "key"
    with server(tmp_path) as running:
        running.credentials.add(new(origin, RIGHT))
        key.rename(tmp_path / "key")
        job = submit(running, url)
        found = waiting(running, job)
        assert found.inputs[0].error is not None
        assert found.inputs[0].error["code"] == "credential-unreadable"
        (tmp_path / "key").rename(key)
        assert running.jobs.wait(job, PATIENCE).state is JobState.DONE


def test_nobody_waits_for_somebody_elses_credential(tmp_path: Path, origin: Origin, url: str) -> None:
    with server(tmp_path) as running:
        running.credentials.add(new(origin, RIGHT, owner="bob"))
        anns = submit(running, url, owner="ann")
        waiting(running, anns)
        bobs = submit(running, url, owner="bob")
        assert running.jobs.wait(bobs, PATIENCE).state is JobState.DONE
        assert running.jobs.job(anns).state is JobState.WAITING


def test_one_for_another_place_lets_nothing_go_on(tmp_path: Path, origin: Origin, url: str) -> None:
    with server(tmp_path) as running:
        job = submit(running, url)
        waiting(running, job)
        asked = len(origin.seen())
        running.credentials.add(NewCredential(Scope("elsewhere.example"), Kind.BASIC, RIGHT))
        running.credentials.add(new(origin, RIGHT, owner="bob"))
        time.sleep(1.5)
        assert len(origin.seen()) == asked
        assert running.jobs.job(job).state is JobState.WAITING


def test_the_login_host_that_a_redirect_led_to_is_the_one_that_is_named(
    tmp_path: Path, origin: Origin, url: str
) -> None:
    with Origin(host="127.0.0.2") as data, server(tmp_path) as running:
        job = submit(running, data.serve("/data", redirect(url)))
        assert waiting(running, job).wants_credentials == [place(origin.base)]
        running.credentials.add(new(origin, RIGHT))
        assert running.jobs.wait(job, PATIENCE).state is JobState.DONE


def test_a_job_that_waits_for_one_can_be_cancelled(tmp_path: Path, url: str) -> None:
    with server(tmp_path) as running:
        job = submit(running, url)
        waiting(running, job)
        assert running.jobs.cancel(job)
        found = running.jobs.job(job)
        assert (found.state, found.wants_credentials) == (JobState.CANCELLED, [])
        assert found.inputs[0].state is FetchState.CANCELLED


def test_a_signed_url_that_is_refused_fails_its_job(tmp_path: Path, origin: Origin) -> None:
    with server(tmp_path) as running:
        job = submit(running, origin.serve("/data?X-Amz-Signature=canary", status(403)))
        found = running.jobs.wait(job, PATIENCE)
        assert found.state is JobState.FAILED
        assert "canary" not in str(found.error)


@pytest.mark.parametrize("farm", ["process", "aio"])
def test_other_farms_see_what_is_given_too(farm: str, tmp_path: Path, origin: Origin, url: str) -> None:
    origin.serve("/open", content(b"x"))
    with server(tmp_path, farm=farm, allowed_networks=("127.0.0.0/8",)) as running:
        job = submit(running, url)
        waiting(running, job)
        running.credentials.add(new(origin, RIGHT))
        assert running.jobs.wait(job, PATIENCE).state is JobState.DONE
