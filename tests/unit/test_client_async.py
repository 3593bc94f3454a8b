"""The awaited client: its driver against servers that fail, and that its calls are those of the other one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

import pytest

from stager import AsyncClient, Client
from stager.client.talk import Request
from stager.errors import (
    ConflictError,
    NotFoundError,
    RemoteError,
    ServerUnreachableError,
    StateError,
    TooManyRequestsError,
)
from stager.model.jobs import JobSpec, JobState
from stager.model.verify import VerifyProgress, VerifyReport
from tests.support.origin import Answer, Origin, redirect, status
from tests.unit.test_client import JOB, answer, problem


def run(origin: Origin | str, call: Callable[[AsyncClient], Awaitable[Any]], **more: Any) -> Any:
    async def main() -> Any:
        base = origin if isinstance(origin, str) else origin.base
        async with AsyncClient(base, "t", **more) as client:
            return await call(client)

    return asyncio.run(main())


def test_what_is_asked_is_what_the_other_client_asks() -> None:
    spec = JobSpec(("true",), name="a b")
    with Origin() as origin, Client(origin.base, "t") as client:
        origin.serve("/v1/jobs", answer({"ids": ["j"]}))
        origin.serve("/v1/jobs?state=waiting&state=ready&limit=1", answer({"jobs": [JOB], "next": None}))
        origin.serve("/v1/jobs/a%20b%2Fc", answer(JOB))
        states = [JobState.WAITING, JobState.READY]
        one = client.jobs.submit([spec]), client.jobs.list(states=states, limit=1), client.jobs.show("a b/c")

        async def same(other: AsyncClient) -> Any:
            jobs = other.jobs
            return (
                await jobs.submit([spec]),
                await jobs.list(states=states, limit=1),
                await jobs.show("a b/c"),
            )

        assert run(origin, same) == one
        seen = [(r.method, r.target, r.headers.get("authorization"), r.body) for r in origin.seen()]
        assert seen[:3] == seen[3:]


def test_a_problem_becomes_the_error_it_was() -> None:
    error = ConflictError("job j is done", cause="c", remedy="r")
    with Origin() as origin:
        origin.serve("/v1/jobs/j/cancel", problem(409, **error.to_dict()))
        with pytest.raises(ConflictError) as caught:
            run(origin, lambda client: client.jobs.cancel("j"))
    assert caught.value == error


@pytest.mark.parametrize(
    "foreign",
    [status(200, {"Content-Length": "2"}, b"hi"), status(500, {"Content-Length": "0"}), answer([1])],
)
def test_an_answer_that_makes_no_sense_is_no_stager_server(foreign: Answer) -> None:
    with Origin() as origin:
        origin.serve("/v1/status", foreign)
        with pytest.raises(RemoteError, match="not a Stager server"):
            run(origin, lambda client: client.site.status())


def test_the_token_is_not_carried_to_wherever_an_answer_points() -> None:
    with Origin() as origin, Origin() as elsewhere:
        origin.serve("/v1/status", redirect(elsewhere.url("/v1/status")))
        with pytest.raises(RemoteError):
            run(origin, lambda client: client.site.status())
        assert elsewhere.seen() == []


def test_nobody_there_is_said_with_the_reason_and_the_way_out() -> None:
    with Origin() as origin:
        base = origin.base
    with pytest.raises(ServerUnreachableError) as caught:
        run(base, lambda client: client.jobs.submit([JobSpec(("true",))]))
    assert "refused" in caught.value.cause.lower()
    assert "stager serve" in caught.value.remedy


def test_wait_asks_again_after_an_outage_and_takes_the_answer_that_counts() -> None:
    stopping = problem(503, **StateError("the server is stopping").to_dict())
    with Origin() as origin:
        path = "/v1/jobs/j?wait=30.000"
        done = answer(JOB | {"state": "done"})
        origin.serve(path, lambda exchange: exchange.reset(), stopping, answer(JOB), done)
        found = run(origin, lambda client: client.jobs.wait("j"))
        assert found.state is JobState.DONE
        assert len(origin.seen(path)) == 4


def test_a_result_that_breaks_off_is_gone_on_with() -> None:
    def short(exchange: Any) -> None:
        exchange.head(200, {"Content-Length": "10"})
        exchange.body(b"abc")
        exchange.reset()

    def rest(exchange: Any) -> None:
        exchange.head(206, {"Content-Length": "7", "Content-Range": "bytes 3-9/10"})
        exchange.body(b"defghij")

    async def read(client: AsyncClient) -> bytes:
        return b"".join([block async for block in client.results.read("j", "r")])

    with Origin() as origin:
        path = origin.url("/v1/jobs/j/results/r").removeprefix(origin.base)
        origin.serve(path, short, rest)
        assert run(origin, read) == b"abcdefghij"
        assert [one.headers.get("range") for one in origin.seen(path)] == [None, "bytes=3-"]


def test_what_tells_as_it_goes_gives_last_what_it_came_to() -> None:
    step, report = VerifyProgress(1, 2, 3, 0.5, 0, 4.0), VerifyReport("/cache", 1.0, ended_at=2.0, objects=1)
    lines = [
        {"progress": asdict(step)},
        {"result": asdict(report)},
    ]
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)

    async def verify(client: AsyncClient) -> list[object]:
        return [one async for one in client.cache.verify()]

    with Origin() as origin:
        origin.serve("/v1/cache/verify", status(200, {"Content-Length": str(len(body))}, body))
        assert run(origin, verify) == [step, report]


def test_an_error_in_the_middle_of_what_is_told_is_that_error() -> None:
    body = json.dumps({"error": NotFoundError("no such thing").to_dict()}).encode() + b"\n"

    async def verify(client: AsyncClient) -> list[object]:
        return [one async for one in client.cache.verify()]

    with Origin() as origin:
        origin.serve("/v1/cache/verify", status(200, {"Content-Length": str(len(body))}, body))
        with pytest.raises(NotFoundError, match="no such thing"):
            run(origin, verify)


def test_a_caller_who_leaves_ends_the_answer() -> None:
    closed: list[str] = []

    def talk() -> Any:
        try:
            yield Request("GET", "status")
            yield Request("GET", "status")
        finally:
            closed.append("closed")

    async def main(client: AsyncClient) -> None:
        with pytest.raises(RemoteError):
            await client.talk(talk())

    with Origin() as origin:
        origin.serve("/v1/status", status(404, {"Content-Length": "0"}))
        run(origin, main)
    assert closed == ["closed"]


def test_a_client_that_asks_too_often_rests_and_asks_again() -> None:
    error = TooManyRequestsError("too soon", user="ada", retry_after_seconds=0.01)
    with Origin() as origin:
        origin.serve("/v1/jobs/j/cancel", problem(429, **error.to_dict()), answer({"changed": True}))
        assert run(origin, lambda client: client.jobs.cancel("j"))
        assert len(origin.seen()) == 2
