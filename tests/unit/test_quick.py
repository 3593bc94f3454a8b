"""The quick way to a list: where it looks is where the settings say, and what it is not sure of it leaves alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stager.cli.quick import KINDS, SORTS, quick_ls
from stager.cli.quick_settings import places
from stager.model.catalogue import Kind, Sort
from stager.settings import load_settings
from stager.state import snapshot
from stager.state.catalogue_rows import COLUMNS
from stager.state.catalogue_schema import CATALOGUE_VERSION
from stager.wiring.cache import cache_root

CASES: list[tuple[dict[str, str], str | None]] = [
    ({}, None),
    ({"STAGER_CACHE_DIR": "/c", "STAGER_STATE_DIR": "/s"}, None),
    ({"XDG_CACHE_HOME": "/xc", "XDG_STATE_HOME": "/xs"}, None),
    ({"XDG_CACHE_HOME": "relative"}, None),
    ({"STAGER_CACHE_DIR": "here/../there"}, None),
    ({"STAGER_CACHE_DIR": "/c", "STAGER_CONFIG": "settings.toml"}, None),
    ({"STAGER_CONFIG": "settings.toml"}, None),
    ({"STAGER_DATABASE_URL": "sqlite:////x.db"}, "named"),
]


@pytest.mark.parametrize(("variables", "named"), CASES, ids=str)
def test_it_looks_where_the_settings_say(
    variables: dict[str, str], named: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    Path("settings.toml").write_text('cache_dir = "/in/file"\nport = 0\n')
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(cache_dir=None if named is None else Path(named))
    assert places(named) == (cache_root(settings), os.fspath(settings.state_dir))


@pytest.mark.parametrize(
    "variables",
    [
        {"STAGER_DATABASE_URL": "postgresql://x/y"},
        {"STAGER_SERVER": "https://elsewhere.example.org"},
        {"STAGER_CACHE_DIR": ""},
        {"STAGER_CACHE_DIR": "~somebody/cache"},
        {"STAGER_CONFIG": "missing.toml"},
        {"STAGER_CONFIG": "broken.toml"},
    ],
    ids=str,
)
def test_what_takes_more_to_say_is_left_to_the_command(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.toml").write_text("cache_dir = \n")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert places() is None


@pytest.mark.parametrize(
    "words",
    [("--walk",), ("--sort", "colour"), ("--limit", "x"), ("--limit",), ("--json", "--csv"), ("extra",),
     ("--older-than", "soon"), ("--kind", "result", "--help"), ("--host", "--json")],
    ids=str,
)  # fmt: skip
def test_options_that_it_does_not_know_are_left_to_the_command(
    words: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("STAGER_STATE_DIR", str(tmp_path))
    assert quick_ls(words) is None
    assert capsys.readouterr() == ("", "")


def test_its_words_are_those_of_the_catalogue() -> None:
    assert set(SORTS) == set(snapshot.ORDERS) == {sort.value for sort in Sort}
    assert set(KINDS) == {kind.value for kind in Kind}
    assert str(CATALOGUE_VERSION) == snapshot.VERSION
    assert snapshot.COLUMNS[:-1] == tuple(column.name for column in COLUMNS)
