"""Nodes that do not see the server's cache: inputs come by HTTP, results go back by HTTP, through kills of both ends."""

from __future__ import annotations

import random
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from stager.cache.store import FileCache
from stager.errors import ConflictError, DigestMismatchError, InputError, NotFoundError
from stager.model.jobs import JobInput, JobSpec, JobState
from stager.model.uploads import Upload, Uploaded
from tests.support.farm import Farm, until
from tests.support.origin import Origin, content

DATA = random.Random(13).randbytes(3 << 20)
DIGEST = sha256(DATA).hexdigest()


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    with Farm(tmp_path, STAGER_DISPATCH="celery", STAGER_FARM="threads") as running:
        yield running


def node(farm: Farm) -> dict[str, Any]:
    """Settings of a node that has nothing of the server's but its URL, its token and Redis."""
    root = farm.root / "node"
    return {
        "STAGER_NODE": "node1",
        "STAGER_STATE_DIR": str(root / "state"),
        "STAGER_CACHE_DIR": str(root / "nothing"),
        "STAGER_NODE_CACHE_DIR": str(root / "near"),
        "STAGER_NODE_SOURCES": "server",
        "STAGER_NODE_SHARE": "false",
        "STAGER_SERVER": farm.server.url,
        "STAGER_TOKEN": (farm.root / "state" / "token").read_text().strip(),
    }


def spec(script: str, *urls: str, results: tuple[str, ...] = ()) -> JobSpec:
    return JobSpec(("/bin/sh", "-c", script), tuple(JobInput(url) for url in urls), results=results)


def upload(job: str, name: str = "results/a", data: bytes = DATA, epoch: int = 1) -> Upload:
    return Upload(job, epoch, name, sha256(data).hexdigest(), len(data))


def test_a_job_runs_with_nothing_but_http(farm: Farm, origin: Origin) -> None:
    url = origin.serve("/a.dat", content(DATA, etag='"a"'))
    farm.start_worker(queue="work", **node(farm))
    script = "pwd; mkdir results/sub; cat inputs/a.dat inputs/a.dat > results/sub/twice; : > results/empty; echo oh >&2"
    with farm.server.client() as client:
        one, two = client.jobs.submit([spec(script, url), spec("echo no; exit 3")])
        done = client.jobs.wait(one, 60)
        assert (done.state, done.error) == (JobState.DONE, None)
        printed = b"".join(client.jobs.log(one, "stdout")).decode().strip()
        assert printed == str(farm.root / "node" / "near" / "jobs" / one)
        assert b"".join(client.jobs.log(one, "stderr")) == b"oh\n"
        names = {result.name: result for result in client.results.list(one)}
        assert set(names) == {"empty", "sub/twice"}
        assert b"".join(client.results.read(one, "sub/twice")) == DATA * 2
        assert names["sub/twice"].kept
        failed = client.jobs.wait(two, 60)
        assert (failed.state, failed.exit_code) == (JobState.FAILED, 3)
        assert b"".join(client.jobs.log(two, "stdout")) == b"no\n"
    assert not (farm.root / "node" / "nothing").exists()
    jobs = farm.root / "node" / "near" / "jobs"
    until(lambda: not list(jobs.iterdir()), "nothing of the jobs is left on the node")
    near = FileCache(farm.root / "node" / "near")
    assert near.has_object(DIGEST), "the input stays for the next job"


def test_a_node_and_a_server_may_be_killed_while_results_come_back(farm: Farm, origin: Origin) -> None:
    """The node ends its job while the server is dead, and is killed itself; the next ones bring the results home."""
    url = origin.serve("/a.dat", content(DATA, etag='"a"'))
    settings = node(farm)
    port = farm.server.url.rpartition(":")[2]
    worker = farm.start_worker(queue="work", **settings)
    go, began, over = farm.root / "go", farm.root / "began", farm.root / "over"
    script = f"echo $$ >> {began}; until [ -e {go} ]; do sleep 0.05; done; cp inputs/a.dat results/b; echo > {over}"
    with farm.server.client() as client:
        (one,) = client.jobs.submit([spec(script, url)])
        until(began.exists, "it runs")
    farm.server.kill()
    go.touch()
    until(over.exists, "it ended")
    worker.kill()
    farm.server = type(farm.server)(farm.root, "--port", port, **farm.settings)
    farm.start_worker(queue="work", **settings)
    with farm.server.client() as client:
        assert client.jobs.wait(one, 60).state is JobState.DONE
        assert b"".join(client.results.read(one, "b")) == DATA
    assert len(began.read_text().split()) == 1, "it ran once"


def test_an_upload_is_gone_on_with_by_the_next_server_and_is_there_whole_or_not_at_all(farm: Farm) -> None:
    hold = farm.root / "hold"
    farm.start_worker(queue="work")
    with farm.server.client() as client:
        (one,) = client.jobs.submit([spec(f"until [ -e {hold} ]; do sleep 0.05; done")])
        until(lambda: client.jobs.show(one).started_at, "it runs")
        epoch = 1
        file = upload(one, epoch=epoch)
        assert client.runs.look(file) == Uploaded(0, complete=False)
        assert client.runs.append(file, 0, [DATA[:1000], DATA[1000 : 2 << 20]]) == Uploaded(
            2 << 20, complete=False
        )
    farm.server.kill()
    farm.start_server()
    with farm.server.client() as client:
        assert client.runs.look(file) == Uploaded(2 << 20, complete=False)
        assert client.results.list(one) == []
        with pytest.raises(ConflictError, match="goes on at byte 2097152"):
            client.runs.append(file, 5, [DATA[5:]])
        assert client.runs.append(file, 2 << 20, [DATA[2 << 20 :]]) == Uploaded(len(DATA), complete=True)
        assert client.runs.append(file, 0, [DATA]) == Uploaded(len(DATA), complete=True), (
            "once more is no harm"
        )
        key = f"result:{one}/a"
        assert FileCache(farm.root / "cache").path(key).read_bytes() == DATA
        wrong = Upload(one, epoch, "results/wrong", "0" * 64, 3)
        with pytest.raises(DigestMismatchError):
            client.runs.append(wrong, 0, [b"abc"])
        assert client.runs.look(wrong) == Uploaded(0, complete=False), "from the beginning"
        with pytest.raises(InputError, match="longer than 3"):
            client.runs.append(wrong, 0, [b"abcd"])
        assert client.runs.append(upload(one, "stdout", b"hello", epoch), 0, [b"hello"]).complete
        assert b"".join(client.jobs.log(one, "stdout")) == b"hello"
        for name in ("results/../x", "other", "results/", "results//a"):
            with pytest.raises(InputError):
                upload(one, name)
        with pytest.raises(ConflictError, match="not the one that counts"):
            client.runs.look(upload(one, epoch=epoch + 1))
        with pytest.raises(NotFoundError):
            client.runs.look(upload("nothing"))
        assert client.runs.holder(one, epoch) is not None
        assert client.runs.claim(one, epoch, "somebody-else") != "somebody-else"
        hold.touch()
        client.jobs.wait(one, 60)
        with pytest.raises(ConflictError, match="it is over"):
            client.runs.append(upload(one, "stderr", b"x", epoch), 0, [b"x"])
