"""The long path of benchmarks/long_path.py is as long, and as bad, as it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.guests import missing_parts
from tests.support.long_path import LongPath
from tests.support.needs import needs

_ANSWER = "import socket; s = socket.create_server(('', 8000))\nwhile True: s.accept()[0].close()"
_ASK = """
import socket, sys, time
for _ in range(40):
    began = time.perf_counter()
    try:
        socket.create_connection((sys.argv[1], 8000), timeout=5).close()
    except ConnectionRefusedError:  # it is not up yet
        time.sleep(0.1)
    else:
        print(time.perf_counter() - began)
"""


def test_what_passes_a_long_path_takes_its_time_and_some_is_lost(tmp_path: Path) -> None:
    missing = missing_parts("tc")
    needs(not missing, f"{', '.join(missing)} missing for a long path")
    with LongPath(tmp_path, round_trip_ms=50, loss_percent=10) as path:
        answering = subprocess.Popen([*path.far, sys.executable, "-c", _ANSWER])
        asked = [*path.near, sys.executable, "-c", _ASK, path.address]
        said = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
        to_near, to_far = path.passed()

        seconds = [float(line) for line in said.split()]
        assert len(seconds) > 20
        assert min(seconds) >= 0.05
        assert min(seconds) < 0.2
        assert min(to_near.packets, to_far.packets) > 40
        assert to_near.dropped + to_far.dropped > 0
    answering.wait(10)  # closing ends what runs at the ends


def test_a_path_leaves_nothing_behind(tmp_path: Path) -> None:
    missing = missing_parts("tc")
    needs(not missing, f"{', '.join(missing)} missing for a long path")
    with LongPath(tmp_path, round_trip_ms=1, loss_percent=0) as path:
        (near, far) = (words[-1] for words in (path.near, path.far))
        assert {near, far} <= _spaces()
    assert not {near, far} & _spaces()


def _spaces() -> set[str]:
    said = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    return {line.split()[0] for line in said.splitlines() if line.strip()}
