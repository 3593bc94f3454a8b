"""Processes that are killed at every step of pinning and unpinning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stager.cache.owner import here
from stager.cache.pin_files import LINK_SECONDS, PinFiles
from stager.cache.pinned import is_pinned, pin_directory
from stager.cache.store import FileCache
from stager.cache.tree import open_tree
from stager.model.pins import Pin

CHILD = """
import os, signal, sys
from stager import steps
from stager.cache.pin_files import PinFiles
from stager.cache.tree import open_tree
from stager.model.pins import Pin

root, sha256, what, step = sys.argv[1:5]
pin = Pin(sha256, "user:ada", "k", "for the paper", 1.0)
files = PinFiles(open_tree(root, "2+2"))
steps.observe(lambda reached: os.kill(os.getpid(), signal.SIGKILL) if reached == step else None)
files.pin(pin) if what == "pin" else files.unpin(sha256, pin.id)
print("survived")
"""


def killed(root: Path, sha256: str, what: str, step: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, root, sha256, what, step],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-9, "", "")


@pytest.mark.parametrize("step", ["pin.linked", "pin.recorded"])
def test_a_pin_that_was_cut_short_is_there_or_leaves_nothing_for_good(step: str, tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "c")
    entry = cache.put("k", b"data")
    killed(cache.root, entry.object, "pin", step)
    tree = open_tree(cache.root, "2+2")
    files = PinFiles(tree)
    path, directory = cache.object_path(entry.object), Path(pin_directory(tree, entry.object))
    assert path.stat().st_nlink == 2, "protected first"
    assert is_pinned(tree, entry.object) == (step == "pin.recorded")
    changed = directory.stat().st_mtime
    files.tidy(entry.object, changed + LINK_SECONDS + 1)
    assert path.stat().st_nlink == (2 if step == "pin.recorded" else 1)
    assert directory.exists() == (step == "pin.recorded")

    pin = Pin(entry.object, "user:ada", "k", "for the paper", 1.0)
    files.pin(pin)  # run again
    assert files.of(entry.object) == [pin]
    assert path.stat().st_nlink == 2
    assert files.unpin(entry.object, pin.id)
    assert not directory.exists()


@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("step", ["unpin.removed", "unpin.aside"])
def test_an_unpinning_that_was_cut_short_frees_the_object_in_the_end(
    step: str, others: int, tmp_path: Path
) -> None:
    cache = FileCache(tmp_path / "c")
    entry = cache.put("k", b"data")
    tree = open_tree(cache.root, "2+2")
    files = PinFiles(tree)
    files.pin(Pin(entry.object, "user:ada", "k", "for the paper", 1.0))
    for number in range(others if step == "unpin.removed" else 0):
        files.pin(Pin(entry.object, f"user:{number}", "k", since=1.0))
    killed(cache.root, entry.object, "unpin", step)
    path, directory = cache.object_path(entry.object), Path(pin_directory(tree, entry.object))
    held = bool(others) and step == "unpin.removed"
    assert is_pinned(tree, entry.object) == held
    assert path.stat().st_nlink == 2, "let go last"
    files.tidy(entry.object, directory.stat().st_mtime + LINK_SECONDS + 1)
    assert path.stat().st_nlink == (2 if held else 1)
    assert directory.exists() == held


def test_what_was_killed_while_it_wrote_why_leaves_nothing_once_the_object_is_unpinned(
    tmp_path: Path,
) -> None:
    cache = FileCache(tmp_path / "c")
    entry = cache.put("k", b"data")
    tree = open_tree(cache.root, "2+2")
    files = PinFiles(tree)
    killed(cache.root, entry.object, "pin", "pin.linked")
    directory = Path(pin_directory(tree, entry.object))
    (directory / f".draft.{here()}-1-0-7").touch()  # of a process that is no more
    pin = Pin(entry.object, "user:ada", "k", "for the paper", 1.0)
    files.pin(pin)
    assert files.unpin(entry.object, pin.id)
    assert not directory.exists()


def test_who_pins_after_an_unpinning_was_cut_short_has_the_object_held(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "c")
    entry = cache.put("k", b"data")
    tree = open_tree(cache.root, "2+2")
    files = PinFiles(tree)
    files.pin(Pin(entry.object, "user:ada", "k", "for the paper", 1.0))
    killed(cache.root, entry.object, "unpin", "unpin.aside")
    files.pin(Pin(entry.object, "user:bob", "k", since=1.0))
    directory = Path(pin_directory(tree, entry.object))
    files.tidy(entry.object, directory.stat().st_mtime + LINK_SECONDS + 1)
    assert cache.object_path(entry.object).stat().st_nlink == 2
    assert (directory / "object").exists()
    assert len(list(directory.iterdir())) == 2
