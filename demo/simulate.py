"""Makes the demo's data. All of it is SIMULATED: no instrument has measured any of this.

A nickel film on titanium on silicon, measured by a neutron reflectometer at three angles, and the
events of its detector. The same seed gives the same bytes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from hashlib import sha256
from itertools import accumulate
from pathlib import Path

from reflectivity import Layer, measured
from runs import Point, write_run

SAMPLE = (
    Layer(0.0),  # air
    Layer(9.4, thickness=318.0, roughness=6.0),  # nickel
    Layer(-1.95, thickness=72.0, roughness=6.0),  # titanium
    Layer(2.07, roughness=6.0),  # silicon
)
EFFICIENCY = 0.931
"""Of the simulated detector: every measured intensity is too small by this factor."""
OLD_EFFICIENCY = 0.985
"""What the first calibration file says, from before the detector aged."""
ANGLES = {
    "run-1.dat": (0.5, 0.005, 0.036, 300),
    "run-2.dat": (1.2, 0.028, 0.090, 1200),
    "run-3.dat": (2.6, 0.075, 0.190, 4800),
}
"""File: angle in degrees, lowest and highest Q in 1/Å, counting time in s."""
POINTS = 60
RESOLUTION = 0.022
"""dQ/Q, standard deviation."""
RATE = {"run-1.dat": 2e3, "run-2.dat": 9e3, "run-3.dat": 1.2e5}
"""Neutrons per second that reach the sample through the slits, per point."""

BEAM_PIXEL, BEAM_WIDTH = 141.0, 9.0
"""Where the simulated beam hits the detector, and the standard deviation, in pixels of 256."""
FLIGHT_BIN, FLIGHT_WIDTH = 88.0, 30.0
"""The same for the time of flight, in bins of 256."""
EVENT_BYTES = 2
"""Pixel and time-of-flight bin of one neutron."""
BLOCK_EVENTS = 1 << 19


def simulate(directory: Path, event_bytes: int, seed: int = 20) -> None:
    """Write runs, first calibration, reference and events into `directory`."""
    rng = random.Random(seed)
    for name, (angle, low, high, seconds) in ANGLES.items():
        header = {
            "title": f"SIMULATED neutron reflectivity, Ni/Ti/Si at {angle} degrees",
            "angle_deg": angle,
            "time_s": seconds,
            "columns": "Q(1/A) R dR dQ(1/A)",
        }
        write_run(directory / name, header, _measure(rng, low, high, RATE[name] * seconds / POINTS))
    write_calibration(directory, OLD_EFFICIENCY, "last cycle")
    write_run(directory / "reference.dat", {"title": "SIMULATED bare silicon"}, _measure(rng, 0.01, 0.1, 1e6))
    with (directory / "events.bin").open("wb") as file:
        file.writelines(_events(rng, event_bytes // EVENT_BYTES))


def write_calibration(directory: Path, efficiency: float, measured_at: str) -> None:
    """Replace the calibration file, whole: a reader sees the old one or the new one."""
    draft = directory / ".calibration"
    write_run(
        draft,
        {"title": "SIMULATED detector calibration", "measured": measured_at, "efficiency": efficiency},
        [],
    )
    draft.replace(directory / "calibration.txt")


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        found = sha256()
        while block := file.read(1 << 20):
            found.update(block)
        return found.hexdigest()


def _measure(rng: random.Random, low: float, high: float, neutrons: float) -> Iterator[Point]:
    """Points at equal distances in log Q, counted until `neutrons` have hit the sample at each."""
    for index in range(POINTS):
        q = low * (high / low) ** (index / (POINTS - 1))
        dq = q * RESOLUTION
        counts = _poisson(rng, neutrons * EFFICIENCY * measured(q, dq, SAMPLE))
        yield Point(q, counts / neutrons, math.sqrt(max(counts, 1)) / neutrons, dq)


def _poisson(rng: random.Random, mean: float) -> int:
    """A random count: neutrons that arrive one by one, or, when they are many, the normal limit."""
    if mean > 100:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    count, waited = -1, 0.0
    while waited < mean:
        waited += rng.expovariate(1.0)
        count += 1
    return count


def _events(rng: random.Random, count: int) -> Iterator[bytes]:
    pixels, bins = _table(BEAM_PIXEL, BEAM_WIDTH), _table(FLIGHT_BIN, FLIGHT_WIDTH)
    for start in range(0, count, BLOCK_EVENTS):
        length = min(BLOCK_EVENTS, count - start)
        block = bytearray(EVENT_BYTES * length)
        block[0::2] = rng.randbytes(length).translate(pixels)
        block[1::2] = rng.randbytes(length).translate(bins)
        yield bytes(block)


def _table(centre: float, width: float) -> bytes:
    """Turns a byte that is anything with equal odds into one that is Gaussian: 256 steps of the quantile."""
    density = [math.exp(-(((x - centre) / width) ** 2) / 2) for x in range(256)]
    below = [part / sum(density) for part in accumulate(density)]
    return bytes(
        next(x for x, share in enumerate(below) if share >= (level + 0.5) / 256) for level in range(256)
    )
