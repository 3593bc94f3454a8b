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


@pytest.fixture(params=[True, False], ids=["remote", "local"])
def vacant(request: pytest.FixtureRequest, later: ManualClock) -> VacantDirectories:
    return VacantDirectories(later, remote=request.param)


def test_a_missing_directory_has_nothing_in_it(tmp_path: Path, vacant: VacantDirectories) -> None:
    assert vacant.names(f"{tmp_path}/none") == []


def test_an_empty_directory_is_listed_once(
    tmp_path: Path, vacant: VacantDirectories, listings: list[int]
) -> None:
    assert [vacant.names(str(tmp_path)) for _ in range(3)] == [[], [], []]
    assert len(listings) == 1


def test_what_comes_into_an_empty_directory_is_seen(tmp_path: Path, vacant: VacantDirectories) -> None:
    os.utime(tmp_path, (1000, 1000))
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


def test_a_name_is_told_by_its_beginning(tmp_path: Path, vacant: VacantDirectories) -> None:
    assert not vacant.holds(str(tmp_path), "ab")
    (tmp_path / "abc").touch()
    assert vacant.holds(str(tmp_path), "ab")
    assert not vacant.holds(str(tmp_path), "bc")


def test_a_directory_that_is_removed_while_it_is_looked_at_has_nothing_in_it(
    tmp_path: Path, later: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: True)
    assert VacantDirectories(later, remote=False).names(f"{tmp_path}/none") == []
