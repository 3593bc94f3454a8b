from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pydantic
import pytest

from stager.errors import SettingsError
from stager.settings import Settings, config, load_settings, settings_file


@pytest.fixture
def in_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    monkeypatch.setenv("STAGER_CONFIG", str(path))
    return path


def test_the_defaults_are_private_places_of_the_user() -> None:
    home = Path(os.environ["HOME"])
    settings = load_settings()
    assert settings.cache_dir == home / ".cache" / "stager"
    assert settings.state_dir == home / ".local" / "state" / "stager"
    assert settings_file() == home / ".config" / "stager" / "config.toml"
    assert settings.listen == "127.0.0.1"


def test_xdg_directories_are_used_if_absolute_and_ignored_if_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    settings = load_settings()
    assert settings.cache_dir == Path("/elsewhere/stager")
    assert settings.state_dir == Path.home() / ".local/state/stager"


def test_the_command_line_goes_before_the_environment_before_the_file(
    in_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_file.write_text("port = 1\nfetch_threads = 2\nretry_attempts = 3\n")
    monkeypatch.setenv("STAGER_PORT", "11")
    monkeypatch.setenv("STAGER_FETCH_THREADS", "12")
    settings = load_settings(port=21, shards=None)
    assert (settings.port, settings.fetch_threads, settings.retry_attempts) == (21, 12, 3)


def test_the_environment_goes_before_the_file_in_any_case(
    in_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_file.write_text("port = 1\n")
    monkeypatch.setenv("stager_port", "11")
    assert load_settings().port == 11


def test_settings_can_not_be_changed() -> None:
    settings = load_settings()
    with pytest.raises((pydantic.ValidationError, dataclasses.FrozenInstanceError)):
        settings.port = 1


def test_paths_are_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(cache_dir="c").cache_dir == tmp_path / "c"
    assert load_settings(cache_dir="~/c").cache_dir == Path.home() / "c"


def test_an_unknown_setting_in_the_file_suggests_the_right_one(in_file: Path) -> None:
    in_file.write_text("fetch_thread = 2\n")
    with pytest.raises(SettingsError, match="did you mean 'fetch_threads'") as refusal:
        load_settings()
    assert str(in_file) in str(refusal.value)


def test_an_unknown_setting_in_the_environment_suggests_the_right_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STAGER_CACHEDIR", "/x")
    with pytest.raises(SettingsError, match="STAGER_CACHEDIR in the environment; did you mean 'cache_dir'"):
        load_settings()


def test_what_a_job_is_told_in_its_environment_does_not_disturb(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOKEN", "JOB_ID", "JOB_DIR", "JOB_NAME", "INPUTS", "RESULTS"):
        monkeypatch.setenv(f"STAGER_{name}", "x")
    load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "x"),
        ("port", "-1"),
        ("port", "65536"),
        ("fetch_threads", "0"),
        ("connect_timeout_seconds", "0"),
        ("connect_timeout_seconds", "-1"),
        ("connect_timeout_seconds", "inf"),
        ("read_timeout_seconds", "nan"),
        ("fresh_min_seconds", "inf"),
        ("fresh_max_seconds", "nan"),
        ("fresh_max_seconds", "-1"),
        ("shards", ""),
        ("shards", "0"),
        ("shards", "2+2\n"),
        ("shards", "2+2+2+2+2"),
        ("unproven", "perhaps"),
        ("log_level", "loud"),
        ("listen", ""),
        ("cache_dir", ""),
        ("state_dir", ""),
        ("cache_dir", "~no-such-user/x"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_wherever_it_comes_from(
    name: str, value: str, in_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_file.write_text("")
    with pytest.raises(SettingsError):
        load_settings(**{name: value})
    monkeypatch.setenv(f"STAGER_{name.upper()}", value)
    with pytest.raises(SettingsError):
        load_settings()
    monkeypatch.delenv(f"STAGER_{name.upper()}")
    quoted = value.replace("\n", "\\n")
    in_file.write_text(f'{name} = "{quoted}"\n')
    with pytest.raises(SettingsError):
        load_settings()


def test_a_refusal_says_where_the_value_came_from(in_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_file.write_text("port = 70000\n")
    with pytest.raises(SettingsError, match=r"port = 70000 \(.*config\.toml\)"):
        load_settings()
    with pytest.raises(SettingsError, match=r"port = 70001 \(command line\)"):
        load_settings(port=70001)
    monkeypatch.setenv("STAGER_PORT", "70002")
    with pytest.raises(SettingsError, match=r"port = '70002' \(STAGER_PORT\)"):
        load_settings()


@pytest.mark.parametrize(
    ("variable", "example"),
    [
        ("STAGER_FILE_ROOTS", '["ONE", "TWO"]'),
        ("STAGER_PROTECTED", '["ONE", "TWO"]'),
        ("STAGER_ENDPOINTS", '{"NAME": VALUE}'),
        ("STAGER_OWNER_QUOTAS", '{"NAME": VALUE}'),
    ],
)
def test_a_list_that_is_not_json_is_refused_with_how_to_write_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, example: str
) -> None:
    monkeypatch.setenv("STAGER_ALLOWED_NETWORKS", "127.0.0.0/8")
    monkeypatch.setenv(variable, "/data")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert f"= '/data' ({variable}): it is not JSON; write {variable}='{example}'" in str(caught.value)


@pytest.mark.parametrize(
    "text", [b"port = ", b"\xff", b"[port]\nx = 1", b"port = 1\nport = 2", b"[server]\nport = 1"]
)
def test_a_file_that_can_not_be_read_is_a_settings_error(text: bytes, in_file: Path) -> None:
    in_file.write_bytes(text)
    with pytest.raises(SettingsError, match=r"port|server|can't be read"):
        load_settings()


def test_a_directory_in_place_of_the_file_is_a_settings_error(in_file: Path) -> None:
    in_file.mkdir()
    with pytest.raises(SettingsError, match="can't be read"):
        load_settings()


def test_a_named_file_that_is_missing_is_an_error_and_an_unnamed_one_is_not(
    in_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        load_settings()
    for nothing in ("", None):
        if nothing is None:
            monkeypatch.delenv("STAGER_CONFIG")
        else:
            monkeypatch.setenv("STAGER_CONFIG", nothing)
        assert load_settings().port == Settings.model_fields["port"].default
    assert not in_file.exists()


def test_a_named_file_in_the_home_of_nobody_is_a_settings_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAGER_CONFIG", "~no-such-user/config.toml")
    with pytest.raises(SettingsError):
        load_settings()


def test_config_reads_one_setting_and_gives_the_default_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAGER_PORT", "99")
    assert config("port") == 99
    assert config("no_such_setting", "missing") == "missing"
    assert config("model_config", "missing") == "missing"
    assert config("cores") is None
