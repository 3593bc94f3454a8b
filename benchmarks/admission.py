"""How fast the queue of fetches is filled and drained, and what it costs to hold.

Pure computing: no database, no transfers. Prints, for some mixes of origins, owners and seats, fetches
per second of processor time; and bytes of memory per waiting fetch, with the last mix.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections import deque

from stager.mapper.admission import Admission

MIXES = ((1, 1, 8), (1, 10, 32), (1, 1000, 32), (1000, 1, 64), (1000, 10, 64), (1000, 1000, 1000))
"""Origins, owners, seats at once."""
PER_ORIGIN = 6
NOW = 1e9


def filled(fetches: int, origins: int, owners: int, slots: int) -> Admission:
    admission = Admission(slots=slots, per_origin=PER_ORIGIN)
    for number in range(fetches):
        admission.add(
            f"fetch{number:09}",
            origin=f"https://host{number % origins}.example.org",
            key=f"https://host{number % origins}.example.org/run/{number:09}.nxs",
            priority=0,
            owner=f"user{number % owners}",
            since=NOW - fetches + number,
        )
    return admission


def drain(admission: Admission) -> None:
    running: deque[str] = deque()
    while True:
        for seat in admission.pick(NOW):
            running += seat
        if not running:
            return
        admission.ended(running.popleft(), size=1000, now=NOW)


def measure(fetches: int, origins: int, owners: int, slots: int) -> None:
    began = time.process_time()
    admission = filled(fetches, origins, owners, slots)
    queued = time.process_time()
    drain(admission)
    drained = time.process_time()
    print(
        f"  {origins:5} origins {owners:5} owners {slots:5} seats"
        f"   queued {fetches / (queued - began):9,.0f}/s   drained {fetches / (drained - queued):9,.0f}/s"
    )


def memory(fetches: int) -> None:
    tracemalloc.start()
    admission = filled(fetches, *MIXES[-1])
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    print(f"  {held / len(admission):.0f} bytes of memory per waiting fetch, its id, key and origin included")


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--fetches", type=int, default=100_000)
    fetches = options.parse_args().fetches
    print(f"{fetches} fetches queued, then drained")
    for mix in MIXES:
        measure(fetches, *mix)
    memory(fetches)


if __name__ == "__main__":
    main()
