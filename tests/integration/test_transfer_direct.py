"""Bodies written past the page cache, through a whole fetch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from stager.cache.store import FileCache
from stager.errors import IncompleteError
from stager.model.fetches import FetchOrder, FetchRequest
from stager.transfer import writer
from stager.transfer.fetcher import Fetcher
from stager.transfer.http import HttpTransport
from tests.support.origin import Origin, chunked, content
from tests.support.reach import LOOPBACK

DATA = Random(11).randbytes(5_000_001)


@pytest.fixture
def fetcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fetcher]:
    monkeypatch.setattr(writer, "DIRECT_BYTES", 1)
    with closing(Fetcher(FileCache(tmp_path / "cache"), HttpTransport(reach=LOOPBACK))) as fetcher:
        yield fetcher


@pytest.mark.parametrize("cut", [2 << 20, 3_000_001], ids=["on a page", "within a page"])
def test_a_file_that_was_interrupted_is_whole(fetcher: Fetcher, cut: int) -> None:
    with Origin() as origin:
        url = origin.serve("/run.nxs", content(DATA, etag='"1"', cut=cut), content(DATA, etag='"1"'))
        with pytest.raises(IncompleteError):
            fetcher.fetch(FetchOrder("f", 1, FetchRequest(url)))
        result = fetcher.fetch(FetchOrder("f", 2, FetchRequest(url)))
        assert result.path.read_bytes() == DATA
        assert result.resumed_from == cut


def test_a_file_in_chunks_is_whole(fetcher: Fetcher) -> None:
    with Origin() as origin:
        url = origin.serve("/run.nxs", chunked(DATA, size=9999))
        assert fetcher.fetch(FetchOrder("f", 1, FetchRequest(url))).path.read_bytes() == DATA
