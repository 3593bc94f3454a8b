"""Kill -9 at every step of a fetch, then the same fetch again in another process."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from stager.cache.store import FileCache
from stager.model.fetches import FetchOrder, FetchRequest, FetchResult
from stager.steps import STEPS
from stager.transfer.buffers import BLOCK_BYTES
from stager.transfer.fetcher import Fetcher
from stager.transfer.http import HttpTransport
from stager.transfer.options import TransferOptions
from tests.support import fetch_process
from tests.support.origin import OVERLAP, Answer, Origin, content
from tests.support.reach import LOOPBACK

DATA = Random(4).randbytes(3 * BLOCK_BYTES + 500_000)
STEPS_OF_A_FETCH = [step for step in STEPS if step.startswith(("fetch.", "publish."))]
STEPS_OF_A_FETCH.remove("fetch.signalled")  # whoever ordered the fetch does that


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


def fetch_here(root: Path, url: str, segments: int = 6) -> FetchResult:
    """The next try, in this process."""
    options = TransferOptions(segments=segments)
    with closing(Fetcher(FileCache(root), HttpTransport(reach=LOOPBACK), options=options)) as fetcher:
        return fetcher.fetch(FetchOrder("f", 2, FetchRequest(url)))


def visible(root: Path) -> list[bytes]:
    """What a reader of the shared tree can see."""
    return [path.read_bytes() for path in (root / "objects").rglob("*") if len(path.name) == 64]


def check_killed_at(step: str, data: bytes, origin: Origin, root: Path) -> None:
    url = origin.serve("/run.nxs", content(data, etag='"1"'))
    assert fetch_process.run(root, url, step, "1").returncode == -signal.SIGKILL
    assert set(visible(root)) <= {data}
    if step != "publish.entry":
        assert FileCache(root).lookup(url) is None
    again = fetch_here(root, url)
    assert again.path.read_bytes() == data
    assert again.sha256 == sha256(data).hexdigest()
    assert again.cached is (step == "publish.entry")
    assert visible(root) == [data]
    assert [path for path in (root / "partial").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("step", STEPS_OF_A_FETCH)
def test_a_fetch_killed_at_any_step_is_whole_after_the_next_try(
    origin: Origin, tmp_path: Path, step: str
) -> None:
    check_killed_at(step, DATA, origin, tmp_path)


@pytest.mark.parametrize("step", [step for step in STEPS_OF_A_FETCH if step != "fetch.sidecar"])
def test_a_small_fetch_killed_at_any_step_is_whole_after_the_next_try(
    origin: Origin, tmp_path: Path, step: str
) -> None:
    check_killed_at(step, DATA[:50_000], origin, tmp_path)


@pytest.mark.parametrize("blocks", ["1", "3"])
def test_bytes_that_a_killed_fetch_had_written_are_not_fetched_again(
    origin: Origin, tmp_path: Path, blocks: str
) -> None:
    """By one stream, however slow this machine is."""
    url = origin.serve("/run.nxs", content(DATA, etag='"1"'))
    fetch_process.run(tmp_path, url, "fetch.written", blocks, segments=1)
    again = fetch_here(tmp_path, url, segments=1)
    assert again.resumed_from > 0
    assert again.received == len(DATA) - again.resumed_from + OVERLAP == origin.seen()[1].sent
    assert again.path.read_bytes() == DATA


def test_a_fetch_killed_again_and_again_gets_further_each_time(origin: Origin, tmp_path: Path) -> None:
    url = origin.serve("/run.nxs", content(DATA, etag='"1"'))
    while (last := fetch_process.run(tmp_path, url, "fetch.written", "1", segments=1)).returncode:
        assert len(origin.seen()) < 10
    starts = [int(seen.headers.get("range", "bytes=0-")[6:-1]) for seen in origin.seen()]
    assert starts == sorted(set(starts))
    assert sha256(DATA).hexdigest() == fetch_process.result(last)["sha256"]


def held_back() -> Answer:
    """No stream gets to its end: all goes on until it is killed, and much is left, however slow this machine is."""
    return content(DATA, etag='"1"', pause=0.05, until=lambda: False)


@pytest.mark.parametrize("count", ["1", "2"])
def test_what_several_streams_had_brought_is_not_fetched_again_after_a_kill(
    origin: Origin, tmp_path: Path, count: str
) -> None:
    url = origin.serve("/run.nxs", held_back())
    assert fetch_process.run(tmp_path, url, "fetch.saved", count).returncode == -signal.SIGKILL
    (sidecar,) = (tmp_path / "partial").rglob("*.json")
    assert json.loads(sidecar.read_bytes())["beyond"]
    origin.serve("/run.nxs", content(DATA, etag='"1"'))
    again = fetch_here(tmp_path, url)
    assert again.path.read_bytes() == DATA
    assert again.resumed_from > 0
    assert again.received < len(DATA) - again.resumed_from + OVERLAP
    assert visible(tmp_path) == [DATA]


@pytest.mark.parametrize("count", ["1", "3"])
def test_what_several_streams_put_after_a_gap_is_not_taken_for_all_before_it_after_a_kill(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: str
) -> None:
    monkeypatch.setenv("SAVE_SECONDS", "1000")  # only what is said before there are gaps counts
    url = origin.serve("/run.nxs", held_back())
    assert fetch_process.run(tmp_path, url, "fetch.ahead", count).returncode == -signal.SIGKILL
    (partial,) = (tmp_path / "partial").rglob("*.part")
    assert partial.read_bytes() != DATA[: partial.stat().st_size], "there is no gap"
    origin.serve("/run.nxs", content(DATA, etag='"1"'))
    assert fetch_here(tmp_path, url).path.read_bytes() == DATA


def test_a_url_that_changes_between_kill_and_restart_is_never_a_mix(origin: Origin, tmp_path: Path) -> None:
    new = Random(5).randbytes(len(DATA))
    url = origin.serve("/run.nxs", content(DATA, etag='"1"'), content(new, etag='"2"'))
    fetch_process.run(tmp_path, url, "fetch.written", "2")
    again = fetch_here(tmp_path, url)
    assert again.path.read_bytes() == new
    assert again.resumed_from == 0
