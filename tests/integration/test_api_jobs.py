"""The API's calls, as a program makes them."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import pytest

from stager.model.jobs import JobState
from stager.model.views import ResultView
from tests.support.api import PATIENCE, TOKEN, Api, running_api
from tests.support.jobserver import shell, url

Callback = Callable[[], None]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(tmp_path_factory.mktemp("api")) as running:
        yield running


def done(api: Api, job: str) -> dict[str, object]:
    found: dict[str, object] = api("GET", f"/v1/jobs/{job}?wait=20").json()
    assert found["state"] in {"done", "failed", "cancelled"}, found
    return found


def submit(api: Api, script: str, **more: object) -> str:
    answer = api("POST", "/v1/jobs", json={"command": ["/bin/sh", "-c", script], **more})
    assert answer.status_code == 201, answer.text
    (job,) = answer.json()["ids"]
    return str(job)


def test_a_submitted_job_runs_and_its_location_tells_all_of_it(api: Api) -> None:
    api.server.origin.content[url("a.dat")] = b"data\n"
    answer = api(
        "POST",
        "/v1/jobs",
        json={"command": ["cat", "inputs/a"], "inputs": [{"url": url("a.dat"), "name": "a"}]},
    )
    assert answer.status_code == 201
    (job,) = answer.json()["ids"]
    assert answer.headers["Location"] == f"/v1/jobs/{job}"
    assert done(api, job)["state"] == "done"
    detail = api("GET", answer.headers["Location"]).json()
    assert detail["inputs"][0]["name"] == "a"
    assert detail["inputs"][0]["sha256"] == hashlib.sha256(b"data\n").hexdigest()
    assert api("GET", f"/v1/jobs/{job}/logs/stdout").text == "data\n"


def test_an_input_may_be_written_as_a_url_alone(api: Api) -> None:
    api.server.origin.content[url("plain.dat")] = b"x"
    assert done(api, submit(api, "cat inputs/plain.dat", inputs=[url("plain.dat")]))["state"] == "done"


def test_a_list_of_jobs_is_taken_in_whole_and_its_ids_come_in_order(api: Api) -> None:
    jobs = [{"command": ["true"], "name": f"list-{n}"} for n in range(3)]
    ids = api("POST", "/v1/jobs", json=jobs).json()["ids"]
    assert [api("GET", f"/v1/jobs/{job}").json()["name"] for job in ids] == ["list-0", "list-1", "list-2"]


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"command": ["true"], "inputs": ["gopher://h/x"]}, "jobs[1]: unknown scheme"),
        ({"comand": ["true"]}, "unknown key 'comand' in jobs[1]; did you mean 'command'?"),
        ({"command": "true"}, "jobs[1].command is text: a list is needed"),
    ],
)
def test_one_wrong_job_of_a_list_refuses_all_and_is_named(api: Api, second: object, words: str) -> None:
    before = api("GET", "/v1/status").json()["jobs"]
    found = api.problem("POST", "/v1/jobs", 422, json=[{"command": ["true"]}, second])
    assert words in found["detail"]
    assert sum(api("GET", "/v1/status").json()["jobs"].values()) == sum(before.values())


def test_a_body_that_is_not_json_is_refused_in_one_sentence(api: Api) -> None:
    found = api.problem(
        "POST", "/v1/jobs", 422, data=b"{command", headers={"Content-Type": "application/json"}
    )
    assert found["what"] == "the body is not JSON"


def test_no_body_at_all_is_refused_in_one_sentence(api: Api) -> None:
    assert "needed" in api.problem("POST", "/v1/jobs", 422)["detail"]


def test_a_refusal_does_not_repeat_a_secret(api: Api) -> None:
    job = {"command": ["true"], "inputs": ["https://user:hunter2@h/x"]}
    assert "hunter2" not in api("POST", "/v1/jobs", json=job).text
    job = {"command": ["true"], "environment": {"PASSWORD": ["hunter2"]}}  # type: ignore[dict-item]
    assert "hunter2" not in api("POST", "/v1/jobs", json=job).text


def test_jobs_are_listed_newest_first_in_pages_that_leave_none_out(tmp_path: Path) -> None:
    with running_api(tmp_path) as api:
        ids = api.server.jobs.submit([shell("true", after=("never",)) for _ in range(5)])
        assert api.client().jobs.list(limit=0) == []
        first = api("GET", "/v1/jobs?limit=3").json()
        rest = api("GET", f"/v1/jobs?limit=3&before={first['next']}").json()
        assert [job["id"] for job in first["jobs"] + rest["jobs"]] == list(reversed(ids))
        assert rest["next"] is None
        api.server.jobs.cancel(ids[2])
        cancelled = api("GET", "/v1/jobs?state=cancelled&state=failed").json()["jobs"]
        assert [job["id"] for job in cancelled] == [ids[2]]


def test_an_unknown_state_is_refused_and_the_states_are_named(api: Api) -> None:
    found = api.problem("GET", "/v1/jobs?state=finished", 422)
    assert found["what"] == "state[0] makes no sense"
    assert "'waiting'" in found["cause"]


def test_a_long_poll_is_answered_the_moment_the_job_is_over(api: Api) -> None:
    job = submit(api, "true", after=["signal-1"])
    answered = threading.Event()
    states: list[object] = []

    def poll() -> None:
        states.append(done(api, job)["state"])
        answered.set()

    thread = threading.Thread(target=poll)
    thread.start()
    assert api("PUT", "/v1/preconditions/signal-1").json() == {"name": "signal-1", "changed": True}
    assert answered.wait(PATIENCE / 2)  # the poll itself would have lasted longer
    thread.join()
    assert states == ["done"]


def test_a_long_poll_ends_with_the_job_as_it_is_when_its_time_is_up(api: Api) -> None:
    job = submit(api, "true", after=["never-met"])
    found = api("GET", f"/v1/jobs/{job}?wait=0.05").json()
    assert found["state"] == "waiting"
    assert found["waits_for"] == ["never-met"]


def test_hundreds_wait_without_a_thread_each(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    job = submit(api, "true", after=["crowd"])
    here = threading.Semaphore(0)
    watch = api.server.jobs.watch

    def counted(job: str, callback: Callback) -> Callback:
        here.release()
        return watch(job, callback)

    monkeypatch.setattr(api.server.jobs, "watch", counted)
    port = int(api.url.rpartition(":")[2])
    waiting = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    for one in waiting:
        one.settimeout(PATIENCE)
        head = f"GET /v1/jobs/{job}?wait=50 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        one.sendall(f"{head}Connection: close\r\n\r\n".encode())
    for _ in waiting:
        assert here.acquire(timeout=PATIENCE)
    assert threading.active_count() < 80  # the pool of the server has 40, whoever waits
    assert api("GET", "/healthz", token=None).json() == {"status": "ok"}
    api("PUT", "/v1/preconditions/crowd")
    for one in waiting:
        with one, one.makefile("rb") as answer:
            assert b'"state":"done"' in answer.read()
    assert not api.server.jobs._watch._callbacks


def test_a_job_is_cancelled_once(api: Api) -> None:
    job = submit(api, "true", after=["never-met"])
    assert api("POST", f"/v1/jobs/{job}/cancel").json() == {"changed": True}
    assert api("POST", f"/v1/jobs/{job}/cancel").json() == {"changed": False}


def test_cancelling_what_is_over_is_a_conflict(api: Api) -> None:
    job = submit(api, "true")
    done(api, job)
    assert api.problem("POST", f"/v1/jobs/{job}/cancel", 409)["code"] == "conflict"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/jobs/nobody"),
        ("GET", "/v1/jobs/nobody?wait=5"),
        ("POST", "/v1/jobs/nobody/cancel"),
        ("GET", "/v1/jobs/nobody/logs/stdout"),
        ("GET", "/v1/jobs/nobody/results"),
        ("GET", "/v1/jobs/nobody/results/x"),
    ],
)
def test_an_unknown_job_is_not_found_anywhere(api: Api, method: str, path: str) -> None:
    assert api.problem(method, path, 404)["what"] == "no job 'nobody'"


def test_what_a_job_printed_can_be_read_from_any_byte(api: Api) -> None:
    job = submit(api, "printf 0123456789; echo no >&2; exit 4")
    assert done(api, job)["exit_code"] == 4
    assert api("GET", f"/v1/jobs/{job}/logs/stdout?offset=7").text == "789"
    assert api("GET", f"/v1/jobs/{job}/logs/stdout?offset=99").text == ""
    assert api("GET", f"/v1/jobs/{job}/logs/stderr").text == "no\n"
    assert "stdout" in api.problem("GET", f"/v1/jobs/{job}/logs/stdlog", 422)["detail"]


def test_the_log_of_a_job_that_has_not_started_is_empty(api: Api) -> None:
    job = submit(api, "true", after=["never-met"])
    assert api("GET", f"/v1/jobs/{job}/logs/stdout").text == ""


def test_results_are_listed_and_read_with_their_digest(api: Api) -> None:
    data = b"\0" * 700_000 + b"end"
    job = submit(
        api, "mkdir results/sub; head -c 700000 /dev/zero > results/sub/a; printf end >> results/sub/a"
    )
    done(api, job)
    digest = hashlib.sha256(data)
    (listed,) = api("GET", f"/v1/jobs/{job}/results").json()["results"]
    expected = {"name": "sub/a", "sha256": digest.hexdigest(), "size": len(data), "kept": True}
    assert expected.items() <= listed.items()
    answer = api("GET", f"/v1/jobs/{job}/results/sub/a")
    assert answer.content == data
    assert answer.headers["Content-Length"] == str(len(data))
    assert answer.headers["ETag"] == f'"{digest.hexdigest()}"'
    assert answer.headers["Repr-Digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="a"'
    again = api("GET", f"/v1/jobs/{job}/results/sub/a", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "sub/a" in api.problem("GET", f"/v1/jobs/{job}/results/b", 404)["remedy"]


def test_a_reader_who_leaves_a_large_result_leaves_no_file_open(api: Api) -> None:
    job = submit(api, "head -c 30000000 /dev/zero > results/large")
    done(api, job)
    closed = threading.Event()
    opened = api.server.jobs.open_result

    def open_result(job: str, name: str, owner: str | None = None) -> tuple[ResultView, BinaryIO]:
        view, file = opened(job, name, owner)
        close = file.close

        def noted() -> None:
            close()
            closed.set()

        file.close = noted  # type: ignore[method-assign]
        return view, file

    api.server.jobs.open_result = open_result  # type: ignore[method-assign, assignment]
    try:
        with api.client() as client, closing(client.results.read(job, "large")) as blocks:
            next(blocks)
    finally:
        del api.server.jobs.open_result
    assert closed.wait(PATIENCE)


def test_preconditions_are_met_once_and_listed(api: Api) -> None:
    assert api("PUT", "/v1/preconditions/beam:on").json()["changed"]
    assert not api("PUT", "/v1/preconditions/beam:on").json()["changed"]
    found = {p["name"]: p["met_at"] for p in api("GET", "/v1/preconditions").json()["preconditions"]}
    assert found["beam:on"] > 0
    assert "spaces" in api.problem("PUT", "/v1/preconditions/a%20b", 422)["detail"]


def test_the_status_counts_jobs_by_state(tmp_path: Path) -> None:
    with running_api(tmp_path) as api:
        api.server.jobs.submit([shell("true", after=("never",))] * 2)
        found = api("GET", "/v1/status").json()
        assert found["jobs"] == {state.value: 2 * (state is JobState.WAITING) for state in JobState}
        assert found["uptime_seconds"] >= 0


def test_what_does_not_exist_and_what_is_not_possible_are_problems_too(api: Api) -> None:
    assert api.problem("GET", "/v1/nothing", 404)["what"] == "there is nothing at /v1/nothing"
    assert api.problem("DELETE", "/v1/status", 405)["cause"] == "only GET"


def test_a_fault_of_ours_shows_nothing_of_itself_and_is_logged(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fault() -> None:
        raise RuntimeError("a detail of the inside")

    monkeypatch.setattr(api.server.jobs, "counts", fault)
    assert "inside" not in str(api.problem("GET", "/v1/status", 500))
    assert "a detail of the inside" in caplog.text


def test_the_end_of_the_server_answers_those_who_wait(tmp_path: Path) -> None:
    here = threading.Event()
    answers: list[int] = []
    with running_api(tmp_path) as api:
        (job,) = api.server.jobs.submit([shell("true", after=("never",))])
        watch = api.server.jobs.watch

        def noted(job: str, callback: Callback) -> Callback:
            here.set()
            return watch(job, callback)

        api.server.jobs.watch = noted  # type: ignore[method-assign]
        thread = threading.Thread(
            target=lambda: answers.append(api("GET", f"/v1/jobs/{job}?wait=50").status_code)
        )
        thread.start()
        assert here.wait(PATIENCE)
    thread.join(PATIENCE)
    assert answers == [200]


def test_a_job_that_failed_or_was_cancelled_is_retried_as_a_new_one(api: Api) -> None:
    failed = submit(api, "exit 3", name="twice", environment={"A": "b"}, priority=3)
    assert done(api, failed)["state"] == "failed"
    answer = api("POST", f"/v1/jobs/{failed}/retry")
    assert answer.status_code == 201
    (again,) = answer.json()["ids"]
    assert again != failed
    assert answer.headers["Location"] == f"/v1/jobs/{again}"
    old, new = done(api, failed), done(api, again)
    for key in ("name", "command", "environment", "priority", "state", "exit_code"):
        assert new[key] == old[key]
    waiting = submit(api, "true", after=["notyet"])
    assert "cancel it first" in api.problem("POST", f"/v1/jobs/{waiting}/retry", 409)["remedy"]
    api("POST", f"/v1/jobs/{waiting}/cancel")
    assert api("POST", f"/v1/jobs/{waiting}/retry").status_code == 201
    good = submit(api, "true")
    done(api, good)
    assert api.problem("POST", f"/v1/jobs/{good}/retry", 409)["cause"]
    api.problem("POST", "/v1/jobs/nobody/retry", 404)


def test_a_precondition_that_holds_no_more_holds_jobs_back(api: Api) -> None:
    assert api("PUT", "/v1/preconditions/shift").json() == {"name": "shift", "changed": True}
    assert api("DELETE", "/v1/preconditions/shift").json() == {"name": "shift", "changed": True}
    assert api("DELETE", "/v1/preconditions/shift").json() == {"name": "shift", "changed": False}
    job = submit(api, "true", after=["shift"])
    assert api("GET", f"/v1/jobs/{job}").json()["state"] == "waiting"
    api("PUT", "/v1/preconditions/shift")
    assert done(api, job)["state"] == "done"


def test_jobs_are_listed_by_name_owner_and_since_when(api: Api) -> None:
    first = submit(api, "true", name="sought", owner="kim")
    second = submit(api, "true", name="sought", owner="lou")
    other = submit(api, "true", name="other", owner="kim")
    began = api("GET", f"/v1/jobs/{second}").json()["submitted_at"]
    with api.client() as client:
        jobs = client.jobs
        assert [job.id for job in jobs.list(name="sought")] == [second, first]
        assert [job.id for job in jobs.list(owner="kim")] == [other, first]
        assert [job.id for job in jobs.list(name="sought", owner="kim", states=list(JobState))] == [first]
        assert [job.id for job in jobs.list(since=began, limit=2)] == [other, second]
        assert first not in [job.id for job in jobs.list(since=began, limit=1000)]
        assert jobs.list(since=began + 1e9) == []
