"""What a good origin loses while hostile ones do their worst, and after what time each of these is rid of.

One server, as many seats as all origins together may take; the hostile origins are a process of their own. Prints for
threads and for async I/O: how a fetch of each hostile origin ended, and the good origin's time alone and beside them.

    python benchmarks/hostile_origins.py [--runs 3]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
from tests.support.hostile import (
    FIRST,
    GOOD_BYTES,
    GOOD_FILES,
    LIMIT_SECONDS,
    MORE,
    SILENCE_SECONDS,
    Measured,
    measure,
)

GOAL = 2.0
"""Beside all of them, over alone: they share the processor, and must share nothing else."""


def once(farm: str) -> Measured:
    with tempfile.TemporaryDirectory(prefix="stager-bench-") as directory:
        return measure(Path(directory), farm)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    runs: int = parser.parse_args().runs
    print(
        f"{GOOD_FILES} good files of {GOOD_BYTES:,} bytes; of each hostile origin {FIRST} fetches at once and"
        f" {MORE} behind them; limits: silence {SILENCE_SECONDS:g} s, a try {LIMIT_SECONDS:g} s"
    )
    kept = True
    for farm in ("threads", "aio"):
        measured = [once(farm) for _ in range(runs)]
        print(f"\n{farm + ': an origin that':44} ends with          after at most")
        for kind in dict.fromkeys(ended.kind for ended in measured[0].ended):
            ends = [one for run in measured for one in run.ended if one.kind == kind]
            codes = ", ".join(sorted({one.code for one in ends}))
            print(f"  {kind:42} {codes:18} {max(one.seconds for one in ends):5.2f} s")
        ratios = [run.beside / run.alone for run in measured]
        ratio = statistics.median(ratios)
        kept &= ratio <= GOAL
        alone, beside = (
            statistics.median(t) for t in zip(*((m.alone, m.beside) for m in measured), strict=True)
        )
        print(
            f"  the good origin: alone {alone:.2f} s, beside them {beside:.2f} s, ratio {ratio:.2f} (goal: {GOAL:g})"
        )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
