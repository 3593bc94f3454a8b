"""All that may happen to a cache happens at once, in processes of their own: jobs keep their inputs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from stager.cache.store import FileCache
from tests.support import storm

SECONDS = 8.0
ALL = ("put", "read", "jobs", "jobs", "evict", "migrate", "verify", "rebuild", "pin")


def let_loose(root: Path, state: Path, roles: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """Play the roles at once; what each of them tells."""
    FileCache(root)
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.storm", root, role, str(SECONDS), str(seed + number),
             state / f"{role}{number}", f"{role}{number}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number, role in enumerate(roles)
    ]  # fmt: skip
    told = [process.communicate(timeout=100)[0] for process in running]
    assert [process.returncode for process in running] == [0] * len(roles)
    return [json.loads(text) for text in told]


@pytest.mark.parametrize("seed", [1, 2])
def test_jobs_keep_their_inputs_whatever_is_done_to_the_cache_meanwhile(tmp_path: Path, seed: int) -> None:
    root = tmp_path / "cache"
    told = let_loose(root, tmp_path / "state", ALL, seed * 100)
    assert [one for one in told if one["wrong"]] == []
    done = {kind for one in told for kind, count in one["counts"].items() if count}
    assert set().union(*storm.USUAL.values()) <= done
    storm.settle(root, tmp_path / "settled")
    assert storm.leftovers(str(root)) == []
