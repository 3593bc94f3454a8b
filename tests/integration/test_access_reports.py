"""A program with a mount for reading uses files; the server, which may write, hears of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from stager.cache.store import FileCache
from stager.client import Client
from tests.support.mounts import mounted
from tests.support.processes import ServerProcess
from tests.support.until import until

READER = """
import stager, sys
assert stager.urlcache.get(sys.argv[1])
"""


def test_a_short_program_on_a_mount_for_reading_is_heard_of(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "server") as server:
        root = tmp_path / "server" / "cache"
        cache = FileCache(root)
        cache.put("key", b"data")
        (entry,) = (root / "entries").rglob("*.json")
        os.utime(entry, (1e9, 1e9))
        token = (tmp_path / "server" / "state" / "token").read_text().strip()
        with mounted(tmp_path / "ro", source=root) as path, Client(server.url, token) as client:
            list(client.cache.rebuild())
            variables = {
                "STAGER_CACHE_DIR": str(path),
                "STAGER_STATE_DIR": str(tmp_path / "elsewhere"),
                "STAGER_SERVER": server.url,
                "STAGER_TOKEN": token,
            }
            began = time.time()
            done = subprocess.run(
                [sys.executable, "-W", "error", "-c", READER, "key"],
                env=os.environ | variables,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert (done.returncode, done.stderr) == (0, "")
            assert entry.stat().st_mtime >= began - 1
            until(lambda: client.cache.show("key").file.hits >= 1, "the catalogue has it")
            assert client.cache.show("key").file.last_access >= began - 1


def test_a_server_that_is_away_costs_a_program_nothing_but_a_moment(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "cache")
    cache.put("key", b"data")
    (entry,) = (cache.root / "entries").rglob("*.json")
    os.utime(entry, (1e9, 1e9))
    with mounted(tmp_path / "ro", source=cache.root) as path:
        variables = {
            "STAGER_CACHE_DIR": str(path),
            "STAGER_STATE_DIR": str(tmp_path / "elsewhere"),
            "STAGER_SERVER": "http://127.0.0.1:9",
            "STAGER_TOKEN": "t",
        }
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", READER, "key"],
            env=os.environ | variables,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
