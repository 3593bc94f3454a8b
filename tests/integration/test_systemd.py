"""The units of deploy/systemd, as systemd reads them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from stager.cli import main
from stager.settings import Settings
from tests.support.commandline import command
from tests.support.needs import needs

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
SERVICES = sorted(UNITS.glob("*.service"))
INSTALLED = "/opt/stager/bin/stager"
MOST_EXPOSED = {"stager": 5.0, "stager-fetch": 2.0}
"""By systemd's own reckoning, of 10; what runs jobs of users is as open as these need it."""


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units where systemd finds them, with a program that exists and the drop-in beside them."""
    needs(shutil.which("systemd-analyze"), "systemd is not installed")
    program = tmp_path / "stager"
    program.symlink_to("/bin/true")
    directory = tmp_path / "units"
    directory.mkdir()
    for unit in [*SERVICES, *UNITS.glob("*.socket")]:
        (directory / unit.name).write_text(unit.read_text().replace(INSTALLED, str(program)))
    drop_in = directory / "stager.service.d"
    drop_in.mkdir()
    shutil.copy(UNITS / "credentials.conf", drop_in)
    return directory


def test_systemd_finds_nothing_wrong_with_the_units(units: Path) -> None:
    files = [str(unit) for unit in units.iterdir() if unit.is_file()]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_mistake_in_a_unit_would_be_found(units: Path) -> None:
    unit = units / "stager.service"
    unit.write_text(unit.read_text().replace("KillMode=process", "KillMode=proces"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert "kill mode" in done.stderr


@pytest.mark.parametrize("name", MOST_EXPOSED)
def test_a_unit_is_as_closed_as_it_says(units: Path, name: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(units / f"{name}.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= MOST_EXPOSED[name]


@pytest.mark.parametrize("unit", SERVICES, ids=lambda path: path.stem)
def test_what_a_unit_starts_and_sets_exists(unit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = unit.read_text()
    (words,) = re.findall(rf"^ExecStart={INSTALLED} (.*)$", text, re.MULTILINE)
    assert main([*words.split(), "--help"]) == 0, capsys.readouterr().err
    variables = re.findall(r"STAGER_(\w+)=", text + (UNITS / "credentials.conf").read_text())
    assert {name.lower() for name in variables} - {"config"} <= set(Settings.model_fields)


def test_a_word_of_a_command_that_does_not_exist_would_be_found() -> None:
    assert main(["serve", "--standbye", "--help"]) == 2


@pytest.mark.parametrize(
    ("typed", "offered"), [("stager cac", ["cache"]), ("stager cache pu", ["purge", "put"])]
)
def test_a_shell_completes_commands(typed: str, offered: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = typed.split()
    environment = {
        "_STAGER_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(words) - 1),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run(command(), capture_output=True, text=True, check=False)
    assert [line.strip() for line in done.stdout.split()] == offered
