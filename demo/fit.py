"""Job: thickness of the nickel and the titanium layer from the measured reflectivity.

    python fit.py [RESAMPLES]

A search over the nickel thickness finds the right minimum of chi²; Gauss-Newton steps with
Levenberg's damping refine all parameters. The uncertainty is the spread of fits to RESAMPLES data
sets, each the best curve with new counting noise. Reads run-*.dat, writes fit.json and curve.dat.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import stdev

from reflectivity import Layer, measured
from runs import Point, read_run, write_run

NAMES = ("nickel_thickness", "titanium_thickness", "roughness", "scale")
START = (300.0, 60.0, 4.0, 1.0)
"""Å, Å, Å, 1: what whoever made the film aimed at."""
SEARCH = range(200, 460, 8)
"""Nickel thicknesses, Å; the steps are shorter than half a fringe."""
STEP = 1e-4
"""Relative step of numerical derivatives."""
ENOUGH = 1e-4
"""Relative gain of chi² at which the fit stops."""

Vector = Sequence[float]


def main(resamples: int) -> None:
    """Inputs to results."""
    inputs, results = Path(os.environ["STAGER_INPUTS"]), Path(os.environ["STAGER_RESULTS"])
    points = [p for path in sorted(inputs.glob("run-*.dat")) for p in read_run(path).points]
    start = min(((float(d), *START[1:]) for d in SEARCH), key=lambda values: chi2(points, values))
    best = fit(points, start)
    spread = [stdev(column) for column in zip(*_resampled(points, best, resamples), strict=True)]
    reduced = chi2(points, best) / (len(points) - len(best))

    values = {name: {"value": v, "error": e} for name, v, e in zip(NAMES, best, spread, strict=True)}
    (results / "fit.json").write_text(json.dumps({"reduced_chi2": reduced, **values}, indent=2) + "\n")
    curve = [Point(p.q, r, 0.0, p.dq) for p, r in zip(points, model(points, best), strict=True)]
    write_run(results / "curve.dat", {"reduced_chi2": f"{reduced:.3f}"}, curve)
    print(
        f"Ni {best[0]:.2f} ± {spread[0]:.2f} Å, Ti {best[1]:.2f} ± {spread[1]:.2f} Å, "
        f"scale {best[3]:.4f} ± {spread[3]:.4f}, reduced χ² {reduced:.2f}"
    )


def model(points: Sequence[Point], values: Vector) -> list[float]:
    """The curve that these parameters predict."""
    nickel, titanium, roughness, scale = values
    stack = (
        Layer(0.0),
        Layer(9.4, nickel, roughness),
        Layer(-1.95, titanium, roughness),
        Layer(2.07, roughness=roughness),
    )
    return [scale * measured(p.q, p.dq, stack) for p in points]


def chi2(points: Sequence[Point], values: Vector) -> float:
    """Squared distance of the data from the curve, in units of their standard deviations."""
    return sum(x * x for x in _residuals(points, values))


def fit(points: Sequence[Point], start: Vector) -> tuple[float, ...]:
    """The parameters at the minimum of chi² next to `start`."""
    values, damping = tuple(start), 1e-3
    distance = chi2(points, values)
    while damping < 1e9:
        trial = _step(points, values, damping)
        new = chi2(points, trial)
        if new >= distance:
            damping *= 10
            continue
        gain = (distance - new) / distance
        values, distance, damping = trial, new, damping / 10
        if gain < ENOUGH:
            break
    return values


def _residuals(points: Sequence[Point], values: Vector) -> list[float]:
    return [(p.r - r) / p.dr for p, r in zip(points, model(points, values), strict=True)]


def _step(points: Sequence[Point], values: Vector, damping: float) -> tuple[float, ...]:
    """One damped Gauss-Newton step: solve (JᵀJ + damping · diagonal) δ = Jᵀ residuals."""
    here = _residuals(points, values)
    columns = []
    for index, value in enumerate(values):
        moved = [*values]
        moved[index] = value * (1 + STEP)
        there = _residuals(points, moved)
        columns.append([(a - b) / (value * STEP) for a, b in zip(here, there, strict=True)])
    normal = [[_dot(a, b) for b in columns] for a in columns]
    for index, row in enumerate(normal):
        row[index] *= 1 + damping
    delta = _solve(normal, [_dot(column, here) for column in columns])
    return tuple(v + d for v, d in zip(values, delta, strict=True))


def _dot(left: Vector, right: Vector) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def _solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Gauss elimination; the matrix is positive definite, so no pivot is needed."""
    rows = [[*row, b] for row, b in zip(matrix, right, strict=True)]
    for i, pivot in enumerate(rows):
        for row in rows[i + 1 :]:
            factor = row[i] / pivot[i]
            row[i:] = [a - factor * b for a, b in zip(row[i:], pivot[i:], strict=True)]
    found: list[float] = []
    for i in range(len(rows) - 1, -1, -1):
        known = sum(a * x for a, x in zip(rows[i][i + 1 : -1], found, strict=True))
        found.insert(0, (rows[i][-1] - known) / rows[i][i])
    return found


def _resampled(points: Sequence[Point], best: Vector, times: int) -> list[tuple[float, ...]]:
    """Fits to data that could have been measured as well."""
    rng = random.Random(1)
    curve = model(points, best)
    found = []
    for _ in range(times):
        other = [p._replace(r=rng.gauss(r, p.dr)) for p, r in zip(points, curve, strict=True)]
        found.append(fit(other, best))
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
