"""Calls that come twice because the answer was lost make what they make once."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stager.client import Client
from stager.errors import KeyReusedError, ServerUnreachableError, UnderWayError
from stager.model.answered import DAY_SECONDS, Call
from stager.model.jobs import JobState
from stager.service import jobs
from stager.service.repeats import Repeats
from tests.support.api import PATIENCE, TOKEN, Api, running_api
from tests.support.jobserver import shell
from tests.support.origin import Origin
from tests.support.processes import ServerProcess
from tests.support.world import World, world
from tests.unit.test_client import answer, problem

WAITS = {"command": ["true"], "after": ["never"]}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(tmp_path_factory.mktemp("api")) as running:
        yield running


def post(api: Api, key: str | None, body: Any = WAITS, path: str = "/v1/jobs") -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return api("POST", path, json=body, headers=headers)


def test_the_same_key_with_the_same_request_has_the_same_answer_and_one_job(api: Api) -> None:
    before = len(api.server.jobs.jobs(limit=1000))
    first, again, quoted = post(api, "one"), post(api, "one"), post(api, '"one"')
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json() == quoted.json()
    assert first.headers["Location"] == again.headers["Location"]
    assert len(api.server.jobs.jobs(limit=1000)) == before + 1
    assert post(api, "two").json() != first.json()
    assert post(api, None).json() != post(api, None).json()


def test_the_same_key_with_another_request_is_refused(api: Api) -> None:
    post(api, "mine")
    headers = {"Idempotency-Key": "mine"}
    other = WAITS | {"name": "other"}
    found = api.problem("POST", "/v1/jobs", 422, json=other, headers=headers)
    assert found["code"] == "key-reused"
    assert api.problem("POST", "/v1/jobs", 422, json=WAITS, headers={"Idempotency-Key": "k" * 256})["what"]


def test_what_was_refused_may_be_asked_again_with_the_same_key(api: Api) -> None:
    assert post(api, "bad", {"command": []}).status_code == 422
    assert post(api, "bad", WAITS).status_code == 201


def test_while_one_is_being_answered_its_repetition_is_told_to_wait(api: Api) -> None:
    call = Call.of("server", "busy", b"x")
    with api.server.repeats.taken_up(call) as before:
        assert before is None
        headers = {"Idempotency-Key": "busy"}
        found = api.problem("POST", "/v1/jobs", 409, json=WAITS, headers=headers)
        assert (found["code"], found["transient"]) == ("under-way", True)
    assert post(api, "busy").status_code == 201


def test_while_it_is_not_known_whether_one_was_carried_out_its_repetition_is_told_to_wait(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(api.server.jobs.jobs(limit=1000))
    busy, goes_on = threading.Event(), threading.Event()

    def stand_still(_: object) -> None:
        busy.set()
        goes_on.wait(PATIENCE)

    still = api.server.mapper.inspect(stand_still)
    assert busy.wait(PATIENCE)
    try:
        with monkeypatch.context() as hasty:
            hasty.setattr(jobs, "ANSWER_SECONDS", 0.05)
            assert post(api, "slow").status_code == 503
            again = post(api, "slow")
            assert (again.status_code, again.json()["code"]) == (409, "under-way")
    finally:
        goes_on.set()
    still.result(PATIENCE)
    assert post(api, None).status_code == 201, "whoever else asks is served"
    answers = {tuple(post(api, "slow").json()["ids"]) for _ in range(2)}
    assert len(answers) == 1
    assert len(api.server.jobs.jobs(limit=1000)) == before + 2


def test_keys_of_one_user_are_not_those_of_another_and_no_key_or_request_can_be_read_back() -> None:
    ada, bob = Call.of("ada", "k", b"x"), Call.of("bob", "k", b"x")
    assert ada.digest != bob.digest
    assert ada.asked != Call.of("ada", "l", b"x").asked


def test_after_a_day_a_key_may_be_used_again(api: Api) -> None:
    class Later:
        def time(self) -> float:
            return time.time() + self.seconds

        seconds = 0.0

    clock = Later()
    repeats = Repeats(api.server.store.answers, clock)  # type: ignore[arg-type]
    call, other = Call.of("ada", "old", b"x"), Call.of("ada", "old", b"y")
    repeats.keep(repeats.answered(call, "1"))
    with repeats.taken_up(call) as before:
        assert before == "1"
    with pytest.raises(KeyReusedError), repeats.taken_up(other):
        pass
    clock.seconds = DAY_SECONDS + 10
    with repeats.taken_up(other) as before:
        assert before is None
    repeats.keep(repeats.answered(other, "2"))
    with repeats.taken_up(other) as before:
        assert before == "2"


def test_all_that_is_made_is_made_once(tmp_path: Path) -> None:
    with world(tmp_path) as there:
        urls = ["http://127.0.0.1:9/x"]
        credential = {"host": "h.example.org", "parts": {"user": "u", "password": "p"}}
        calls: list[tuple[str, Any]] = [
            ("/v1/stage", {"files": urls}),
            ("/v1/credentials", credential),
            ("/v1/cache/pins", {"file": there.put("ada")}),
            ("/v1/users", {"name": "ada"}),
            (f"/v1/jobs/{there.cancelled('ada')}/retry", None),
        ]
        for number, (path, body) in enumerate(calls):
            headers = {"Idempotency-Key": f"key {number}"}
            first = there("POST", path, TOKEN, json=body, headers=headers)
            again = there("POST", path, TOKEN, json=body, headers=headers)
            assert first.status_code == again.status_code == 201, (path, first.text, again.text)
            assert first.json() == again.json()
        assert len(there.server.stages.stages()) == 1
        assert len(there.server.jobs.jobs()) == 2
        _no_secret_is_kept(there, tmp_path)


def _no_secret_is_kept(there: World, root: Path) -> None:
    headers = {"Idempotency-Key": "secret key"}
    body = {"host": "s.example.org", "parts": {"user": "u", "password": "hunter2-canary"}}
    assert there("POST", "/v1/credentials", TOKEN, json=body, headers=headers).status_code == 201
    kept = b"".join(path.read_bytes() for path in (root / "state").glob("stager.db*"))
    assert b"hunter2-canary" not in kept
    assert b"secret key" not in kept


# -- the client ---------------------------------------------------------------------------------------


def test_the_client_asks_again_with_the_same_key_when_the_answer_is_lost() -> None:
    busy = problem(409, **UnderWayError("being answered").to_dict())
    with Origin() as origin, Client(origin.base, "t") as client:
        origin.serve("/v1/jobs", lambda exchange: exchange.reset(), busy, answer({"ids": ["j"]}))
        assert client.jobs.submit([shell("true")]) == ["j"]
        keys = {one.headers.get("idempotency-key") for one in origin.seen("/v1/jobs")}
        assert len(origin.seen("/v1/jobs")) == 3
        assert len(keys) == 1
        assert None not in keys
        client.jobs.submit([shell("true")])
        assert len({one.headers.get("idempotency-key") for one in origin.seen("/v1/jobs")}) == 2


def test_the_client_says_that_it_does_not_know_when_the_server_stays_away() -> None:
    with Origin() as origin, Client(origin.base, "t", outage_seconds=0.3) as client:
        origin.serve("/v1/jobs", lambda exchange: exchange.reset())
        with pytest.raises(ServerUnreachableError) as caught:
            client.jobs.submit([shell("true")])
    assert caught.value.details == {"sent": True}


def test_a_server_that_is_killed_between_committing_and_answering_makes_one_job(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    ids: list[list[str]] = []
    with ServerProcess(tmp_path, "--port", port, killed_at="record.committed") as server:
        token = (tmp_path / "state" / "token").read_text().strip()

        def submit() -> None:
            with Client(server.url, token) as mine:
                ids.append(mine.jobs.submit([shell("true", after=("never",)) for _ in range(3)]))

        thread = threading.Thread(target=submit)
        thread.start()
        assert server.process.wait(PATIENCE) == -signal.SIGKILL
    with ServerProcess(tmp_path, "--port", port) as server, server.client() as client:
        thread.join(60)
        assert not thread.is_alive()
        found = client.jobs.list()
        assert [[job.id for job in reversed(found)]] == ids
        assert {job.state for job in found} == {JobState.WAITING}
        server.end()
