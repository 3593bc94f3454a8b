from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import stager


def test_every_public_name_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STAGER_CACHE_DIR", str(tmp_path / "cache"))
    code = "import stager; print([n for n in stager.__all__ if getattr(stager, n) is None], stager.urlcache.root)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", str(tmp_path / "cache")]


def test_the_default_cache_is_made_at_its_first_use_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code = "import os, stager; stager.FetchRequest; print(os.listdir(os.environ['XDG_CACHE_HOME'])); "
    code += "from stager import urlcache; print(os.listdir(os.environ['XDG_CACHE_HOME']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "['stager']"]


def test_importing_the_package_loads_no_heavy_module() -> None:
    code = "import sys, stager; print(sorted({'requests', 'pydantic', 'typer', 'sqlalchemy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        stager.nothing  # noqa: B018


def test_public_names_are_listed() -> None:
    assert set(stager.__all__) <= set(dir(stager))


def test_settings_are_read_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAGER_FETCH_THREADS", "3")
    assert stager.config("fetch_threads") == 3
    assert stager.config("no_such_setting", "missing") == "missing"
