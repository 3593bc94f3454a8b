"""What the documentation says is what the program does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from stager import FileCache
from stager.server.schemas import specs_of_file
from tests.support.jobserver import SmallServer

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


def code_blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def pinned(package: str) -> str:
    found = re.search(rf"^{package}==(\S+)", (ROOT / "requirements" / "dev.txt").read_text(), re.MULTILINE)
    assert found is not None
    return found.group(1)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        if page.name != "index.md":
            assert f"({page.relative_to(ROOT / 'docs')})" in index, f"{page.name} is not in the index"


@pytest.mark.parametrize(
    "page", ["settings.md", "errors.md", "events.md", "metrics.md", "roles.md", "command-line.md"]
)
def test_the_reference_agrees_with_the_code(page: str) -> None:
    if page == "command-line.md" and version("typer") != pinned("typer"):
        pytest.skip("the page is written with the pinned version of typer")
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "reference.py"), "--check", page],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_job_file_of_the_reference_is_a_job_file() -> None:
    (block,) = code_blocks(ROOT / "docs" / "reference" / "job-file.md", "toml")
    (spec,) = specs_of_file(tomllib.loads(block))
    assert spec.name == "reduce-7"
    assert [item.name for item in spec.inputs] == ["run7.nxs", "calibration.nxs", "mask.xml"]


def test_the_job_files_keys_are_all_documented() -> None:
    from stager.server.schemas import InputIn, JobIn

    text = (ROOT / "docs" / "reference" / "job-file.md").read_text()
    for key in JobIn.model_fields:
        assert f"| `{key}` |" in text
    for key in InputIn.model_fields:
        assert f"| `inputs[].{key}` |" in text


def test_the_calls_of_the_api_are_all_documented_and_no_others(tmp_path: Path) -> None:
    from stager.metrics import Metrics
    from stager.server.app import create_app

    with SmallServer(tmp_path) as server:
        paths = create_app(server.jobs, "token", metrics=Metrics()).openapi()["paths"]
    exist = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    text = (ROOT / "docs" / "reference" / "http-api.md").read_text()
    written = re.findall(r"^\| `([A-Z]+) (/[^`]*)`", text, re.MULTILINE)
    assert {(method, re.sub(r"\{[^}]*\}", "{}", path)) for method, path in written} == {
        (method, re.sub(r"\{[^}]*\}", "{}", path)) for method, path in exist
    }


def test_the_cache_example_runs(tmp_path: Path) -> None:
    block = code_blocks(ROOT / "docs" / "how-to" / "python.md", "python")[1]
    model = tmp_path / "model.bin"
    model.write_bytes(b"weights")
    names: dict[str, object] = {}
    code = block.replace("/data/cache", str(tmp_path / "cache")).replace("/tmp/model.bin", str(model))
    exec(compile(code, "python.md", "exec"), names)
    cache = names["cache"]
    assert isinstance(cache, FileCache)
    assert names["head"] == b"weights"
    assert "model/7" not in cache
    assert cache.path("model/8").read_bytes() == b"..."


def test_every_python_example_compiles_and_names_what_exists() -> None:
    for page in PAGES:
        for block in code_blocks(page, "python"):
            compile(block, page.name, "exec")
            for line in block.splitlines():
                if line.startswith(("from stager", "import stager")):
                    exec(line, {})


def test_the_layout_of_the_cache_is_as_documented(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "cache")
    cache.put("key", b"bytes")
    cache.job_dir("job1")
    text = (ROOT / "docs" / "reference" / "cache.md").read_text()
    documented = set(re.findall(r"^      ([A-Za-z.]+)/?", text, re.MULTILINE))
    assert {path.name for path in cache.root.iterdir()} <= documented
    assert json.loads((cache.root / "layout.json").read_text())["version"] == 1
