"""Verification with repair, killed at every step; run again, nothing is lost and nothing is left over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from stager.cache.store import FileCache
from stager.model.verify import VerifyRequest
from stager.settings import Settings
from stager.steps import MAINTENANCE_STEPS
from stager.wiring.cache import build_cache_site
from tests.integration.test_verify import damage, files, orphans

CHILD = """
import os, signal, sys
from pathlib import Path
import stager.cache.orphans as orphans
from stager import steps
from stager.model.verify import VerifyRequest
from stager.settings import Settings
from stager.wiring.cache import build_cache_site

root, step, left = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
before = orphans.file_system_time
orphans.file_system_time = lambda tree: before(tree) + 7200.0  # all that was made just now is old

def observer(reached):
    global left
    left -= reached == step
    if reached == step and left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

steps.observe(observer)
site = build_cache_site(Settings(cache_dir=root / "cache", state_dir=root / "state"))
for _ in site.verification.verify(VerifyRequest(repair=True, threads=2)):
    pass
site.close()
"""


def run(root: Path, step: str = "none", count: int = 1) -> int:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, root, step, str(count)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.returncode


CASES = [
    ("verify.quarantined", 1, True),
    ("verify.quarantined", 2, False),
    ("verify.quarantined", 4, True),
    ("verify.forgotten", 1, False),
    ("verify.forgotten", 2, True),
    ("verify.cleared", 1, True),
    ("verify.cleared", 4, False),
]
"""Step, the how-manieth time, and whether the catalogue knows the cache."""


def test_every_step_of_verification_is_among_them() -> None:
    assert {case[0] for case in CASES} == {step for step in MAINTENANCE_STEPS if step.startswith("verify.")}


@pytest.mark.parametrize(("step", "count", "known"), CASES)
def test_a_verification_killed_anywhere_is_made_up_for(
    step: str, count: int, known: bool, tmp_path: Path
) -> None:
    settings = Settings(cache_dir=tmp_path / "cache", state_dir=tmp_path / "state")
    settings.state_dir.mkdir()
    cache = FileCache(settings.cache_dir)
    for number in range(20):
        cache.put(f"key{number}", b"%d" % number * 100)
    cache.put("the same as key3", b"3" * 100)
    entry = cache.put("held", b"held" * 100)
    held = cache.pin("job", "input", entry.object, entry.size)
    damaged = [damage(cache.path(key)) for key in ("key3", "key7", "key11", "held")]
    there = orphans(cache)
    if known:
        site = build_cache_site(settings)
        list(site.files.rebuild())
        site.close()
    before = held.read_bytes()
    assert run(tmp_path, step, count) == -signal.SIGKILL, f"{step} was not reached {count} times"
    assert held.read_bytes() == before
    assert run(tmp_path) == 0

    again = FileCache(settings.cache_dir)
    assert held.read_bytes() == before
    assert sorted(again) == sorted(f"key{n}" for n in range(20) if n not in {3, 7, 11})
    for key in again:
        assert again.path(key).read_bytes() == key.removeprefix("key").encode() * 100
    assert not any(path.exists() for name, path in there.items() if name != "trash")
    objects = {path.name for path in (cache.root / "objects").rglob("*") if path.is_file()}
    assert objects == {sha256(b"%d" % n * 100).hexdigest() for n in range(20) if n not in {3, 7, 11}}
    entries = list((cache.root / "entries").rglob("*.json*"))
    assert len(entries) == 17
    kept = {path.name.removeprefix("damaged-") for path in (cache.root / "trash").rglob("damaged-*")}
    assert kept == {path.name for path in damaged}
    assert [name for name in files(cache.root) if name.startswith("partial")] == []
    site = build_cache_site(settings)
    try:
        for _ in site.verification.verify(VerifyRequest()):
            pass
        report = site.verification.last_verification()
        assert report is not None
        assert (report.sound, report.found) == (17, 0)
        assert sorted(found.key for found in site.files.ls(limit=None).files) == (
            sorted(again) if known else []
        )
    finally:
        site.close()
