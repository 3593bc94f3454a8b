"""A request id follows a job through the server, its workers and the dispatch: one grep finds all of it.

Through a farm of real workers: `tests/campaign/test_farm_operated.py`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from stager.server.tracking import HEADER
from tests.support.api import Api, running_api
from tests.support.farm import until
from tests.support.origin import Origin, content
from tests.support.processes import PATIENCE, ServerProcess

ID = "beamtime-4711.run-7"


def submit(url: str, token: str, job: dict[str, Any], **headers: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(
            url + "/v1/jobs",
            json=job,
            headers={"Authorization": f"Bearer {token}", **headers},
            timeout=PATIENCE,
        )
    assert answer.status_code == 201, answer.text
    return answer


def token_of(root: Path) -> str:
    return (root / "state" / "token").read_text().strip()


def grep(lines: list[str], word: str) -> list[dict[str, Any]]:
    """The lines of a log that have the word, read."""
    return [json.loads(line) for line in lines if word in line and line.startswith("{")]


def actions(found: list[dict[str, Any]]) -> set[str]:
    assert all(line["request_id"] == ID for line in found), found
    return {line["action"] for line in found if "action" in line}


def test_the_id_of_a_job_that_waits_is_known_to_the_server_after_the_next_start(tmp_path: Path) -> None:
    with Origin() as origin, ServerProcess(tmp_path) as server:
        origin.serve("/late.dat", content(b"data"))
        job = {"command": ["true"], "inputs": [origin.url("/late.dat")], "after": ["go"]}
        submit(server.url, token_of(tmp_path), job, **{HEADER: ID})
        until(lambda: "fetch.ready" in actions(grep(server.said, ID)), "its input is there")
        server.kill()
        with ServerProcess(tmp_path) as again, again.client() as client:
            client.preconditions.meet("go")
            until(
                lambda: {"job.dispatched", "job.done"} <= actions(grep(again.said, ID)),
                "it is dispatched and done",
            )
            again.end()


def test_a_fetch_that_fails_is_said_with_its_reason_and_no_secret(tmp_path: Path) -> None:
    with Origin() as origin, ServerProcess(tmp_path) as server, server.client() as client:
        url = origin.url("/absent.dat?token=hunter2-hunter2")
        (one,) = submit(
            server.url, token_of(tmp_path), {"command": ["true"], "inputs": [url]}, **{HEADER: ID}
        ).json()["ids"]
        client.jobs.wait(one, PATIENCE)
        until(lambda: "job.failed" in actions(grep(server.said, ID)), "it is said")
        (line,) = [line for line in grep(server.said, ID) if line.get("action") == "fetch.failed"]
        assert line["level"] == "warning"
        assert line["error"] == "origin-refused"
        assert "absent.dat" in line["url"]
        server.end()
        assert "hunter2" not in "\n".join(server.said)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with running_api(tmp_path) as running:
        yield running


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({HEADER: "a-1"}, "a-1"),
        ({"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}, "ab" * 16),
        ({HEADER: "a-1", "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}, "a-1"),
    ],
)
def test_an_id_that_the_caller_has_is_taken_over(api: Api, headers: dict[str, str], expected: str) -> None:
    assert api("GET", "/healthz", headers=headers).headers[HEADER] == expected


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "ä", "a\tb", "<script>"])
def test_one_that_is_not_sane_is_replaced_by_a_new_one(api: Api, given: str) -> None:
    answer = api("GET", "/healthz", headers={HEADER: given.encode("latin-1")})
    assert len(answer.headers[HEADER]) == 32
    assert answer.headers[HEADER] != api("GET", "/healthz").headers[HEADER]


@pytest.mark.parametrize("path", ["/v1/jobs/none", "/nowhere"])
def test_a_problem_names_the_request(api: Api, path: str) -> None:
    problem = api.problem("GET", path, 404, headers={HEADER: "p-1"})
    assert problem["request_id"] == "p-1"
    assert api.problem("GET", "/v1/jobs", 401, token=None)["request_id"]


def test_what_changes_something_is_a_line_and_what_looks_is_not(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "stager.server.tracking"):
        api("GET", "/v1/jobs")
        api("PUT", "/v1/preconditions/a%0Ab")
        api("PUT", "/v1/preconditions/calibrated")
    told = [record for record in caplog.records if record.name == "stager.server.tracking"]
    assert [record.__dict__["status"] for record in told] == [422, 200]
    assert all("\n" not in record.getMessage() for record in told)
