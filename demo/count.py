"""Job: a histogram of the detector's events, over ``pixel`` or ``flight`` (time-of-flight bins).

    python count.py pixel|flight

Reads events.bin (two bytes per neutron: pixel, bin) a block at a time, writes histogram.json.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path

BLOCK_BYTES = 1 << 20
COLUMNS = {"pixel": 0, "flight": 1}


def main(axis: str) -> None:
    """Inputs to results."""
    inputs, results = Path(os.environ["STAGER_INPUTS"]), Path(os.environ["STAGER_RESULTS"])
    counts: Counter[int] = Counter()
    with (inputs / "events.bin").open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            counts.update(block[COLUMNS[axis] :: 2])
    total = counts.total()
    centre = sum(place * count for place, count in counts.items()) / total
    histogram = [counts[place] for place in range(256)]
    found = {"events": total, "centre": centre, "histogram": histogram}
    (results / "histogram.json").write_text(json.dumps(found))
    print(f"{total} events, centre of the {axis} histogram at {centre:.2f}")


if __name__ == "__main__":
    main(sys.argv[1])
