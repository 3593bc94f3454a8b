"""Python's garbage collector in a server that holds many waiting jobs.

A full collection looks at every object; with 100,000 waiting jobs that stops all threads for a quarter
of a second, and by default it comes whenever the number of objects has grown by a quarter. Records are
freed by their reference counts, so only what is left over in cycles needs it: young objects are
collected often, as ever, and the old ones seldom, at a time of our own.
"""

from __future__ import annotations

import gc
import threading

YOUNG_OBJECTS = 20_000
"""New objects between two collections of the young ones: a few milliseconds of work."""
FULL_SECONDS = 3600.0
"""Between two full collections."""
_NEVER = 1_000_000_000


def tune_collector() -> None:
    """For the process of a server, once, after it has imported what it needs."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 1, _NEVER)
    threading.Thread(target=_collect_seldom, name="collector", daemon=True).start()


def _collect_seldom() -> None:
    pause = threading.Event()
    while not pause.wait(FULL_SECONDS):
        gc.collect()
