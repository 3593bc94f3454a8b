"""Jobs of several users that want the same file behind a login: each gets it after his own proof, and by no other way."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from stat import S_IMODE

import pytest

from stager.client import Client
from stager.errors import InputError, NotFoundError
from stager.model.credential_scope import Scope
from stager.model.credentials import Kind, NewCredential
from stager.model.jobs import JobInput, JobSpec, JobState
from stager.model.stages import StagedState, StageItem
from stager.server.app import create_app
from stager.server.listen import ApiServer, open_socket, url_of
from stager.service.credentials import CredentialService
from stager.settings import Settings
from stager.wiring.credential_care import build_credential_service
from stager.wiring.server import JobServer
from tests.support.origin import Origin, content, status
from tests.support.until import until
from tests.support.vault import basic, guarded, place

DATA = b"behind a login"
DIGEST = sha256(DATA).hexdigest()
PATIENCE = 60.0
NETWORKS = ("127.0.0.0/8",)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


@pytest.fixture
def url(origin: Origin) -> str:
    def admits(headers: object) -> bool:
        return headers.get("authorization") in {basic("ann"), basic("bob")}  # type: ignore[attr-defined]

    fresh = {"Cache-Control": "max-age=9999"}
    return origin.serve("/data", guarded(DATA, admits, etag='"1"', headers=fresh))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return made(tmp_path)


@pytest.fixture
def vault(settings: Settings, origin: Origin) -> CredentialService:
    service = build_credential_service(settings)
    for user in ("ann", "bob", "eve"):
        scope = Scope(place(origin.base), "/", user, allow_http=True)
        service.add(NewCredential(scope, Kind.BASIC, {"user": user, "password": "canary-password"}))
    return service


def made(root: Path, **more: object) -> Settings:
    given = {
        "cache_dir": root / "cache",
        "state_dir": root / "state",
        "retry_first_seconds": 0.01,
        "allowed_networks": NETWORKS,
    }
    return Settings(**given | more)  # type: ignore[arg-type]


@contextmanager
def serving(running: JobServer) -> Iterator[Client]:
    """A client of its API."""
    with open_socket("127.0.0.1", 0) as listening:
        ready = threading.Event()
        api = ApiServer(create_app(running.jobs, "t" * 43, grants=running.grants), ready.set)
        thread = threading.Thread(target=api.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            assert ready.wait(PATIENCE)
            with Client(url_of(listening), "t" * 43) as client:
                yield client
        finally:
            api.stop()
            thread.join(PATIENCE)


@contextmanager
def server(settings: Settings) -> Iterator[JobServer]:
    with JobServer(settings) as running:
        yield running


def submit(
    running: JobServer, url: str, owner: str, *, sha: str | None = None, script: str = "cat inputs/data"
) -> str:
    spec = JobSpec(("/bin/sh", "-c", script), (JobInput(url, "data", sha),), owner=owner)
    return running.jobs.submit([spec])[0]


def done(running: JobServer, job: str) -> bytes:
    assert running.jobs.wait(job, PATIENCE).state is JobState.DONE, running.jobs.job(job)
    return running.jobs.log_file(job, "stdout").read_bytes()


def gets_nothing(running: JobServer, job: str) -> None:
    """Whether it waits for a credential or has failed: it was never started."""
    end = time.monotonic() + PATIENCE
    while (found := running.jobs.job(job)).inputs[0].error is None:
        assert time.monotonic() < end, found
        assert found.dispatched_at is None
        time.sleep(0.02)
    assert found.inputs[0].error is not None
    assert found.inputs[0].error["code"].startswith("credential-")
    assert found.dispatched_at is None
    assert not (running.cache.root / "jobs" / job / "inputs" / "data").exists()


def asked(origin: Origin, user: str) -> int:
    return sum(one.headers.get("authorization") == basic(user) for one in origin.seen())


@pytest.mark.usefixtures("vault")
def test_each_user_proves_it_once_and_his_next_job_starts_unasked(
    settings: Settings, origin: Origin, url: str
) -> None:
    with server(settings) as running:
        assert done(running, submit(running, url, "ann")) == DATA
        assert done(running, submit(running, url, "ann")) == DATA
        assert asked(origin, "ann") == 1
        assert done(running, submit(running, url, "bob")) == DATA
        assert asked(origin, "bob") == 1
        assert sum(one.sent for one in origin.seen()) == len(DATA), "the bytes came once"
        assert {grant.user for grant in running.grants.held()} == {"ann", "bob"}


@pytest.mark.usefixtures("vault")
@pytest.mark.parametrize("sha", [None, DIGEST], ids=["by path", "by digest"])
@pytest.mark.parametrize("user", ["eve", "guest", "", "Ann"])
def test_nobody_else_gets_it(user: str, sha: str | None, settings: Settings, url: str) -> None:
    with server(settings) as running:
        assert done(running, submit(running, url, "ann")) == DATA
        gets_nothing(running, submit(running, url, user, sha=sha))
        gets_nothing(running, submit(running, url.replace("http:", "HTTP:"), user, sha=sha))


@pytest.mark.usefixtures("vault")
def test_two_who_ask_at_once_are_asked_both(settings: Settings, origin: Origin, url: str) -> None:
    with server(settings) as running:
        jobs = {user: submit(running, url, user) for user in ("ann", "eve", "bob")}
        assert done(running, jobs["ann"]) == DATA
        assert done(running, jobs["bob"]) == DATA
        gets_nothing(running, jobs["eve"])
    assert all(asked(origin, user) >= 1 for user in jobs)


@pytest.mark.usefixtures("vault")
def test_the_origin_is_asked_before_a_hit_differs_from_a_miss(
    settings: Settings, origin: Origin, url: str
) -> None:
    other = origin.serve("/other", status(401))
    with server(settings) as running:
        assert done(running, submit(running, url, "ann")) == DATA
        for wanted in (url, other):
            gets_nothing(running, submit(running, wanted, "guest"))
    guests = [one.target for one in origin.seen() if "authorization" not in one.headers]
    assert sorted(guests) == ["/data", "/other"]


@pytest.mark.usefixtures("vault")
def test_a_grant_that_is_over_at_the_hand_over_is_proved_again_first(
    tmp_path: Path, origin: Origin, url: str
) -> None:
    with server(made(tmp_path, grant_seconds=0.2, job_slots=1)) as running:
        wait = f"until [ -e {tmp_path}/go ]; do sleep 0.05; done"
        first = submit(running, origin.serve("/first", content(b"x")), "ann", script=wait)
        until(lambda: running.jobs.state(first) is JobState.RUNNING, "it runs")
        job = submit(running, url, "ann")
        until(lambda: running.jobs.state(job) is JobState.READY, "it waits for its turn alone")
        threading.Event().wait(0.3)  # the grant is over
        (tmp_path / "go").touch()
        assert done(running, job) == DATA
    assert len(origin.seen("/data")) == 2


@pytest.mark.usefixtures("vault")
def test_a_user_whom_the_origin_does_not_let_in_any_more_gets_nothing_more(
    settings: Settings, origin: Origin, url: str
) -> None:
    with server(settings) as running:
        assert done(running, submit(running, url, "ann")) == DATA
        origin.serve("/data", status(403))
        assert len(running.grants.revoke(user="ann")) == 1
        gets_nothing(running, submit(running, url, "ann"))
        assert running.grants.held() == []


def test_a_grant_goes_with_its_credential(settings: Settings, url: str, vault: CredentialService) -> None:
    with server(settings) as running:
        assert done(running, submit(running, url, "ann")) == DATA
        assert done(running, submit(running, url, "bob")) == DATA
        (anns,) = vault.list(owner="ann")
        vault.remove(anns.id)
        end = time.monotonic() + PATIENCE
        while "ann" in {grant.user for grant in running.grants.held()}:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert {grant.user for grant in running.grants.held()} == {"bob"}
        gets_nothing(running, submit(running, url, "ann"))


@pytest.mark.usefixtures("vault")
def test_grants_outlive_a_restart_and_revoked_ones_do_not_come_back(
    settings: Settings, origin: Origin, url: str
) -> None:
    with server(settings) as running:
        for user in ("ann", "bob"):
            assert done(running, submit(running, url, user)) == DATA
        (bobs,) = running.grants.held("bob")
        running.grants.revoke([bobs.id])
        with pytest.raises(NotFoundError):
            running.grants.revoke([bobs.id])
    with server(settings) as running:
        assert {grant.user for grant in running.grants.held()} == {"ann"}
        for user in ("ann", "bob"):
            assert done(running, submit(running, url, user)) == DATA
    assert (asked(origin, "ann"), asked(origin, "bob")) == (1, 2)


@pytest.mark.usefixtures("vault")
def test_what_a_job_leaves_of_it_is_restricted_too(settings: Settings, url: str) -> None:
    with server(settings) as running:
        job = submit(running, url, "ann", script="cp inputs/data $STAGER_RESULTS/copy")
        done(running, job)
        found, file = running.jobs.open_result(job, "copy")
        with file:
            assert file.read() == DATA
        assert found.sha256 == DIGEST
        assert not running.cache.has_object(DIGEST)
        assert not [one for one in (running.cache.root / "objects").rglob("*") if one.is_file()]
        assert S_IMODE((running.cache.root / "jobs" / job).stat().st_mode) == 0o700


@pytest.mark.usefixtures("vault")
def test_the_sites_credential_is_for_every_user_and_keeps_the_bytes_from_the_rest_of_the_world(
    settings: Settings, origin: Origin, vault: CredentialService
) -> None:
    scope = Scope(place(origin.base), "/site", "", allow_http=True)
    vault.add(NewCredential(scope, Kind.BASIC, {"user": "site", "password": "canary-password"}))
    url = origin.serve(
        "/site/data", guarded(DATA, lambda h: h.get("authorization") == basic("site"), etag='"1"')
    )
    with server(settings) as running:
        for user in ("guest", "somebody"):
            assert done(running, submit(running, url, user)) == DATA
        assert not running.cache.has_object(DIGEST)
    assert asked(origin, "site") == 2


@pytest.mark.usefixtures("vault")
def test_a_stage_request_pins_it_for_its_owner(settings: Settings, url: str) -> None:
    with server(settings) as running:
        stage = running.stages.stage([StageItem(url)], owner="ann")
        (file,) = running.stages.wait(stage, PATIENCE).all_files
        assert file.state is StagedState.READY
        (pin,) = running.cache_site.pins.pins()
        assert pin.object == DIGEST
        assert not running.cache.has_object(DIGEST)


@pytest.mark.usefixtures("vault")
def test_grants_are_listed_and_ended_through_the_api(settings: Settings, url: str) -> None:
    with server(settings) as running, serving(running) as client:
        for user in ("ann", "bob"):
            assert done(running, submit(running, url, user)) == DATA
        (anns,) = client.grants.list("ann")
        assert (anns.user, anns.key, anns.object) == ("ann", url, DIGEST)
        assert [one.user for one in client.grants.revoke([anns.id])] == ["ann"]
        with pytest.raises(NotFoundError):
            client.grants.revoke([anns.id])
        assert [one.user for one in client.grants.revoke([url], user="bob")] == ["bob"]
        with pytest.raises(InputError):
            client.grants.revoke()
        assert client.grants.list() == []
