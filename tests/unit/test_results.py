from __future__ import annotations

import os
from pathlib import Path

import pytest

from stager.cache.store import FileCache
from stager.errors import CacheError
from stager.mapper.dispatch.results import keep_results


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "c")


@pytest.fixture
def results(cache: FileCache) -> Path:
    return cache.job_dir("job") / "results"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A directory with a file that is no result of anybody."""
    directory = tmp_path / "elsewhere" / "results"
    directory.mkdir(parents=True)
    (directory / "secret").write_bytes(b"secret")
    return directory


def test_files_are_kept_by_their_paths_in_order(cache: FileCache, results: Path) -> None:
    for name in ("b", "a/z", "a-", "a/y/x"):
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).write_text(name)
    kept = keep_results(cache, "job", results, ())
    assert [one.name for one in kept] == ["a/y/x", "a/z", "a-", "b"]
    assert cache.path("result:job/a/y/x").read_text() == "a/y/x"


def test_only_what_is_wanted_is_opened(cache: FileCache, results: Path) -> None:
    (results / "a.txt").write_text("a")
    os.mkfifo(results / "b.txt")
    (results / "c.txt").symlink_to("a.txt")
    (results / "other").write_text("no")
    assert [one.name for one in keep_results(cache, "job", results, ["*.txt"])] == ["a.txt"]


def test_a_job_without_a_results_directory_has_no_results(cache: FileCache, results: Path) -> None:
    results.rmdir()
    assert keep_results(cache, "job", results, ()) == ()


def test_a_link_in_place_of_the_results_directory_is_not_followed(
    cache: FileCache, results: Path, elsewhere: Path
) -> None:
    results.rmdir()
    results.symlink_to(elsewhere)
    with pytest.raises(CacheError, match=r"can't open .*results"):
        keep_results(cache, "job", results, ())
    assert list(cache) == []


def test_a_link_in_place_of_the_job_s_directory_is_not_followed(
    cache: FileCache, results: Path, elsewhere: Path
) -> None:
    for part in ("inputs", "results"):
        (results.parent / part).rmdir()
    results.parent.rmdir()
    results.parent.symlink_to(elsewhere.parent)
    with pytest.raises(CacheError, match="can't open"):
        keep_results(cache, "job", results, ())
    assert list(cache) == []


def test_a_file_that_is_swapped_for_a_link_meanwhile_is_not_followed(
    cache: FileCache, results: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (results / "a").write_bytes(b"a")
    opened = os.open

    def swapping(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path in {"a", str(results / "a")}:
            (results / "a").unlink()
            (results / "a").symlink_to(elsewhere / "secret")
        return opened(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", swapping)
    assert keep_results(cache, "job", results, ()) == ()
