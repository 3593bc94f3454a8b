"""What killed processes left and nobody can go on with is cleared away, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from stager.cache.owner import here
from stager.cache.store import FileCache

KILLED_WHILE_PUTTING = """
import os, signal, sys
from stager import steps
from stager.cache.store import FileCache
cache = FileCache(sys.argv[1])
cache.tree.nameless = False
steps.observe(lambda step: os.kill(os.getpid(), signal.SIGKILL))
cache.put("key", b"bytes" * 1000)
"""


def temporaries(root: Path) -> list[str]:
    return sorted(path.suffix for path in (root / "partial").rglob("*") if path.is_file())


def test_a_temporary_of_a_killed_put_is_cleared_away(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED_WHILE_PUTTING, str(tmp_path / "c")], check=False)
    cache = FileCache(tmp_path / "c")
    assert temporaries(cache.root) == [".tmp"]
    assert cache.sweep() == 1
    assert temporaries(cache.root) == []


def test_a_sidecar_that_a_killed_fetch_did_not_finish_is_cleared_away(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    cache = FileCache(tmp_path / "c")
    folder = cache.root / "partial" / "ab"
    folder.mkdir(parents=True)
    (folder / f"{'ab' * 32}.1.{here()}-{dead.pid}-1-0.json.new").touch()
    assert cache.sweep() == 1
    assert temporaries(cache.root) == []


def test_what_can_be_resumed_or_belongs_to_the_living_or_to_others_stays(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "c")
    partial = cache.claim_partial("key")
    os.write(partial.fd, b"some")
    partial.keep()
    folder = cache.root / "partial" / "ab"
    folder.mkdir(exist_ok=True)
    (folder / f"{'ab' * 32}.otherhost-00000000-1-1-0.tmp").touch()
    start = Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[19]
    (folder / f"{'ab' * 32}.{here()}-{os.getppid()}-{start}-0.tmp").touch()
    (folder / "README.tmp").touch()
    before = temporaries(cache.root)
    assert cache.sweep() == 0
    assert temporaries(cache.root) == before


def test_a_job_that_is_over_keeps_what_it_printed_and_frees_the_rest(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "c")
    entry = cache.put("key", b"bytes")
    directory = cache.job_dir("job1")
    cache.pin("job1", "a.dat", entry.object, entry.size)
    (directory / "results" / "sub").mkdir()
    (directory / "results" / "sub" / "r").write_text("kept elsewhere")
    (directory / "stdout").write_text("printed")
    cache.release("job1")
    cache.release("job1")
    assert [path.name for path in directory.iterdir()] == ["stdout"]
    assert cache.object_path(entry.object).stat().st_nlink == 1
