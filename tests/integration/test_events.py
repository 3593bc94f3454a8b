"""Events as programs follow them: filtered, resumed, and never missed."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import requests

from stager import AsyncClient
from stager.client import Client
from stager.client.events import Stream
from stager.errors import InputError, NotFoundError
from stager.model.chronicle import Event
from stager.server import following, routes_events
from tests.support.api import PATIENCE, TOKEN, Api, running_api
from tests.support.jobserver import shell, url
from tests.support.processes import ServerProcess
from tests.support.until import until


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(tmp_path_factory.mktemp("api")) as running:
        yield running


def run(client: Client, script: str = "true", **more: Any) -> str:
    (job,) = client.jobs.submit([shell(script, **more)])
    client.jobs.wait(job, PATIENCE)
    return job


def all_of(client: Client, job: str, after: int = 0) -> list[Event]:
    """Events about a job that is over."""
    found = []
    with closing(client.events.follow(jobs=[job], after=after)) as told:
        for event in told:
            found.append(event)
            if event.kind in {"job.done", "job.failed", "job.cancelled"}:
                return found
    raise AssertionError("without an end")


def test_all_that_happens_to_a_job_is_told_in_order_and_nothing_of_others(api: Api) -> None:
    api.server.origin.content[url("one.dat")] = b"12345"
    with api.client() as client:
        run(client)
        (job,) = client.jobs.submit([shell("true", "one.dat", after=("one",), owner="ada")])
        client.preconditions.meet("other")
        client.preconditions.meet("one")
        client.jobs.wait(job, PATIENCE)
        found = all_of(client, job)
    told = [event.kind for event in found]
    assert [kind for kind in told if kind.startswith("job")] == [
        f"job.{state}" for state in ("submitted", "ready", "dispatched", "running", "done")
    ]
    assert sorted(kind for kind in told if not kind.startswith("job")) == ["fetch.ready", "precondition.met"]
    assert [event.id for event in found] == sorted({event.id for event in found})
    ready = next(event for event in found if event.kind == "fetch.ready")
    assert (ready.user, ready.details["url"], ready.details["size"]) == ("ada", url("one.dat"), 5)
    assert next(event for event in found if event.kind == "precondition.met").details == {"name": "one"}
    assert found[-1].details == {"exit_code": 0}


def test_a_job_that_fails_is_told_with_the_reason(api: Api) -> None:
    with api.client() as client:
        last = all_of(client, run(client, "exit 3"))[-1]
    assert (last.kind, last.details["exit_code"]) == ("job.failed", 3)
    assert last.details["error"]["code"] == "command-failed"


def test_users_and_kinds_are_chosen(api: Api) -> None:
    with api.client() as client:
        after = api.server.events.newest()
        ours = [run(client, owner="eve"), run(client, owner="bob"), run(client, owner="eve")]
        with closing(client.events.follow(users=["eve"], kinds=["job.done"], after=after)) as told:
            assert [event.job for event in islice(told, 2)] == [ours[0], ours[2]]


def test_who_follows_from_now_on_is_told_what_happens_then(api: Api) -> None:
    began = threading.Event()
    found: list[Event] = []

    def follow() -> None:
        with api.client() as client, closing(client.events.follow(kinds=["precondition"])) as told:
            began.set()
            found.append(next(told))

    thread = threading.Thread(target=follow)
    thread.start()
    assert began.wait(PATIENCE)
    until(lambda: api.app.state.following._wakes, "he follows")
    api.server.jobs.meet("now")
    thread.join(PATIENCE)
    assert [event.details["name"] for event in found] == ["now"]


def test_the_asynchronous_client_follows_too(api: Api) -> None:
    with api.client() as client:
        job = run(client)

    async def main() -> list[str]:
        async with AsyncClient(api.url, TOKEN) as client:
            kinds = []
            async for event in client.events.follow(jobs=[job], after=0):
                kinds.append(event.kind)
                if event.kind == "job.done":
                    break
            return kinds

    assert asyncio.run(main())[0] == "job.submitted"


def test_what_is_no_job_no_kind_or_no_number_is_refused(api: Api) -> None:
    with api.client() as client:
        with pytest.raises(NotFoundError):
            next(client.events.follow(jobs=["nobody"]))
        with pytest.raises(InputError, match="no events of kind"):
            next(client.events.follow(kinds=["jobs"]))
    assert "no number" in api.problem("GET", "/v1/events", 422, headers={"Last-Event-ID": "x"})["what"]


def raw(api: Api, **more: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {TOKEN}", **more.pop("headers", {})}
    return requests.get(api.url + "/v1/events", headers=headers, stream=True, timeout=PATIENCE, **more)


def first(answer: requests.Response) -> dict[str, str]:
    lines = []
    for line in answer.iter_lines(chunk_size=1):
        if not line:
            break
        lines.append(line.decode().partition(": ")[::2])
    return dict(lines)


def test_one_who_begins_is_told_from_where_on(api: Api) -> None:
    with raw(api) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        hello = first(answer)
    assert (hello["event"], hello["id"]) == ("hello", str(api.server.events.newest()))


@pytest.mark.parametrize("number", ["1", "900000000"])
def test_a_number_that_is_too_old_or_not_ours_is_answered_with_reset(
    api: Api, number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with api.client() as client:
        run(client)
        newest = api.server.events.newest()
        read = api.server.store.chronicle.read
        monkeypatch.setattr(
            api.server.events, "read", lambda after, limit: read(max(after, newest - 2), limit)
        )
        monkeypatch.setattr(api.server.events, "oldest", lambda: newest - 1)
        with raw(api, headers={"Last-Event-ID": number}) as answer:
            reset = first(answer)
        assert reset["event"] == "reset"
        assert int(reset["id"]) >= newest
        with closing(client.events.follow(after=int(number))) as told:
            event = next(told)
        assert (event.kind, event.details["oldest"]) == ("reset", newest - 1)


def test_silence_is_filled_and_says_up_to_where_everything_was_told(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes_events, "HEARTBEAT_SECONDS", 0.01)
    with api.client() as client:
        run(client)
        newest = api.server.events.newest()
    with raw(api, params={"kind": "cache.evicted", "after": newest - 1}) as answer:
        lines = answer.iter_lines(chunk_size=1)
        assert next(lines) == b": still here"
        assert int(next(lines).decode().removeprefix("id: ")) >= newest


def test_one_who_takes_nothing_is_cut_off_and_nobody_else_waits_for_him(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes_events, "STUCK_SECONDS", 0.2)
    monkeypatch.setattr(routes_events, "HEARTBEAT_SECONDS", 0.001)
    monkeypatch.setattr(routes_events, "heartbeat", lambda _: b":" + b" " * 200_000 + b"\n\n")
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as stuck:
        request = f"GET /v1/events HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        stuck.sendall(request.encode())
        until(lambda: api.app.state.following._wakes, "he follows")
        with api.client() as client:
            run(client)
        until(lambda: not api.app.state.following._wakes, "he is cut off", PATIENCE)


def test_those_far_behind_read_what_is_kept_and_then_go_on_with_what_is_new(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "AT_ONCE", 3)
    with api.client() as client:
        for _ in range(4):
            run(client)
        newest = api.server.events.newest()
        with closing(client.events.follow(after=0)) as told:
            assert [next(told).id for _ in range(newest)] == list(range(1, newest + 1))
            run(client)
            assert [next(told).id for _ in range(3)] == [newest + 1, newest + 2, newest + 3]


def test_events_come_whole_however_they_are_cut() -> None:
    data = following.hello_frame(6) + b"".join(
        following.frame_of(Event("job.done", "ada", f"j{n}", details={"exit_code": n}, id=n, at=1.5))
        for n in (7, 8)
    )
    data += following.heartbeat(11) + following.reset_frame(20, 15)
    for size in (1, 3, 1000):
        stream = Stream("http://h")
        blocks = [data[start : start + size] for start in range(0, len(data), size)]
        found = [event for block in blocks for event in stream.take(block)]
        assert [(event.id, event.kind, event.job) for event in found] == [
            (7, "job.done", "j7"),
            (8, "job.done", "j8"),
            (20, "reset", ""),
        ]
        assert stream.number == 20


def test_one_who_follows_misses_nothing_when_the_server_is_killed_again_and_again(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    submitted: list[str] = []
    told: list[str] = []
    numbers: list[int] = []

    def follow(base: str, token: str) -> None:
        with Client(base, token) as mine, closing(mine.events.follow(after=0)) as events:
            for event in events:
                numbers.append(event.id)
                if event.kind == "job.submitted":
                    told.append(event.job)
                if event.details.get("name") == "end":
                    break

    thread: threading.Thread | None = None
    for kill in range(4):
        with ServerProcess(tmp_path, "--port", port) as server, server.client() as client:
            if thread is None:
                token = (tmp_path / "state" / "token").read_text().strip()
                thread = threading.Thread(target=follow, args=(server.url, token))
                thread.start()
            submitted += client.jobs.submit([shell("true", after=("never",)) for _ in range(3)])
            if kill < 3:
                server.kill()
                continue
            client.preconditions.meet("end")
            thread.join(60)
            assert not thread.is_alive()
            server.end()
    assert told == submitted
    assert numbers == list(range(1, len(numbers) + 1))
