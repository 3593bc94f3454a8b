"""Processes that are killed at every step of publishing, and processes that publish the same at once."""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from stager.cache.store import FileCache
from stager.steps import STEPS

DATA = bytes(range(256)) * 1000
DIGEST = sha256(DATA).hexdigest()
PUBLISH_STEPS = [step for step in STEPS if step.startswith("publish.")]

CHILD = """
import os, signal, sys
from hashlib import sha256
from stager import steps
from stager.cache.store import FileCache
from stager.model.entries import Entry

root, how, step = sys.argv[1:4]
data = bytes(range(256)) * 1000
digest = sha256(data).hexdigest()
cache = FileCache(root)
steps.observe(lambda reached: os.kill(os.getpid(), signal.SIGKILL) if reached == step else None)
if how == "partial":
    partial = cache.claim_partial("k")
    partial.write_sidecar({"etag": "x"})
    os.pwrite(partial.fd, data[:1000], 0)
    steps.reached("fetch.written")
    os.pwrite(partial.fd, data[1000:], 1000)
    cache.publish(partial, digest, len(data))
elif how in ("bytes", "named"):
    cache.tree.nameless = how == "bytes"
    cache.publish_bytes("k", data, digest)
else:
    with cache.open("k", "wb") as file:
        file.write(data)
        file.flush()
        steps.reached("fetch.written")
cache.record(Entry("k", digest, len(data), 1.0))
print("survived")
"""


def start(root: Path, how: str, step: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, root, how, step],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def files(cache: FileCache, directory: str) -> list[Path]:
    return [p for p in (cache.root / directory).rglob("*") if p.is_file() and not p.is_symlink()]


@pytest.mark.parametrize("how", ["partial", "bytes", "named", "file"])
@pytest.mark.parametrize("step", ["fetch.written", *PUBLISH_STEPS])
def test_after_a_kill_there_is_nothing_or_the_whole_object(tmp_path: Path, how: str, step: str) -> None:
    with start(tmp_path / "c", how, step) as child:
        out, err = child.communicate(timeout=60)
    never = how in {"bytes", "named"} and step == "fetch.written"
    assert (child.returncode, out, err) == ((0, "survived\n", "") if never else (-9, "", ""))

    cache = FileCache(tmp_path / "c")
    objects = [p for p in files(cache, "objects") if p.suffix == ""]
    assert [p.name for p in objects] == ([DIGEST] if step in PUBLISH_STEPS[1:] or never else [])
    assert all(p.read_bytes() == DATA for p in objects)
    entry = cache.lookup("k")
    assert (entry is not None) == (step == "publish.entry" or never)
    assert (cache.get("k") is not None) == (entry is not None)

    partial = cache.claim_partial("k", 2)
    if how == "partial":
        kept = {"fetch.written": 1000, "publish.synced": len(DATA), "publish.linked": len(DATA)}.get(step, 0)
        assert partial.size == kept, "bytes are not fetched twice"
        assert partial.sidecar() == ({"etag": "x"} if kept else None)
    partial.write_sidecar({"etag": "x"})
    partial.truncate(0)  # whatever is done to it, no object changes
    assert all(p.read_bytes() == DATA for p in objects)
    for start_at in range(0, len(DATA), 50_000):
        os.pwrite(partial.fd, DATA[start_at : start_at + 50_000], start_at)
    assert cache.publish(partial, DIGEST, len(DATA)).read_bytes() == DATA
    assert files(cache, "partial") == []
    assert cache.object_path(DIGEST).stat().st_nlink == 1, "nothing else holds the object"


def test_processes_that_publish_the_same_at_once_make_one_object(tmp_path: Path) -> None:
    children = [
        start(tmp_path / "c", how, "none") for how in ("partial", "bytes", "named", "file", "partial")
    ]
    for child in children:
        with child:
            out, err = child.communicate(timeout=60)
        assert (child.returncode, out, err) == (0, "survived\n", "")
    cache = FileCache(tmp_path / "c")
    assert cache.path("k").read_bytes() == DATA
    assert cache.lookup("k") is not None
    assert files(cache, "partial") == []
    assert [p.name for p in files(cache, "objects") if p.suffix == ""] == [DIGEST]
