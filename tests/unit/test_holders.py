from __future__ import annotations

from pathlib import Path

import pytest

from stager.cache.holders import held_bytes, jobs_holding
from stager.cache.store import FileCache
from stager.cache.symbolic import SymbolicInputs


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    """One whose object ``data`` is an input of two jobs: by a hard link of one, by a symbolic one of the other."""
    cache = FileCache(tmp_path / "c")
    entry = cache.put("k", b"data")
    cache.pin("hard", "input", entry.object, entry.size)
    (cache.job_dir("symbolic") / "inputs" / "input").symlink_to(cache.path("k"))
    return cache


HELD = [("hard", "input"), ("symbolic", "input")]


def spoil(cache: FileCache, what: str) -> None:
    inputs = cache.job_dir("spoilt") / "inputs"
    match what:
        case "loop":
            (inputs / "a").symlink_to("a")
        case "through a file":
            (inputs / "file").write_bytes(b"")
            (inputs / "a").symlink_to("file/below")
        case "unreadable":
            (inputs / "closed").mkdir(mode=0)
            (inputs / "a").symlink_to("closed/below")
        case "a directory of others":
            (cache.root / "scratch").mkdir()
            (cache.root / "scratch" / "large").write_bytes(b"12345678")
            (inputs / "a").symlink_to(cache.root / "scratch")
            (inputs / "b").symlink_to(cache.root / "scratch" / "large")
        case "no directory":
            inputs.rmdir()
            inputs.write_bytes(b"")
        case "a looping directory":
            inputs.rmdir()
            inputs.symlink_to("inputs")
        case "a directory elsewhere":
            inputs.rmdir()
            (cache.root / "scratch").mkdir()
            (cache.root / "scratch" / "large").write_bytes(b"12345678")
            inputs.symlink_to(cache.root / "scratch")
        case "a closed directory":
            inputs.chmod(0)


@pytest.mark.parametrize(
    "what",
    [
        "loop",
        "through a file",
        "unreadable",
        "a directory of others",
        "no directory",
        "a looping directory",
        "a directory elsewhere",
        "a closed directory",
    ],
)
def test_whatever_a_job_makes_of_its_inputs_the_holders_of_others_are_known(
    cache: FileCache, what: str
) -> None:
    spoil(cache, what)
    sha256 = cache.path("k").name
    assert jobs_holding(cache.tree, sha256) == HELD
    assert held_bytes(cache.tree) == len(b"data")


@pytest.mark.parametrize("what", ["no directory", "a looping directory", "a closed directory"])
def test_where_there_are_no_links_eviction_still_learns_what_others_hold(
    cache: FileCache, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(cache, what)
    held = SymbolicInputs(cache.tree)
    monkeypatch.setattr(held, "_refused", True)
    assert held() == {cache.path("k").name}
