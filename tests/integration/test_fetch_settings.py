"""From Python, as on the command line, the site's settings hold."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from stager import FetchService, FileCache
from stager.errors import TooManyInputsError, UnprovenLengthError
from stager.model.jobs import JobInput, JobSpec
from stager.settings import current_settings
from tests.support.origin import Exchange, Origin, content, redirect, until_close
from tests.support.processes import PATIENCE, ServerProcess


@pytest.mark.parametrize("policy", ["refuse", "accept"])
def test_a_fetch_service_of_its_own_obeys_the_settings(
    policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGER_UNPROVEN", policy)
    current_settings.cache_clear()
    try:
        with Origin() as origin, FetchService(FileCache(tmp_path / "cache")) as service:
            handle = service.prefetch(origin.serve("/a", until_close(b"no length, no digest")))
            if policy == "refuse":
                with pytest.raises(UnprovenLengthError):
                    handle.result(PATIENCE)
            else:
                assert handle.result(PATIENCE).unproven
    finally:
        current_settings.cache_clear()


@pytest.mark.parametrize("farm", ["threads", "process", "aio"])
def test_the_limits_and_the_reach_of_the_settings_hold_wherever_a_server_fetches(
    farm: str, tmp_path: Path
) -> None:
    def wide(exchange: Exchange) -> None:
        content(b"x" * 1000, headers={"X-Wide": "y" * 3000})(exchange)

    def slow(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Length": "900"})
        while True:
            exchange.body(b"x")
            threading.Event().wait(0.1)

    limits = {
        "STAGER_FARM": farm,
        "STAGER_MAX_FILE_BYTES": "1000",
        "STAGER_MAX_HEAD_BYTES": "2000",
        "STAGER_MAX_FETCH_SECONDS": "0.5",
    }
    with Origin() as origin, ServerProcess(tmp_path, **limits) as server, server.client() as client:
        asked = {
            origin.serve("/fits", content(b"x" * 1000)): None,
            origin.serve("/large", content(b"x" * 1001)): "file-too-large",
            origin.serve("/wide", wide): "head-too-large",
            origin.serve("/slow", slow): "fetch-too-long",
            origin.serve("/keys", redirect("http://169.254.169.254/latest/")): "address-refused",
        }
        for url, code in asked.items():
            (job,) = client.jobs.submit([JobSpec(("true",), (JobInput(url),))])
            ended = client.jobs.wait(job, PATIENCE)
            found = None if ended.error is None else ended.error["details"]["code"]
            assert found == code, url
        assert len(origin.seen()) == len(asked)  # none of it is tried again
        server.end()


def test_the_limits_of_a_job_are_settings_and_too_many_inputs_change_nothing(tmp_path: Path) -> None:
    limits = {"STAGER_MAX_JOB_INPUTS": "3", "STAGER_MAX_JOB_BYTES": "2000"}
    with Origin() as origin, ServerProcess(tmp_path, **limits) as server, server.client() as client:
        inputs = tuple(JobInput(origin.serve(f"/{n}", content(b"x" * 900))) for n in range(4))
        with pytest.raises(TooManyInputsError, match="a job with 4 inputs: at most 3"):
            client.jobs.submit([JobSpec(("true",), inputs[:1]), JobSpec(("true",), inputs)])
        assert client.jobs.list() == []
        assert origin.seen() == []
        large, fits = client.jobs.submit([JobSpec(("true",), inputs[:3]), JobSpec(("true",), inputs[:2])])
        ended = client.jobs.wait(large, PATIENCE)
        assert ended.error is not None
        assert ended.error["code"] == "job-too-large"
        assert ended.error["details"] == {"size": 2700, "limit": 2000}
        assert ended.started_at is None
        assert client.jobs.wait(fits, PATIENCE).error is None
        (again,) = client.jobs.submit([JobSpec(("true",), inputs[:3])])  # all of it is in the cache
        ended = client.jobs.wait(again, PATIENCE)
        assert ended.error is not None
        assert ended.error["code"] == "job-too-large"
        server.end()
