"""Job: put the runs of all angles on one absolute scale.

Reads run-*.dat and calibration.txt, writes reflectivity.dat, plot.txt and stitch.json.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from plot import log_plot
from reflectivity import critical_q
from runs import Point, read_run, write_run

SUBSTRATE_SLD = 2.07
"""Of silicon, 1e-6/Å²; below its critical Q nothing gets through, so that R must be 1 there."""


def main() -> None:
    """Inputs to results."""
    inputs, results = Path(os.environ["STAGER_INPUTS"]), Path(os.environ["STAGER_RESULTS"])
    calibration = read_run(inputs / "calibration.txt").header
    efficiency = float(calibration["efficiency"])
    points = sorted(
        Point(p.q, p.r / efficiency, p.dr / efficiency, p.dq)
        for path in sorted(inputs.glob("run-*.dat"))
        for p in read_run(path).points
    )
    total = [p for p in points if p.q < 0.9 * critical_q(SUBSTRATE_SLD)]
    weight = sum(p.dr**-2 for p in total)
    plateau, error = sum(p.r / p.dr**2 for p in total) / weight, weight**-0.5

    write_run(
        results / "reflectivity.dat", {"efficiency": efficiency, "columns": "Q(1/A) R dR dQ(1/A)"}, points
    )
    (results / "plot.txt").write_text(log_plot([(p.q, p.r) for p in points], "Q (1/Å)", "R"), "utf-8")
    (results / "stitch.json").write_text(
        json.dumps({"plateau": plateau, "error": error, "points": len(points)})
    )
    print(
        f"R = {plateau:.3f} ± {error:.3f} in total reflection (efficiency {efficiency}, {calibration['measured']})"
    )


if __name__ == "__main__":
    main()
