"""What files cost in a cache of 2+2, of 4+4 and of no shard directories: made, looked up, missed, walked.

    python benchmarks/layouts.py [--files 100000] [--directory DIR]

Figures are for one file, in microseconds, and as a ratio to 2+2. *create*: publish a small file and record its
entry, without fsync, which would hide everything else. *first*: its first look-up ever. *hit*: a look-up by
another process's first look, with the directories in the kernel's cache. *miss*: a key that is not there. *walk*: all
digests of the keys, in directory order. *migrate*: moved there from the layout in the line above, per file.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from stager.cache.migrate import Migration
from stager.cache.store import FileCache

LAYOUTS = ("2+2", "4+4", "flat")
SHOWN = ("create", "first", "hit", "miss", "walk", "migrate")
MOST_LOOKUPS = 50_000
"""Look-ups per figure: of so many random keys, or of all."""


def microseconds(act: Callable[[str], object], keys: Sequence[str]) -> float:
    """Per key."""
    begin = time.perf_counter()
    for key in keys:
        act(key)
    return (time.perf_counter() - begin) / len(keys) * 1e6


def figures(root: Path, shards: str, keys: Sequence[str]) -> dict[str, float]:
    """Of a cache made with these shards."""
    cache = FileCache(root, shards=shards, remember=0)
    some = random.Random(0).sample(keys, min(len(keys), MOST_LOOKUPS))
    found = {"create": microseconds(lambda key: cache.put(key, key.encode()), keys)}
    found["first"] = microseconds(FileCache(root, remember=0).get, some)
    found["hit"] = microseconds(FileCache(root, remember=0).get, some)
    found["miss"] = microseconds(FileCache(root, remember=0).get, [f"{key}/none" for key in some])
    begin = time.perf_counter()
    count = sum(1 for _ in cache._entries.digests())  # noqa: SLF001 - what `len` does before it looks at each
    found["walk"] = (time.perf_counter() - begin) / count * 1e6
    return found


def migration(root: Path, shards: str, count: int) -> float:
    """Microseconds per file."""
    begin = time.perf_counter()
    for _ in Migration(root, shards, grace_seconds=0).run(lambda _: None):
        pass
    return (time.perf_counter() - begin) / count * 1e6


def without_fsync() -> None:
    """Leave out what costs the same in every layout."""
    os.fsync = lambda _: None  # type: ignore[assignment]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=100_000, help="files in each cache (default 100000)")
    parser.add_argument(
        "--directory", type=Path, default=None, help="where to work (default: the temporary one)"
    )
    options = parser.parse_args()
    without_fsync()
    keys = [f"http://127.0.0.1:8000/run/{number:07d}.nxs" for number in range(options.files)]
    rows: dict[str, dict[str, float]] = {}
    with TemporaryDirectory(dir=options.directory) as work:
        for shards in LAYOUTS:
            rows[shards] = figures(Path(work) / shards, shards, keys)
        root = Path(work) / LAYOUTS[0]
        for shards in (*LAYOUTS[1:], LAYOUTS[0]):
            rows[shards]["migrate"] = migration(root, shards, len(keys))
    print(f"{len(keys)} files, Python {sys.version.split()[0]}; µs per file, and the ratio to {LAYOUTS[0]}")
    print(f"{'':8}" + "".join(f"{name:>18}" for name in SHOWN))
    for shards, row in rows.items():
        cells = (f"{row[name]:9.1f} ({row[name] / rows[LAYOUTS[0]][name]:5.2f})" for name in SHOWN)
        print(f"{shards:8}" + "".join(f"{cell:>18}" for cell in cells))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
