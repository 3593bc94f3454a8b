from __future__ import annotations

import errno
import os
from hashlib import sha256
from pathlib import Path

import pytest

from stager.cache.files import STALE_TRIES
from stager.cache.store import FileCache
from stager.errors import CacheError, CacheIOError, InputError, ObjectLostError


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "c")


def test_a_job_sees_a_real_file_with_its_own_name(cache: FileCache) -> None:
    entry = cache.put("k", b"data")
    path = cache.pin("job-1", "run 12.nxs", entry.object, entry.size)
    assert path == cache.root / "jobs" / "job-1" / "inputs" / "run 12.nxs"
    assert path.read_bytes() == b"data"
    assert not path.is_symlink()
    assert cache.object_path(entry.object).stat().st_nlink == 2


def test_pinning_again_changes_nothing(cache: FileCache) -> None:
    entry = cache.put("k", b"data")
    first = cache.pin("job", "a", entry.object, entry.size)
    inode = first.stat().st_ino
    assert cache.pin("job", "a", entry.object, entry.size) == first
    assert first.stat().st_ino == inode
    assert names(first.parent) == ["a"]
    assert first.stat().st_nlink == 2


def test_an_input_of_other_content_is_replaced(cache: FileCache) -> None:
    old, new = cache.put("k", b"old"), cache.put("k", b"new!")
    cache.pin("job", "a", old.object, old.size)
    path = cache.pin("job", "a", new.object, new.size)
    assert path.read_bytes() == b"new!"
    assert names(path.parent) == ["a"]


def test_a_missing_object_is_lost_and_pins_nothing(cache: FileCache) -> None:
    entry = cache.put("k", b"data")
    cache.object_path(entry.object).unlink()
    with pytest.raises(ObjectLostError, match="is gone") as caught:
        cache.pin("job", "a", entry.object, entry.size)
    assert caught.value.transient
    assert names(cache.root / "jobs" / "job" / "inputs") == []


def test_a_damaged_object_is_lost_and_pins_nothing(cache: FileCache) -> None:
    entry = cache.put("k", b"data")
    path = cache.object_path(entry.object)
    path.chmod(0o644)
    path.write_bytes(b"dat")
    with pytest.raises(ObjectLostError, match="3 bytes instead of 4"):
        cache.pin("job", "a", entry.object, entry.size)
    assert names(cache.root / "jobs" / "job" / "inputs") == []
    cache.put("k", b"data")
    assert cache.pin("job", "a", entry.object, entry.size).read_bytes() == b"data"


def test_a_name_that_promised_a_lost_object_promises_nothing_any_more(cache: FileCache) -> None:
    old, new = cache.put("k", b"old"), cache.put("k", b"new!")
    path = cache.pin("job", "a", old.object, old.size)
    cache.object_path(new.object).unlink()
    with pytest.raises(ObjectLostError):
        cache.pin("job", "a", new.object, new.size)
    assert not path.exists()


@pytest.mark.parametrize("number", [errno.EPERM, errno.EXDEV, errno.EMLINK, errno.EOPNOTSUPP])
def test_where_hard_links_are_refused_the_input_is_a_symbolic_link(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    entry = cache.put("k", b"data")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    for _ in range(2):
        path = cache.pin("job", "a", entry.object, entry.size)
        assert path.is_symlink()
        assert path.read_bytes() == b"data"
    cache.object_path(entry.object).unlink()
    with pytest.raises(ObjectLostError, match="is gone"):
        cache.pin("job", "a", entry.object, entry.size)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/passwd", "a\0b", "a\nb", "x" * 256])
def test_a_name_that_leaves_the_directory_is_refused(cache: FileCache, name: str) -> None:
    entry = cache.put("k", b"data")
    with pytest.raises(InputError):
        cache.pin("job", name, entry.object, entry.size)
    with pytest.raises(InputError):
        cache.pin(name, "a", entry.object, entry.size)
    for act in (cache.job_dir, cache.unpin):
        with pytest.raises(InputError):
            act(name)
    assert not (cache.root / "jobs").exists()


def test_the_longest_name_can_be_pinned_and_replaced(cache: FileCache) -> None:
    old, new = cache.put("k", b"old"), cache.put("k", b"new")
    cache.pin("job", "x" * 255, old.object, old.size)
    assert cache.pin("job", "x" * 255, new.object, new.size).read_bytes() == b"new"


def test_a_stale_handle_is_opened_again_and_not_for_ever(
    cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = cache.put("k", b"data")
    tries: list[int] = []
    real = os.open
    limit = 2

    def stale(path: str, flags: int, mode: int = 0o777) -> int:
        if "/jobs/" in path:
            tries.append(1)
            if len(tries) <= limit:
                raise OSError(errno.ESTALE, "Stale file handle")
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", stale)
    assert cache.pin("job", "a", entry.object, entry.size).read_bytes() == b"data"
    tries.clear()
    limit = 10 * STALE_TRIES
    with pytest.raises(CacheIOError, match="Stale"):
        cache.pin("job", "a", entry.object, entry.size)
    assert len(tries) == STALE_TRIES


def test_a_job_directory_has_a_place_for_inputs_and_results(cache: FileCache) -> None:
    path = cache.job_dir("job")
    assert cache.job_dir("job") == path
    assert names(path) == ["inputs", "results"]
    assert path.stat().st_mode & 0o777 == 0o700


def test_unpinning_removes_inputs_and_keeps_results_and_objects(cache: FileCache) -> None:
    entry = cache.put("k", b"data")
    cache.pin("job", "a", entry.object, entry.size)
    inputs = cache.job_dir("job") / "inputs"
    (inputs / "made by the job").mkdir()
    (inputs / "made by the job" / "file").write_bytes(b"")
    (inputs / "link").symlink_to("/etc")
    (cache.job_dir("job") / "results" / "out").write_bytes(b"result")
    cache.unpin("job")
    cache.unpin("job")
    assert names(cache.root / "jobs" / "job") == ["results"]
    assert Path("/etc/passwd").exists()
    assert cache.object_path(entry.object).stat().st_nlink == 1
    assert sha256(cache.path("k").read_bytes()).hexdigest() == entry.object


# -- what a job puts in place of its directories ---------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A directory that is none of the cache's, with something in it."""
    directory = tmp_path / "scratch"
    (directory / "deep").mkdir(parents=True)
    (directory / "deep" / "precious").write_bytes(b"mine")
    return directory


def replace(directory: Path, target: Path) -> None:
    directory.rmdir()
    directory.symlink_to(target)


@pytest.mark.parametrize("part", ["inputs", "results"])
def test_a_release_follows_no_link_that_a_job_put_there(cache: FileCache, elsewhere: Path, part: str) -> None:
    job = cache.job_dir("job")
    replace(job / part, elsewhere)
    cache.release("job")
    assert (elsewhere / "deep" / "precious").read_bytes() == b"mine"
    assert names(job) == []


def test_a_release_leaves_alone_what_links_inside_of_the_results_lead_to(
    cache: FileCache, elsewhere: Path
) -> None:
    job = cache.job_dir("job")
    (job / "results" / "sub").mkdir()
    (job / "results" / "sub" / "link").symlink_to(elsewhere)
    cache.release("job")
    assert (elsewhere / "deep" / "precious").exists()
    assert names(job) == []


def test_a_release_follows_no_link_in_place_of_the_job_s_directory(cache: FileCache, elsewhere: Path) -> None:
    job = cache.job_dir("job")
    for part in ("inputs", "results"):
        (job / part).rmdir()
    (elsewhere / "results").mkdir()
    replace(job, elsewhere)
    cache.release("job")
    assert names(elsewhere) == ["deep", "results"]


def test_a_link_that_is_swapped_in_while_a_directory_is_removed_is_not_followed(
    cache: FileCache, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sub = cache.job_dir("job") / "results" / "deep"
    sub.mkdir()
    (sub / "precious").write_bytes(b"")
    opened = os.open

    def swapping(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == "deep":
            sub.rename(sub.with_name("aside"))
            sub.symlink_to(elsewhere / "deep")
        return opened(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", swapping)
    cache.release("job")  # at the second look the link is one
    monkeypatch.undo()
    assert (elsewhere / "deep" / "precious").read_bytes() == b"mine"
    assert names(cache.root / "jobs" / "job") == []


@pytest.mark.parametrize("part", ["inputs", "results"])
def test_a_directory_that_a_job_replaced_by_a_link_is_refused(
    cache: FileCache, elsewhere: Path, part: str
) -> None:
    job = cache.job_dir("job")
    replace(job / part, elsewhere)
    with pytest.raises(CacheError, match=f"{part} is not a directory: a link is in its place"):
        cache.job_dir("job")
    assert names(elsewhere) == ["deep"]


def test_nothing_is_pinned_through_a_link(cache: FileCache, elsewhere: Path) -> None:
    entry = cache.put("k", b"data")
    replace(cache.job_dir("job") / "inputs", elsewhere)
    with pytest.raises(CacheError, match="inputs is not a directory"):
        cache.pin("job", "a", entry.object, entry.size)
    assert names(elsewhere) == ["deep"]
