"""Files that went through a server leave nothing in its memory but what is bounded."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import pytest

from benchmarks.growth import growing_server, put_through
from stager.model.urls import parse_url
from stager.service import flow

KEYS = 1500
"""Per quarter."""
MOST_BYTES = 120
"""Per key, what may be left of it: less than its URL in any dictionary takes."""


@pytest.mark.timeout(300)
def test_what_a_file_leaves_behind_in_memory_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "REMEMBERED", 16)  # bounded, but more than go through here
    with growing_server(tmp_path) as server:
        put_through(server, 0, KEYS, 10)
        tracemalloc.start()
        try:
            sizes = []
            for quarter in range(1, 4):
                put_through(server, quarter * KEYS, KEYS, 10)
                parse_url.cache_clear()  # bounded; it holds more than go through here
                server.cache._seen.__init__(2)  # type: ignore[misc]  # so are these
                server.cache.access._settled.__init__(2)  # type: ignore[misc]
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    assert sizes[2] - sizes[0] < MOST_BYTES * 2 * KEYS, sizes
