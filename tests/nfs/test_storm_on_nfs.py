"""All that may happen to a cache, at once and on two hosts: jobs of both keep their inputs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from stager.cache.store import FileCache
from tests.support import storm
from tests.support.guests import Guest
from tests.support.pair import Pair

pytestmark = pytest.mark.timeout(400)

SECONDS = 20.0
FIRST = ("put", "jobs", "evict", "verify", "read")
SECOND = ("put", "jobs", "migrate", "rebuild", "pin", "read")


def test_jobs_of_two_hosts_keep_their_inputs_whatever_either_does_to_the_cache(
    pair: Pair, tmp_path: Path
) -> None:
    def play(guest: Guest, role: str, seed: int) -> Any:
        name = f"{guest.name}-{role}"
        return guest.call(
            "tests.support.storm:run", pair.root, role, SECONDS, seed, f"/run/{name}", name, timeout=300.0
        )

    FileCache(pair.truth)
    parts = [(pair.first, role) for role in FIRST] + [(pair.second, role) for role in SECOND]
    with ThreadPoolExecutor(len(parts)) as pool:
        told = [one.result() for one in [pool.submit(play, *part, seed) for seed, part in enumerate(parts)]]
    assert [one for one in told if one["wrong"]] == []
    done = {kind for one in told for kind, count in one["counts"].items() if count}
    assert set().union(*storm.USUAL.values()) <= done
    storm.settle(pair.truth, tmp_path)
    assert storm.leftovers(str(pair.truth)) == []
