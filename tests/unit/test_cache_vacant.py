"""A directory that stays empty is listed once; what comes into it is seen at once."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from stager.cache import vacant as vacant_module
from stager.cache.vacant import SETTLED_SECONDS, VacantDirectories
from stager.clock import ManualClock


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    made: list[int] = []
    real = os.listdir

    def listdir(path: int) -> list[str]:
        made.append(path)
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    return made


@pytest.fixture
def later() -> ManualClock:
    """Long after whatever the test does to the directory."""
    clock = ManualClock()
    clock.advance(time.time() - clock.time() + 100 * SETTLED_SECONDS)
    return clock


def test_a_missing_directory_has_nothing_in_it(tmp_path: Path, later: ManualClock) -> None:
    assert VacantDirectories(later).names(f"{tmp_path}/none") == []


def test_an_empty_directory_is_listed_once(tmp_path: Path, later: ManualClock, listings: list[int]) -> None:
    vacant = VacantDirectories(later)
    assert [vacant.names(str(tmp_path)) for _ in range(3)] == [[], [], []]
    assert len(listings) == 1


def test_what_comes_into_an_empty_directory_is_seen(tmp_path: Path, later: ManualClock) -> None:
    os.utime(tmp_path, (1000, 1000))
    vacant = VacantDirectories(later)
    assert vacant.names(str(tmp_path)) == []
    (tmp_path / "file").touch()
    assert vacant.names(str(tmp_path)) == ["file"]
    assert vacant.names(str(tmp_path)) == ["file"]
    (tmp_path / "file").unlink()
    assert vacant.names(str(tmp_path)) == []


def test_a_directory_that_changed_just_now_may_change_again_without_a_trace(
    tmp_path: Path, listings: list[int]
) -> None:
    clock = ManualClock()
    clock.advance(tmp_path.stat().st_mtime + SETTLED_SECONDS / 2 - clock.time())
    vacant = VacantDirectories(clock)
    assert vacant.names(str(tmp_path)) == []
    before = tmp_path.stat()
    (tmp_path / "file").touch()
    os.utime(tmp_path, ns=(before.st_atime_ns, before.st_mtime_ns))  # within one tick of the server's clock
    assert vacant.names(str(tmp_path)) == ["file"]
    assert len(listings) == 2


def test_a_directory_that_only_seemed_to_be_missing_is_listed(
    tmp_path: Path, later: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "made"

    def refresh(path: str) -> bool:
        assert path == str(directory)
        directory.mkdir()
        (directory / "file").touch()
        return True

    monkeypatch.setattr(vacant_module, "refresh", refresh)
    assert VacantDirectories(later).names(str(directory)) == ["file"]
