"""Job: how long the last angle has to be measured again until its weakest point is known to 5 %.

Reads run-3.dat, writes plan.json.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from runs import read_run

WANTED = 0.05
"""Relative standard deviation; it falls with the square root of the counting time."""


def main() -> None:
    """Inputs to results."""
    inputs, results = Path(os.environ["STAGER_INPUTS"]), Path(os.environ["STAGER_RESULTS"])
    run = read_run(inputs / "run-3.dat")
    worst = max(run.points, key=lambda p: p.dr / p.r if p.r else 1.0)
    now = worst.dr / worst.r if worst.r else 1.0
    seconds = float(run.header["time_s"]) * (now / WANTED) ** 2
    (results / "plan.json").write_text(json.dumps({"q": worst.q, "relative_error": now, "seconds": seconds}))
    print(
        f"{seconds / 3600:.1f} h at {run.header['angle_deg']}° take R({worst.q:.3f}/Å) from {now:.0%} to {WANTED:.0%}"
    )


if __name__ == "__main__":
    main()
