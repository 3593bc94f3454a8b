"""What jobs leave: listed with its life, fetched, gone on with, expired, removed, and said so."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import requests

from stager.cache.store import FileCache
from stager.errors import ConflictError, NotFoundError, ResultGoneError
from stager.model.eviction import Purge
from stager.model.jobs import JobSpec, JobState
from tests.support.commandline import Here
from tests.support.processes import PATIENCE, ServerProcess, environment
from tests.support.until import until

DAY = 86_400.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("server")
    with ServerProcess(root, STAGER_RESULT_DAYS="100", STAGER_RESULT_PROMISE_DAYS="10") as running:
        yield running


@pytest.fixture
def stager(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Here:
    for name, value in environment(server.root).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return Here(capsys)


def job_with(server: ServerProcess, script: str) -> str:
    with server.client() as client:
        (job,) = client.jobs.submit([JobSpec(("/bin/sh", "-c", script), owner="ada")])
        assert client.jobs.wait(job, PATIENCE).state is JobState.DONE
    return job


def test_a_result_says_until_when_it_is_promised_and_when_it_expires(server: ServerProcess) -> None:
    job = job_with(server, "echo fit > results/fit.json")
    with server.client() as client:
        (result,) = client.results.list(job)
        ended = client.jobs.show(job).ended_at
    assert ended is not None
    assert result.kept
    assert result.promised_until == pytest.approx(ended + 10 * DAY, abs=60)
    assert result.expires_at == pytest.approx(ended + 100 * DAY, abs=60)
    assert (result.gone_at, result.gone_because) == (None, "")


def test_a_result_is_read_from_any_byte_on(server: ServerProcess) -> None:
    job = job_with(server, "printf 0123456789 > results/digits")
    token = (server.root / "state" / "token").read_text().strip()
    url = f"{server.url}/v1/jobs/{job}/results/digits"

    def get(**headers: str) -> requests.Response:
        return requests.get(url, headers={"Authorization": f"Bearer {token}", **headers}, timeout=60)

    assert get().headers["Accept-Ranges"] == "bytes"
    part = get(Range="bytes=7-")
    assert (part.status_code, part.content) == (206, b"789")
    assert part.headers["Content-Range"] == "bytes 7-9/10"
    assert part.headers["ETag"] == f'"{sha256(b"0123456789").hexdigest()}"'
    assert get(Range="bytes=2-3").content == b"23"
    assert get(Range="bytes=10-").status_code == 416


def test_an_expired_result_says_when_and_why_it_went(server: ServerProcess, stager: Here) -> None:
    job = job_with(server, "echo one > results/one; echo two > results/two")
    cache = FileCache(server.root / "cache")
    key = f"result:{job}/one"
    with server.client() as client:
        for _ in client.cache.purge(Purge(urls=(key,), force=True)):
            pass
        assert not cache.contains(key)
        gone, kept = client.results.list(job)
        assert (gone.kept, kept.kept) == (False, True)
        assert gone.gone_at is not None
        assert "purged by command" in gone.gone_because
        with (
            pytest.raises(ResultGoneError, match=r"went on 20.*purged by command"),
            closing(client.results.read(job, "one")) as b,
        ):
            b"".join(b)
    listed = stager("results", "ls", job)
    assert listed.lines[0].split("\t")[-1].startswith("gone ")
    assert listed.lines[1].split("\t")[-1] == "kept"
    ended = stager("results", "get", job, "one")
    assert ended.code == 3
    assert "purged by command" in ended.error
    token = (server.root / "state" / "token").read_text().strip()
    answer = requests.get(
        f"{server.url}/v1/jobs/{job}/results/one", headers={"Authorization": f"Bearer {token}"}, timeout=60
    )
    assert (answer.status_code, answer.json()["type"]) == (410, "urn:stager:error:result-gone")


def test_a_result_that_nobody_says_he_removed_is_gone_all_the_same(server: ServerProcess) -> None:
    job = job_with(server, "echo lost > results/lost")
    FileCache(server.root / "cache").remove(f"result:{job}/lost")
    with server.client() as client:
        (result,) = client.results.list(job)
        assert (result.kept, result.gone_at, result.gone_because) == (False, None, "")
        with pytest.raises(ResultGoneError, match="why is not known"):
            b"".join(client.results.read(job, "lost"))


def test_results_are_removed_by_command(server: ServerProcess, stager: Here) -> None:
    job = job_with(server, "echo 1 > results/a; echo 2 > results/b; echo 3 > results/c")
    assert stager("results", "rm", job, "b").lines == ["b"]
    states = [json.loads(line) for line in stager("results", "ls", job, "--json").lines]
    assert [one["kept"] for one in states] == [True, False, True]
    assert "removed by command" in states[1]["gone_because"]
    with pytest.raises(NotFoundError, match="no result"), server.client() as client:
        client.results.remove(job, ["x"])
    with server.client() as client:
        pin = client.cache.pin(f"result:{job}/c", owner="ada", reason="for the paper")
        with pytest.raises(ConflictError, match=r"pinned by user:ada.*for the paper"):
            client.results.remove(job)
        client.cache.unpin(pin.id)
    assert stager("results", "rm", job).lines == ["a", "c"]
    assert stager("results", "rm", job).lines == []


def test_what_breaks_off_is_gone_on_with(server: ServerProcess, stager: Here) -> None:
    size = 3 << 20
    job = job_with(server, f"head -c {size} /dev/urandom > results/big")
    with server.client() as client:
        send = client._session.request
        asked: list[str] = []

        def breaking(method: str, url: str, **more: Any) -> requests.Response:
            answer = send(method, url, **more)
            if url.endswith("/big"):
                asked.append(more["headers"].get("Range", ""))
                if len(asked) < 3:
                    _break(answer)
            return answer

        client._session.request = breaking  # type: ignore[assignment]
        (result,) = client.results.list(job)
        with closing(client.results.read(job, "big")) as blocks:
            data = b"".join(blocks)
    assert sha256(data).hexdigest() == result.sha256
    assert asked[0] == ""
    second, third = (int(header.removeprefix("bytes=").removesuffix("-")) for header in asked[1:])
    assert 0 < second < third < size
    assert stager("results", "get", job, "-o", "big").code == 0
    assert Path("big").stat().st_size == size


def _break(answer: requests.Response) -> None:
    """After its first block."""
    blocks = answer.iter_content

    def broken(*args: Any) -> Iterator[bytes]:
        yield next(blocks(*args))
        raise requests.ConnectionError("broke off")

    answer.iter_content = broken  # type: ignore[assignment]


def test_what_jobs_printed_goes_when_results_do_and_a_job_that_runs_keeps_its_directory(
    tmp_path: Path,
) -> None:
    with ServerProcess(tmp_path, STAGER_RESULT_DAYS="100", STAGER_RECONCILE_SECONDS="0.2") as server:
        over = job_with(server, "echo done")
        with server.client() as client:
            (running,) = client.jobs.submit([JobSpec(("/bin/sh", "-c", "echo begun; sleep 100"))])
            until(lambda: client.jobs.show(running).state is JobState.RUNNING, "it runs")
            jobs = server.root / "cache" / "jobs"
            then = time.time() - 101 * DAY
            for job in (running, over):  # what is not over is met first
                for path in (*(jobs / job).rglob("*"), jobs / job):
                    os.utime(path, (then, then))
            until(lambda: not (jobs / over).exists(), "its directory goes")
            assert (jobs / running / "results").is_dir()
            client.jobs.cancel(running)
            assert client.jobs.wait(running, PATIENCE).state is JobState.CANCELLED
