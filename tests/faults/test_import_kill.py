"""Imports that are killed at every step: run again, everything is there once, and nothing is left over."""

from __future__ import annotations

import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from stager.cache.store import FileCache

FILES = {
    "small.dat": b"small",
    "same.dat": b"small",
    "large.dat": bytes(range(256)) * 10_000,
    "last.dat": b"last",
}
STEPS = ["import.published", "publish.entry", "import.recorded"]
CASES = [("copy", step) for step in ("publish.synced", "publish.linked", *STEPS)] + [
    ("link", step) for step in STEPS
]

IMPORT = """
import os, signal, sys
from stager import steps
from stager.cache.importing import Import, by_path
from stager.cache.store import FileCache

root, source, link, step, count = sys.argv[1], sys.argv[2], sys.argv[3] == "link", sys.argv[4], int(sys.argv[5])

def observer(reached):
    global count
    count -= reached == step
    if count == 0:
        os.kill(os.getpid(), signal.SIGKILL)

steps.observe(observer)
for adopted in Import(FileCache(root), source, by_path, link=link, threads=1):
    print(adopted.outcome)
"""


def run(
    cache: Path, source: Path, how: str, step: str = "none", count: int = 1
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", IMPORT, str(cache), str(source), how, step, str(count)],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("how", "step"), CASES)
def test_an_import_killed_at_any_step_goes_on_and_leaves_nothing_over(
    tmp_path: Path, step: str, count: int, how: str
) -> None:
    source, root = tmp_path / "site", tmp_path / "cache"
    source.mkdir()
    for name, data in FILES.items():
        (source / name).write_bytes(data)
    killed = run(root, source, how, step, count)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    for entry in FileCache(root).entries():
        assert FILES[entry.key] == FileCache(root).path(entry.key).read_bytes()
    for path in (root / "objects").glob("*/*/*"):
        assert path.suffix == ".shared" or sha256(path.read_bytes()).hexdigest() == path.name
    again = run(root, source, how)
    assert again.returncode == 0, again.stderr
    cache = FileCache(root)
    assert {key: cache.path(key).read_bytes() for key in cache} == FILES
    assert [path for path in (root / "partial").rglob("*") if path.is_file()] == []
    assert {name: (source / name).read_bytes() for name in FILES} == FILES
    objects = {path.name for path in (root / "objects").glob("*/*/*") if path.suffix != ".shared"}
    assert objects == {sha256(data).hexdigest() for data in FILES.values()}
    if how == "copy":
        assert {cache.path(key).stat().st_nlink for key in FILES} == {1}
    third = run(root, source, how)
    assert third.stdout.split() == ["present"] * len(FILES) or how == "link"


TAKE_OVER = """
import os, signal, sys
from stager import steps
from stager.cli import main

step, count = sys.argv[1], int(sys.argv[2])

def observer(reached):
    global count
    count -= reached == step
    if count == 0:
        os.kill(os.getpid(), signal.SIGKILL)

steps.observe(observer)
sys.exit(main(["cache", "migrate", *sys.argv[3:]]))
"""


@pytest.mark.parametrize("named", ["hashes", "keys"])
@pytest.mark.parametrize("step", STEPS)
def test_taking_over_a_tree_killed_at_any_step_goes_on_and_leaves_nothing_over(
    tmp_path: Path, step: str, named: str
) -> None:
    source, root = tmp_path / "site", tmp_path / "cache"
    source.mkdir()
    files = {f"{number}".encode() * 9: number for number in range(4)}
    names = {data: sha256(data).hexdigest() if named == "hashes" else f"k{files[data]}" for data in files}
    for data, name in names.items():
        (source / name).write_bytes(data)
    words = ["--from", str(source), "--cache", str(root)]

    def take_over(step: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", TAKE_OVER, step, "2", *words],
            check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    assert take_over(step).returncode == -signal.SIGKILL
    assert take_over("none").returncode == 0
    cache = FileCache(root)
    prefix = "sha256:" if named == "hashes" else ""
    assert {cache.path(key).read_bytes(): key for key in cache} == {
        data: prefix + name for data, name in names.items()
    }
    assert [path for path in (root / "partial").rglob("*") if path.is_file()] == []
    objects = {path.name for path in (root / "objects").glob("*/*/*") if path.suffix != ".shared"}
    assert objects == {sha256(data).hexdigest() for data in files}
    assert {path.read_bytes() for path in source.iterdir()} == set(files)
