"""Bytes that the cache has under any key are not fetched again by who names their digest."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Literal

import pytest

from stager.cache.at_hand import at_hand
from stager.cache.importing import Import, by_digest
from stager.cache.store import FileCache
from stager.model.fetches import FetchRequest
from stager.model.jobs import JobInput, JobSpec, JobState
from stager.settings import Settings
from stager.wiring.server import JobServer
from tests.support.origin import Origin, content

DATA = b"measured once"
DIGEST = sha256(DATA).hexdigest()


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    """A cache that has imported a directory of files named by their SHA-256."""
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / DIGEST).write_bytes(DATA)
    cache = FileCache(tmp_path / "c", remember=0)
    assert [one.outcome for one in Import(cache, flat, by_digest)] == ["imported"]
    return cache


@pytest.mark.parametrize("farm", ["threads", "aio", "process"])
def test_an_input_given_by_the_digest_of_an_import_is_met_without_a_transfer(
    cache: FileCache, origin: Origin, tmp_path: Path, farm: Literal["threads", "aio", "process"]
) -> None:
    url = origin.serve("/run.dat", content(b"never asked for"))
    settings = Settings(cache_dir=cache.root, state_dir=tmp_path / "s", farm=farm)
    with JobServer(settings) as server:
        spec = JobSpec(("/bin/sh", "-c", "cat inputs/run.dat"), (JobInput(url, sha256=DIGEST),))
        (job,) = server.jobs.submit([spec])
        view = server.jobs.wait(job, 30.0)
        assert view.state is JobState.DONE, view
        assert server.jobs.log_file(job, "stdout").read_bytes() == DATA
    assert origin.requests == []
    entry = cache.lookup(url)
    assert entry is not None
    assert (entry.object, entry.is_fresh(entry.stored_at + 1)) == (DIGEST, False), (
        "the URL alone asks its origin"
    )
    for path in (cache.root / "objects").rglob(f"{DIGEST}.shared"):
        assert path.exists()
        break
    else:
        pytest.fail("the object is not marked as shared: the first key that goes would take it")


def test_a_file_that_came_since_the_job_was_submitted_is_not_fetched_either(
    cache: FileCache, origin: Origin
) -> None:
    from stager.model.fetches import FetchOrder
    from stager.transfer.fetcher import Fetcher
    from stager.transfer.http import HttpTransport

    url = origin.serve("/run.dat", content(b"never asked for"))
    fetcher = Fetcher(cache, HttpTransport())
    order = FetchOrder("f", 1, FetchRequest(url, sha256=DIGEST))
    fetcher.announce(order)
    result = fetcher.fetch(order)
    fetcher.close()
    assert (result.cached, result.received, result.sha256) == (True, 0, DIGEST)
    assert origin.requests == []


def test_a_key_that_has_another_object_keeps_it_and_other_sizes_and_digests_are_not_at_hand(
    cache: FileCache,
) -> None:
    url = "https://data.example.org/run.dat"
    assert at_hand(cache, FetchRequest(url, sha256=DIGEST, size=1)) is None
    assert at_hand(cache, FetchRequest(url, sha256="0" * 64)) is None
    assert at_hand(cache, FetchRequest(url)) is None
    before = cache.put(url, b"newer")
    named = at_hand(cache, FetchRequest(url, sha256=DIGEST))
    assert named is not None
    assert (named.object, named.size) == (DIGEST, len(DATA))
    assert cache.lookup(url) == before
    assert at_hand(cache, FetchRequest(url, sha256=before.object)) == before


def test_a_restricted_object_is_at_hand_for_nobody_who_knows_its_digest_alone(cache: FileCache) -> None:
    path = cache.object_path(DIGEST)
    restricted = Path(str(path).replace("/objects/", "/restricted/"))
    restricted.parent.mkdir(parents=True)
    path.rename(restricted)
    assert at_hand(cache, FetchRequest("https://data.example.org/run.dat", sha256=DIGEST)) is None
