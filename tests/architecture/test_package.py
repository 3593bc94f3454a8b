"""What is shipped, and what it costs to import."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import stager

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
HEAVY = {
    "alembic", "asyncio", "concurrent.futures", "email", "fastapi", "http.client", "logging", "multiprocessing",
    "pydantic", "pydantic_settings", "requests", "rich", "socket", "sqlalchemy", "sqlite3", "ssl", "structlog",
    "subprocess", "typer", "urllib3", "uvicorn",
}  # fmt: skip


def modules_after(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return set(done.stdout.split())


def test_importing_the_library_loads_nothing_heavy() -> None:
    loaded = modules_after("import stager")
    assert "stager" in loaded
    assert loaded & HEAVY == set()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)],
        cwd=ROOT, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return zipfile.Path(next(target.glob("*.whl")))


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: zipfile.Path) -> None:
    expected = {
        str(path.relative_to(ROOT))
        for package in ("stager", "workers")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    held = {name for name in wheel.root.namelist() if ".dist-info/" not in name and name[-1] != "/"}
    assert held == expected


def test_the_wheel_is_typed_licensed_and_brings_the_command(wheel: zipfile.Path) -> None:
    info = wheel / f"stager-{stager.__version__}.dist-info"
    assert (wheel / "stager" / "py.typed").is_file()
    assert (info / "licenses" / "LICENSE").is_file()
    assert "stager = stager.cli:main" in (info / "entry_points.txt").read_text("utf-8")


def test_the_changelog_begins_with_this_version() -> None:
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == stager.__version__


def test_the_readme_names_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert "make demo" in text
    assert "make test" in text


@pytest.mark.parametrize(
    ("file", "groups"), [("dev.txt", ["dev"]), ("bench.txt", ["dev", "bench"])], ids=["dev", "bench"]
)
def test_the_pinned_versions_are_the_ones_that_the_project_asks_for(file: str, groups: list[str]) -> None:
    text = (ROOT / "requirements" / file).read_text("utf-8")
    pinned = dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", text, re.MULTILINE))
    asked = PROJECT["project"]["dependencies"] + [
        one for g in groups for one in PROJECT["dependency-groups"][g] if isinstance(one, str)
    ]
    for requirement in map(Requirement, asked):
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"run `make lock`: {name} is missing"
        assert requirement.specifier.contains(pinned[name]), f"run `make lock`: {requirement}"


@pytest.mark.parametrize("file", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_what_is_installed_is_known_by_its_hash_and_not_by_its_address(file: Path) -> None:
    text = file.read_text("utf-8")
    blocks = re.split(r"\n(?=[a-z])", text)
    assert all("--hash=sha256:" in block for block in blocks if "==" in block)
    assert "://" not in text


@pytest.mark.parametrize(
    "script",
    [".ci/run", *(f"scripts/{p.name}" for p in sorted((ROOT / "scripts").iterdir()) if p.suffix != ".py")],
)
def test_a_script_can_be_run_and_parsed(script: str) -> None:
    path = ROOT / script
    assert path.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_every_target_of_the_makefile_says_what_it_does() -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", text, re.MULTILINE))
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert targets == set(re.findall(r"^make (\S+)", said, re.MULTILINE))
