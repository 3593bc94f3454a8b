"""Manual pages: one for each command, and the formatter has nothing to say about them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from stager.cli.app import build
from tests.support.needs import needs

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("man")
    subprocess.run([sys.executable, str(ROOT / "scripts" / "man.py"), str(target)], check=True)
    return target


def test_every_command_has_a_page_that_says_what_it_does(pages: Path) -> None:
    app = typer.main.get_command(build({}))
    names = {"stager"}
    for word, command in app.commands.items():  # type: ignore[attr-defined]  # a group has them
        if not command.hidden:
            names |= {
                f"stager-{word}",
                *(f"stager-{word}-{below}" for below in getattr(command, "commands", ())),
            }
    assert {page.stem for page in pages.iterdir()} == names
    for page in pages.iterdir():
        text = page.read_text()
        assert ".SH SYNOPSIS" in text
        assert text.partition(".SH NAME\n")[2].partition(" \\- ")[2].strip(), page.name


def test_the_formatter_has_nothing_to_say(pages: Path) -> None:
    needs(shutil.which("groff"), "groff is not installed")
    files = sorted(str(page) for page in pages.iterdir())
    done = subprocess.run(
        ["groff", "-man", "-ww", "-z", "-Tutf8", "-Kutf8", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
