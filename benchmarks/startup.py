"""How long the command line takes to start: `stager --version`, with compiled bytecode.

Prints the median and the modules that cost most.

    python benchmarks/startup.py [--runs 20]
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

GOAL_SECONDS = 0.2
COMMANDS = (["--version"], ["--help"], ["cache", "path", "nothing"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as directory:
        environment = os.environ | {"PYTHONPYCACHEPREFIX": directory, "XDG_CACHE_HOME": directory}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        bare = _median([sys.executable, "-c", "pass"], runs, environment)
        print(f"{'python -c pass':28} {bare * 1000:6.0f} ms")
        for arguments in COMMANDS:
            seconds = _median([sys.executable, "-m", "stager", *arguments], runs, environment)
            print(f"{'stager ' + ' '.join(arguments):28} {seconds * 1000:6.0f} ms")
            if arguments == ["--version"]:
                print(f"  goal: below {GOAL_SECONDS} s: {'met' if seconds < GOAL_SECONDS else 'NOT MET'}")
        _imports(environment)


def _median(command: list[str], runs: int, environment: dict[str, str]) -> float:
    def once() -> float:
        began = time.perf_counter()
        subprocess.run(command, env=environment, capture_output=True, check=False)
        return time.perf_counter() - began

    once()  # compiles
    return statistics.median(once() for _ in range(runs))


def _imports(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "stager", "--version"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    times = re.findall(r"import time:\s+\d+ \|\s+(\d+) \| ( *)(\S+)", done.stderr)
    print("the dearest imports of `stager --version` (with what they import):")
    for cumulated, _, module in sorted(times, key=lambda found: -int(found[0]))[:8]:
        print(f"  {int(cumulated) / 1000:6.1f} ms  {module}")


if __name__ == "__main__":
    main()
