"""A server whose fetches run on Celery workers: real processes, a real Redis, a scripted origin."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stager.model.jobs import JobInput, JobSpec, JobState
from stager.signals import keys
from tests.support.farm import Farm, until
from tests.support.origin import OVERLAP, Answer, Counted, Exchange, Origin, content, status
from tests.support.processes import ServerProcess

LARGE = os.urandom(1 << 20) * 6
SECRET = "canary-of-a-signature"


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


def job(*urls: str, script: str = "sha256sum inputs/*") -> JobSpec:
    return JobSpec(("/bin/sh", "-c", script), tuple(JobInput(url) for url in urls))


def slow(data: bytes, seconds: float = 0.05) -> Answer:
    return content(data, etag='"1"', pause=seconds)


def test_a_job_is_staged_by_a_worker_and_nothing_is_left_over(tmp_path: Path, origin: Origin) -> None:
    signed = origin.serve("/a.dat", content(b"a" * 1000, etag='"a"')) + ""
    large = origin.serve("/large.dat", content(LARGE, etag='"l"'))
    with Farm(tmp_path) as farm, farm.server.client() as client:
        farm.start_worker()
        (one,) = client.jobs.submit([job(signed, large)])
        (two,) = client.jobs.submit([job(large)])
        assert client.jobs.wait(one, 30).state is JobState.DONE
        assert client.jobs.wait(two, 30).state is JobState.DONE
        assert len(origin.seen("/large.dat")) == 1
        with farm.redis.client() as redis:
            until(lambda: not redis.exists(keys.FETCHES), "orders are dropped")
            until(lambda: redis.xlen(keys.SIGNALS) == 0, "what is recorded is cut off")
            assert not redis.keys(keys.LEASE + "*")
    assert not [p for p in (tmp_path / "cache" / "partial").rglob("*") if p.is_file()]


def test_no_url_with_a_signature_and_no_password_is_in_what_celery_and_its_log_see(
    tmp_path: Path, origin: Origin
) -> None:
    origin.serve(f"/a.dat?X-Amz-Signature={SECRET}", content(b"a", etag='"a"'))
    with Farm(tmp_path, STAGER_LOG_LEVEL="debug") as farm, farm.server.client() as client:
        (one,) = client.jobs.submit([job(origin.url(f"/a.dat?X-Amz-Signature={SECRET}"))])
        with farm.redis.client() as redis:
            until(lambda: redis.llen("fetch"), "the task is in the queue")
            (message,) = redis.lrange("fetch", 0, -1)
            assert SECRET not in message.decode()
            assert "a.dat" in json.loads(message)["headers"]["argsrepr"]
        worker = farm.start_worker()
        client.jobs.wait(one, 30)
        assert client.jobs.show(one).state is JobState.DONE
        arguments = Path(f"/proc/{worker.process.pid}/cmdline").read_text()
    said = (tmp_path / "workers.log").read_text() + "\n".join(farm.server.said) + arguments
    assert SECRET not in said
    assert "canary-of-the-broker" not in said


def test_a_fetch_of_a_worker_that_was_killed_goes_on_where_it_ended(tmp_path: Path, origin: Origin) -> None:
    url = origin.serve("/large.dat", slow(LARGE))
    with Farm(tmp_path) as farm, farm.server.client() as client:
        first = farm.start_worker()
        (one,) = client.jobs.submit([job(url)])
        until(lambda: client.jobs.show(one).inputs[0].received > 2 << 20, "some of it is there")
        first.kill()
        farm.start_worker()
        assert client.jobs.wait(one, 60).state is JobState.DONE, client.jobs.show(one)
        _before, after = origin.seen("/large.dat")
        resumed = int(after.headers["range"].removeprefix("bytes=").removesuffix("-"))
        assert resumed > (2 << 20) - OVERLAP
        assert client.site.status()["repairs"] == {"fetch-of-silent-worker": 1}
        assert client.jobs.show(one).inputs[0].resumed_from == resumed + OVERLAP


def test_a_worker_that_is_told_to_end_gives_its_transfer_back_at_once(tmp_path: Path, origin: Origin) -> None:
    url = origin.serve("/large.dat", slow(LARGE))
    with Farm(tmp_path, STAGER_LEASE_SECONDS="600") as farm, farm.server.client() as client:
        first = farm.start_worker()
        farm.start_worker()
        (one,) = client.jobs.submit([job(url)])
        until(lambda: client.jobs.show(one).inputs[0].received > 1 << 20, "some of it is there")
        with farm.redis.client() as redis:
            (lease,) = redis.mget(redis.keys(keys.LEASE + "*"))
        holder = first if b"fetch1@" in lease else farm.workers[1]
        assert holder.end() == 0
        assert client.jobs.wait(one, 30).state is JobState.DONE, client.jobs.show(one)
        _before, after = origin.seen("/large.dat")
        assert after.headers["range"].startswith("bytes=")


def test_point_62_all_workers_together_keep_to_the_limit_of_an_origin(tmp_path: Path, origin: Origin) -> None:
    answer = Counted(slow(LARGE[: 1 << 20]))
    urls = [origin.serve(f"/{number}.dat", answer) for number in range(8)]
    with Farm(tmp_path, STAGER_ORIGIN_CONNECTIONS="2") as farm, farm.server.client() as client:
        farm.start_worker()
        farm.start_worker()
        (one,) = client.jobs.submit([job(*urls)])
        assert client.jobs.wait(one, 60).state is JobState.DONE, client.jobs.show(one)
    assert answer.most == 2


def test_point_62_what_an_origin_tells_one_worker_holds_for_all(tmp_path: Path, origin: Origin) -> None:
    asked: list[float] = []

    def noted(exchange: Exchange) -> None:
        asked.append(time.monotonic())
        first = len(asked) == 1
        (status(503, {"Retry-After": "3"}) if first else content(b"x", etag='"x"'))(exchange)

    urls = [origin.serve(f"/{number}.dat", noted) for number in range(6)]
    with Farm(tmp_path, STAGER_ORIGIN_CONNECTIONS="1") as farm, farm.server.client() as client:
        farm.start_worker()
        farm.start_worker()
        (one,) = client.jobs.submit([job(*urls)])
        assert client.jobs.wait(one, 60).state is JobState.DONE, client.jobs.show(one)
    assert len(asked) == 7
    assert asked[1] - asked[0] > 2.5


def test_cancelling_the_job_ends_the_transfer_within_seconds(tmp_path: Path, origin: Origin) -> None:
    url = origin.serve("/large.dat", slow(LARGE, 2.0))
    with Farm(tmp_path) as farm, farm.server.client() as client:
        farm.start_worker()
        (one,) = client.jobs.submit([job(url)])
        until(lambda: client.jobs.show(one).inputs[0].received > 0, "it is under way")
        client.jobs.cancel(one)
        with farm.redis.client() as redis:
            until(lambda: not redis.keys(keys.LEASE + "*"), "the worker let it go", 5.0)
            until(lambda: not redis.exists(keys.FETCHES), "its order is gone", 15.0)


def test_a_failure_keeps_its_words_across_the_farm(tmp_path: Path, origin: Origin) -> None:
    url = origin.serve("/gone.dat", status(404))
    with Farm(tmp_path) as farm, farm.server.client() as client:
        farm.start_worker()
        (one,) = client.jobs.submit([job(url)])
        done = client.jobs.wait(one, 30)
        assert done.state is JobState.FAILED
        assert done.error is not None
        assert "404" in done.error["cause"]
        assert url in done.error["what"]


def test_redis_that_comes_back_empty_costs_neither_a_job_nor_a_byte_twice(
    tmp_path: Path, origin: Origin
) -> None:
    url = origin.serve("/large.dat", slow(LARGE))
    small = origin.serve("/small.dat", content(b"s", etag='"s"'))
    with Farm(tmp_path) as farm, farm.server.client() as client:
        farm.start_worker()
        (one,) = client.jobs.submit([job(url)])
        until(lambda: client.jobs.show(one).inputs[0].received > 1 << 20, "some of it is there")
        farm.redis.kill(empty=True)
        (two,) = client.jobs.submit([job(small)])  # taken in while there is no Redis
        farm.redis.start()
        assert client.jobs.wait(one, 60).state is JobState.DONE, client.jobs.show(one)
        assert client.jobs.wait(two, 60).state is JobState.DONE, client.jobs.show(two)
        assert origin.sent("/large.dat") == len(LARGE)
        assert any("has come back empty" in line for line in farm.server.said)


def test_a_server_that_was_killed_hears_what_workers_told_meanwhile(tmp_path: Path, origin: Origin) -> None:
    url = origin.serve("/large.dat", slow(LARGE, 0.02))
    with Farm(tmp_path) as farm:
        farm.start_worker()
        with farm.server.client() as client:
            (one,) = client.jobs.submit([job(url)])
            until(lambda: client.jobs.show(one).inputs[0].received > 0, "it is under way")
        farm.server.kill()
        until(lambda: origin.sent("/large.dat") == len(LARGE), "the worker goes on without a server")
        farm.start_server()
        with farm.server.client() as client:
            assert client.jobs.wait(one, 30).state is JobState.DONE
        assert len(origin.seen("/large.dat")) == 1


def test_a_task_that_is_delivered_twice_does_no_harm(tmp_path: Path, origin: Origin) -> None:
    url = origin.serve("/large.dat", slow(LARGE))
    with Farm(tmp_path) as farm, farm.server.client() as client:
        (one,) = client.jobs.submit([job(url)])
        with farm.redis.client() as redis:
            until(lambda: redis.llen("fetch"), "the task is in the queue")
            (message,) = redis.lrange("fetch", 0, -1)
            redis.lpush("fetch", message, message)
            farm.start_worker()
            farm.start_worker()
            until(lambda: client.jobs.show(one).inputs[0].received > 1 << 20, "it is under way")
            redis.lpush("fetch", message)
        assert client.jobs.wait(one, 30).state is JobState.DONE
        assert len(origin.seen("/large.dat")) == 1
        assert "raised unexpected" not in farm.log()


def test_a_second_server_on_the_same_redis_is_refused(tmp_path: Path) -> None:
    with Farm(tmp_path / "one") as farm:
        settings = farm.settings | {"STAGER_STATE_DIR": str(tmp_path / "two")}
        with pytest.raises(AssertionError, match="another server uses Redis"):
            ServerProcess(tmp_path / "two", **{k: v for k, v in settings.items() if k != "STAGER_CACHE_DIR"})


def test_server_and_worker_say_in_one_line_that_redis_is_away_and_come_up_when_it_is_there(
    tmp_path: Path, origin: Origin
) -> None:
    url = origin.serve("/a.dat", content(b"a", etag='"a"'))
    with Farm(tmp_path) as farm:
        farm.server.end(signal.SIGTERM)
        farm.redis.kill()
        farm.start_server()
        farm.start_worker(wait=False)
        with farm.server.client() as client:
            (one,) = client.jobs.submit([job(url)])
            until(lambda: any("can't be used" in line for line in farm.server.said), "the server says so")
            farm.redis.start()
            assert client.jobs.wait(one, 60).state is JobState.DONE
        assert not [line for line in farm.server.said if "Traceback" in line]
        assert "Traceback" not in farm.log()
