"""Names that another host made, or removed, just now."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from stager.cache.files import STALE_TRIES
from stager.cache.fresh import list_names


class Stale:
    """`os.listdir` as of a directory that another host removed: stale so many times, then as it is."""

    def __init__(self, times: int, number: int = errno.ESTALE) -> None:
        self.left = times
        self.number = number
        self._listdir = os.listdir

    def __call__(self, directory: str) -> list[str]:
        if self.left:
            self.left -= 1
            raise OSError(self.number, os.strerror(self.number), directory)
        return self._listdir(directory)


def test_a_directory_that_another_host_removed_meanwhile_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "listdir", Stale(1))
    assert list_names(str(tmp_path / "gone")) == []


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EREMOTEIO])
def test_one_that_another_host_made_anew_meanwhile_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(os, "listdir", Stale(3, number))
    assert list_names(tmp_path) == ["file"]


def test_a_mount_that_stays_stale_is_not_taken_for_an_empty_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "listdir", Stale(STALE_TRIES + 1))
    with pytest.raises(OSError, match="Stale"):
        list_names(tmp_path)
