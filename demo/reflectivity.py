"""Specular neutron reflectivity of a stack of layers, by Parratt's recursion.

Lengths are in Å, wave-vector transfer Q in 1/Å, scattering length densities (SLD) in 1e-6/Å².

Sources: L. G. Parratt, Phys. Rev. 95, 359 (1954); roughness: L. Névot and P. Croce,
Rev. Phys. Appl. 15, 761 (1980).
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence
from dataclasses import dataclass

SMEARING = [(x / 2, math.exp(-((x / 2) ** 2) / 2)) for x in range(-5, 6)]
"""Offsets in standard deviations and weights that stand for a Gaussian resolution."""
SMEARING_SUM = sum(weight for _, weight in SMEARING)


@dataclass(frozen=True)
class Layer:
    """One medium; the first of a stack is where the beam comes from, the last is the substrate.

    Attributes:
        sld: scattering length density, 1e-6/Å².
        thickness: Å; without meaning for the first and the last.
        roughness: of its upper surface, standard deviation in Å.
    """

    sld: float
    thickness: float = 0.0
    roughness: float = 0.0


def reflectivity(q: float, stack: Sequence[Layer]) -> float:
    """Reflected intensity, 0 to 1, at one exact Q."""
    above = stack[0].sld
    waves = [cmath.sqrt((q / 2) ** 2 - 4e-6 * math.pi * (layer.sld - above) + 0j) for layer in stack]
    amplitude = 0j
    for upper in range(len(stack) - 2, -1, -1):
        k, below, layer = waves[upper], waves[upper + 1], stack[upper + 1]
        fresnel = (k - below) / (k + below) if k + below else 0j
        fresnel *= cmath.exp(-2 * k * below * layer.roughness**2)
        amplitude *= cmath.exp(2j * below * layer.thickness)
        amplitude = (fresnel + amplitude) / (1 + fresnel * amplitude)
    return abs(amplitude) ** 2


def measured(q: float, dq: float, stack: Sequence[Layer]) -> float:
    """Reflectivity as an instrument with a Gaussian resolution of standard deviation `dq` sees it."""
    total = sum(weight * reflectivity(q + step * dq, stack) for step, weight in SMEARING)
    return total / SMEARING_SUM


def critical_q(sld: float) -> float:
    """Q below which a thick layer reflects totally."""
    return 4 * math.sqrt(math.pi * sld * 1e-6)
