"""The API's client against servers that fail in ways a real one rarely does."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import pytest

from stager.client import Client
from stager.errors import (
    ConflictError,
    RemoteError,
    RemoteTransientError,
    ServerUnreachableError,
    StateError,
    TooManyRequestsError,
)
from stager.model.jobs import JobSpec, JobState
from tests.support.origin import Answer, Origin, redirect, status

JOB: dict[str, Any] = {
    "id": "j", "name": "", "state": "running", "priority": 0, "submitted_at": 1.0, "ready_at": None,
    "dispatched_at": None, "started_at": None, "ended_at": None, "exit_code": None, "error": None, "command": ["x"],
    "waits_for": [], "environment": {}, "inputs": [], "after": [], "results": [], "directory": "/d",
}  # fmt: skip


def answer(value: Any, code: int = 200, kind: str = "application/json") -> Answer:
    body = json.dumps(value).encode()
    return status(code, {"Content-Type": kind, "Content-Length": str(len(body))}, body)


def problem(number: int, **error: Any) -> Answer:
    return answer(error, number, "application/problem+json")


def test_a_problem_becomes_the_error_it_was() -> None:
    error = ConflictError("job j is done", cause="c", remedy="r")
    with Origin() as origin, Client(origin.base, "t") as client:
        origin.serve("/v1/jobs/j/cancel", problem(409, **error.to_dict()))
        with pytest.raises(ConflictError) as caught:
            client.jobs.cancel("j")
    assert caught.value == error


def test_a_problem_of_a_newer_server_keeps_its_words_and_whether_it_may_pass() -> None:
    with Origin() as origin, Client(origin.base, "t") as client:
        origin.serve("/v1/status", problem(503, code="new-kind", what="w", transient=True))
        with pytest.raises(RemoteTransientError, match="w"):
            client.site.status()


def test_what_a_newer_server_says_besides_is_left_out() -> None:
    with Origin() as origin, Client(origin.base, "t") as client:
        origin.serve("/v1/jobs/j", answer(JOB | {"mood": "good"}))
        assert client.jobs.show("j").state is JobState.RUNNING


@pytest.mark.parametrize(
    "foreign",
    [status(200, {"Content-Length": "2"}, b"hi"), status(500, {"Content-Length": "0"}), answer([1])],
)
def test_an_answer_that_makes_no_sense_is_no_stager_server(foreign: Any) -> None:
    with Origin() as origin, Client(origin.base, "t") as client:
        origin.serve("/v1/status", foreign)
        with pytest.raises(RemoteError, match="not a Stager server"):
            client.site.status()


def test_the_token_is_not_carried_to_wherever_an_answer_points() -> None:
    with Origin() as origin, Origin() as elsewhere, Client(origin.base, "t") as client:
        origin.serve("/v1/status", redirect(elsewhere.url("/v1/status")))
        with pytest.raises(RemoteError):
            client.site.status()
        assert elsewhere.seen() == []
        assert origin.seen()[0].headers.get("authorization") == "Bearer t"


def test_a_proxy_of_the_environment_does_not_see_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    with Origin() as proxy, Origin() as origin, Client(origin.base, "t") as client:
        monkeypatch.setenv("HTTP_PROXY", proxy.base)
        monkeypatch.setenv("http_proxy", proxy.base)
        origin.serve("/v1/status", answer({"version": "1"}))
        assert client.site.status() == {"version": "1"}
        assert proxy.seen() == []


def test_nobody_there_is_said_with_the_reason_and_the_way_out() -> None:
    with Origin() as origin:
        base = origin.base
    with Client(base, "t") as client, pytest.raises(ServerUnreachableError) as caught:
        client.jobs.submit([JobSpec(("true",))])
    assert caught.value.cause == "Connection refused"
    assert "stager serve" in caught.value.remedy


def test_wait_asks_again_after_an_outage_and_takes_the_answer_that_counts() -> None:
    stopping = problem(503, **StateError("the server is stopping").to_dict())
    with Origin() as origin, Client(origin.base, "t") as client:
        path = "/v1/jobs/j?wait=30.000"
        origin.serve(
            path, lambda exchange: exchange.reset(), stopping, answer(JOB), answer(JOB | {"state": "done"})
        )
        assert client.jobs.wait("j").state is JobState.DONE
        assert len(origin.seen(path)) == 4


def test_wait_gives_up_when_the_server_stays_away() -> None:
    with Origin() as origin:
        base = origin.base
    with Client(base, "t", outage_seconds=0.15) as client, pytest.raises(ServerUnreachableError):
        client.jobs.wait("j")


def test_wait_with_a_time_returns_the_job_as_it_is_then() -> None:
    with Origin() as origin, Client(origin.base, "t") as client:
        origin.serve("/v1/jobs/j", answer(JOB))
        assert client.jobs.wait("j", 0).state is JobState.RUNNING


def test_all_pages_of_jobs_are_read_up_to_the_limit() -> None:
    with Origin() as origin, Client(origin.base, "t") as client:
        origin.serve(
            "/v1/jobs?limit=3", answer({"jobs": [JOB | {"id": "c"}, JOB | {"id": "b"}], "next": "b"})
        )
        origin.serve("/v1/jobs?limit=1&before=b", answer({"jobs": [JOB | {"id": "a"}], "next": "a"}))
        assert [job.id for job in client.jobs.list(limit=3)] == ["c", "b", "a"]


def test_a_result_that_breaks_off_is_an_error_not_a_short_file() -> None:
    with Origin() as origin, Client(origin.base, "t") as client:

        def short(exchange: Any) -> None:
            exchange.head(200, {"Content-Length": "10"})
            exchange.body(b"abc")
            exchange.reset()

        origin.serve("/v1/jobs/j/results/r", short)
        with (
            closing(client.results.read("j", "r")) as blocks,
            pytest.raises(ServerUnreachableError, match="broke off"),
        ):
            b"".join(blocks)


def too_soon(**more: Any) -> Answer:
    return problem(429, **TooManyRequestsError("too soon", retry_after_seconds=0.01, **more).to_dict())


def test_a_client_that_asks_too_often_rests_and_asks_again() -> None:
    with Origin() as origin, Client(origin.base, "t") as client:
        origin.serve(
            "/v1/jobs/j/cancel", too_soon(user="ada"), too_soon(user="ada"), answer({"changed": True})
        )
        assert client.jobs.cancel("j")
        assert len(origin.seen()) == 3


def test_a_client_does_not_ask_for_ever_nor_again_with_a_token_that_does_not_count() -> None:
    with Origin() as origin, Client(origin.base, "t") as client:
        origin.serve("/v1/jobs/j/cancel", too_soon(user="ada"))
        with pytest.raises(TooManyRequestsError):
            client.jobs.cancel("j")
        assert len(origin.seen()) == 11
        origin.serve("/v1/whoami", too_soon())
        with pytest.raises(TooManyRequestsError):
            client.accounts.whoami()
        assert len(origin.seen("/v1/whoami")) == 1
