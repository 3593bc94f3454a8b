from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from stager.cache import removal
from stager.cache.gone import Gone, note_gone
from stager.cache.job_directories import EMPTY_SECONDS
from stager.cache.removal import remove_tree
from stager.cache.store import FileCache
from stager.cache.upkeep import Upkeep
from stager.clock import ManualClock

DAY = 86_400.0
KEPT = 30 * DAY


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "c")


@pytest.fixture
def job(cache: FileCache) -> Path:
    """The directory of a job that is over and was released, long ago."""
    directory = cache.job_dir("job")
    (directory / "run").mkdir()
    (directory / "run" / "1.exit").write_text("0")
    (directory / "stdout").write_text("printed")
    cache.release("job")
    age(directory, 2 * KEPT)
    return directory


def age(directory: Path, seconds: float) -> None:
    """Let everything in it be that old."""
    then = time.time() - seconds
    for path in (*directory.rglob("*"), directory):
        os.utime(path, (then, then), follow_symlinks=False)


def look(cache: FileCache, *live: str, kept: float = KEPT) -> None:
    clock = ManualClock(time.time())
    done = Upkeep(cache.root, clock=clock, live_jobs=lambda: live, job_seconds=kept).step(1000)
    assert not done, "it is no fault that was put right"


def test_what_a_job_printed_goes_when_its_time_is_up(cache: FileCache, job: Path) -> None:
    look(cache)
    assert list((cache.root / "jobs").iterdir()) == []
    assert not job.exists()


def test_a_job_that_is_not_over_keeps_its_directory(cache: FileCache, job: Path) -> None:
    look(cache, "job")
    assert (job / "stdout").exists()


def test_directories_stay_where_results_stay_for_ever(cache: FileCache, job: Path) -> None:
    look(cache, kept=0.0)
    assert (job / "stdout").exists()


def test_who_does_not_know_which_jobs_are_over_leaves_all_alone(cache: FileCache, job: Path) -> None:
    Upkeep(cache.root).step(1000)
    assert (job / "stdout").exists()


@pytest.mark.parametrize("changed", ["stdout", "run/1.exit", "run", "."])
def test_a_directory_stays_in_which_something_changed_since(
    cache: FileCache, job: Path, changed: str
) -> None:
    os.utime(job / changed)
    look(cache)
    assert (job / "stdout").exists()


def test_a_job_with_inputs_keeps_its_directory(cache: FileCache, job: Path) -> None:
    entry = cache.put("k", b"data")
    cache.pin("job", "a", entry.object, entry.size)
    os.utime(cache.path("k"), (1e9, 1e9))
    age(job, 2 * KEPT)
    look(cache)
    assert (job / "inputs" / "a").exists()


def test_a_removal_that_was_cut_short_goes_on(cache: FileCache, job: Path) -> None:
    job.rename(job.with_name(".going-job"))
    look(cache, kept=0.0)
    assert list((cache.root / "jobs").iterdir()) == []


def test_links_in_a_directory_that_goes_are_not_followed(cache: FileCache, job: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (job / "link").symlink_to(tmp_path / "precious")
    age(job, 2 * KEPT)
    look(cache)
    assert not job.exists()
    assert (tmp_path / "precious" / "file").exists()


def test_empty_directories_of_a_job_that_is_over_go_and_its_time_stays(cache: FileCache, job: Path) -> None:
    cache.job_dir("job")
    age(job, EMPTY_SECONDS + DAY)
    before = job.stat().st_mtime
    look(cache, "job")
    assert (job / "inputs").exists()
    look(cache)
    assert sorted(path.name for path in job.iterdir()) == ["run", "stdout"]
    assert job.stat().st_mtime == pytest.approx(before, abs=1e-3)


def test_empty_directories_that_are_young_stay(cache: FileCache) -> None:
    job = cache.job_dir("job")
    age(job, DAY)
    look(cache)
    assert sorted(path.name for path in job.iterdir()) == ["inputs", "results"]


def test_of_a_job_whose_directory_is_gone_nothing_is_noted(cache: FileCache) -> None:
    note_gone(cache.tree, "result:job/a", Gone(1.0, "evicted"))
    assert not (cache.root / "jobs" / "job").exists()


def test_what_a_listing_did_not_show_yet_is_removed_at_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = tmp_path / "inputs" / "late"
    late.parent.mkdir()
    real, looks = os.rmdir, [0]

    def rmdir(path: str, **more: Any) -> None:
        looks[0] += 1
        if looks[0] == 1:
            late.write_bytes(b"")
        real(path, **more)

    monkeypatch.setattr(os, "rmdir", rmdir)
    remove_tree(str(late.parent))
    assert looks == [2]
    assert not late.parent.exists()


def test_what_stays_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / "held").write_bytes(b"")
    monkeypatch.setattr(removal, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(os, "unlink", lambda *_, **__: None)
    with pytest.raises(OSError, match="not empty"):
        remove_tree(str(tmp_path / "inputs"))
