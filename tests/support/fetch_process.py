"""One try of one fetch in a process of its own, which may be killed at a scripted step.

    python -m tests.support.fetch_process CACHE URL SEGMENTS [STEP COUNT]

Prints the result as JSON. With STEP it is killed, as by kill -9, when that step is reached the
COUNT-th time. Several streams are tried early, so that it needs no large file.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from stager import steps
from stager.cache.store import FileCache
from stager.model.fetches import FetchOrder, FetchRequest
from stager.settings import load_settings
from stager.transfer import segments, streams
from stager.transfer.fetcher import Fetcher
from stager.transfer.http import HttpTransport
from stager.transfer.options import TransferOptions
from stager.wiring import build_reach

PATIENCE = 60.0


def run(cache: Path, url: str, *at: str, segments: int = 6) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    command = [sys.executable, "-m", "tests.support.fetch_process", str(cache), url, str(segments), *at]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)


def result(process: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What it printed."""
    assert process.returncode == 0, process.stderr
    data: dict[str, Any] = json.loads(process.stdout)
    return data


def eager() -> None:
    """Try several streams within fractions of a second."""
    streams.READING_SECONDS = streams.WORTH_SECONDS = 0.1
    streams.SETTLING_SECONDS = 0.3
    streams.LEAST_BLOCK = 200_000
    segments.SAVE_SECONDS = float(os.environ.get("SAVE_SECONDS", "0.1"))
    streams.SPLIT_BYTES = 500_000


def main() -> None:
    cache, url, most, *at = sys.argv[1:]
    if at:
        assert at[0] in (*steps.STEPS, *steps.SEGMENT_STEPS), at
        left = int(at[1])

        def observer(step: str) -> None:
            nonlocal left
            left -= step == at[0]
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        steps.observe(observer)
    eager()
    options = TransferOptions(segments=int(most))
    fetcher = Fetcher(FileCache(cache), HttpTransport(reach=build_reach(load_settings())), options=options)
    result = fetcher.fetch(FetchOrder("f", 1, FetchRequest(url)))
    fetcher.close()
    shown = {name: str(getattr(result, name)) for name in ("path", "sha256")}
    sys.stdout.write(json.dumps(shown))


if __name__ == "__main__":
    main()
