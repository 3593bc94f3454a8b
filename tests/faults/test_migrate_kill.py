"""Migrations that are killed at every step, and readers in other processes that never miss."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest

from stager.cache.layout import Layout
from stager.cache.migrate import Migration
from stager.cache.store import FileCache
from stager.steps import MAINTENANCE_STEPS
from tests.support.until import until

STEPS = [step for step in MAINTENANCE_STEPS if step.startswith("migrate.")]
TEXTS = {f"https://h/{number}": f"bytes of {number}".encode() * 9 for number in range(30)}

MIGRATE = """
import os, signal, sys
from stager import steps
from stager.cache.migrate import Migration

root, step, count = sys.argv[1], sys.argv[2], int(sys.argv[3])

def observer(reached):
    global count
    count -= reached == step
    if count == 0:
        os.kill(os.getpid(), signal.SIGKILL)

steps.observe(observer)
for _ in Migration(root, "4+4", grace_seconds=0).run(lambda _: None):
    pass
"""

READ = """
import sys
from stager.cache.store import FileCache
root, keys = sys.argv[1], sys.argv[2:]
warm, cold = FileCache(root), FileCache(root, remember=0)
rounds = 0
sys.stdout.write("ready\\n"); sys.stdout.flush()
while True:
    for key in keys:
        for cache in (warm, cold):
            with cache.open(key) as file:
                if not file.read().startswith(b"bytes of " + key.rpartition("/")[2].encode()):
                    sys.exit(f"{key} is wrong")
            if cache.lookup(key) is None:
                sys.exit(f"{key} was missed")
    rounds += 1
    sys.stdout.write(f"{rounds}\\n"); sys.stdout.flush()
"""


def filled(root: Path) -> FileCache:
    cache = FileCache(root, remember=0)
    for key, text in TEXTS.items():
        cache.put(key, text)
        cache.get(key)
    return cache


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("step", STEPS)
def test_a_migration_killed_at_any_step_goes_on_and_loses_nothing(
    tmp_path: Path, step: str, count: int
) -> None:
    before = filled(tmp_path / "c")
    entry = before.lookup("https://h/3")
    assert entry is not None
    job = before.pin("job", "input", entry.object, entry.size)
    code = [sys.executable, "-c", MIGRATE, str(before.root), step, str(count)]
    killed = subprocess.run(code, check=False, capture_output=True, text=True, timeout=60)
    once = step in {"migrate.switched", "migrate.emptied"}
    assert killed.returncode == (0 if once and count > 1 else -signal.SIGKILL), killed.stderr
    for cache in (before, FileCache(before.root)):
        assert {key: cache.path(key).read_bytes() for key in TEXTS} == TEXTS
        assert len(cache) == len(TEXTS)
    for _ in Migration(before.root, grace_seconds=0).run(lambda _: None):
        pass
    after = FileCache(before.root)
    layout = Layout("4+4")
    objects = {str(p.relative_to(after.root)): p for p in (after.root / "objects").rglob("*") if p.is_file()}
    assert {name: p.read_bytes() for name, p in objects.items()} == {
        layout.object(sha256(text).hexdigest()): text for text in TEXTS.values()
    }
    assert {p.stat().st_nlink for name, p in objects.items() if p.name != entry.object} == {1}
    assert job.samefile(after.path("https://h/3"))
    assert {str(p.relative_to(after.root)) for p in (after.root / "entries").rglob("*.json")} == {
        layout.entry(sha256(key.encode()).hexdigest()) for key in TEXTS
    }
    assert sorted(p.name for p in after.root.iterdir() if p.name.startswith(".")) == []
    assert {key: after.path(key).read_bytes() for key in TEXTS} == TEXTS


def test_readers_in_another_process_never_miss_while_the_cache_is_moved_to_and_fro(tmp_path: Path) -> None:
    cache = filled(tmp_path / "c")
    out = tmp_path / "out"
    with out.open("w") as file:
        reader = subprocess.Popen(
            [sys.executable, "-c", READ, str(cache.root), *TEXTS], stdout=file, stderr=subprocess.PIPE, text=True
        )  # fmt: skip
    try:
        until(out.read_text, "the reader reads")
        for shards in ("4+4", "flat", "2+2"):
            seen = out.read_text().count("\n")
            # A path stays good for the grace; here nobody keeps one for longer than it takes to open it.
            for _ in Migration(cache.root, shards, grace_seconds=1.2).run(time.sleep):
                assert reader.poll() is None, reader.communicate()[1]
            until(lambda: out.read_text().count("\n") > seen + 1, "it goes on reading")  # noqa: B023  # called at once
        assert reader.poll() is None, reader.communicate()[1]
    finally:
        reader.kill()
        reader.communicate()
