"""How long it takes to see what is in a cache of a million files, beside `find` on the same tree.

The tree is made by this program: tiny objects and their entries, as a server would leave them. Each figure is
the best of some runs of the whole command, start-up included.

    python benchmarks/snapshot.py [--files 1000000] [--directory DIR] [--shards 2+2] [--runs 5]
        [--rebuild-only] [--tree CACHE]
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

from support import memory_directory

from stager.cache.store import FileCache
from stager.model.entries import Entry, Validators
from stager.model.keys import key_digest

LIST_SHARE, REBUILD_TIMES = 0.01, 4.0
"""Goals: a list takes at most this share of find, sort and head; a rebuild at most so many times find."""
LARGEST = "find {} -type f -printf '%s %p\\n' | sort -n | head -100"
OLDEST = "find {} -type f -printf '%T@ %p\\n' | sort -n | head -100"
ALL = "find {} -printf '%s %p\\n'"


def make_tree(root: Path, files: int, shards: str) -> None:
    """A cache of so many files."""
    layout = FileCache(root, shards=shards).tree.layout
    chance = random.Random(1)
    now = time.time()
    made: set[str] = set()
    for number in range(files):
        key = f"https://data{number % 17}.example.org/instrument/{number % 100:02}/run{number:07}.nxs"
        data = b"x" * chance.randrange(30) + str(number).encode()
        object_ = sha256(data).hexdigest()
        entry = Entry(
            key,
            object_,
            len(data),
            now - chance.random() * 1e7,
            now,
            key,
            Validators(etag=f'"{object_[:16]}"'),
            owner=f"user{number % 9}",
        )
        digest = key_digest(key)
        _write(f"{root}/{layout.object(object_)}", data, made)
        path = f"{root}/{layout.entry(digest)}"
        _write(path, entry.to_json(), made)
        at = now - chance.random() * 1e7
        os.utime(path, (at, at))


def _write(path: str, data: bytes, made: set[str]) -> None:
    directory = path.rpartition("/")[0]
    if directory not in made:
        Path(directory).mkdir(parents=True, exist_ok=True)
        made.add(directory)
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
    os.write(fd, data)
    os.close(fd)


def best(command: list[str], runs: int, environment: dict[str, str]) -> tuple[float, float]:
    """Wall clock and CPU seconds of the quickest run."""
    found = []
    for _ in range(runs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        subprocess.run(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
        )
        wall = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append((wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    return min(found)


def measure(root: Path, state: Path, runs: int, *, lists: bool = True) -> None:
    """Print all figures; without those of lists if they are not wanted."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STAGER_")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment |= {
        "STAGER_CACHE_DIR": str(root),
        "STAGER_STATE_DIR": str(state),
        "PYTHONPYCACHEPREFIX": str(state / "pyc"),
    }
    stager = [sys.executable, "-m", "stager"]

    def find(pipe: str) -> tuple[float, float]:
        return best(["bash", "-c", pipe.format(root)], min(runs, 3), environment)

    walked, rebuilt = find(ALL), best([*stager, "cache", "rebuild"], min(runs, 2), environment)
    _say("find -printf", walked)
    _say("stager cache rebuild", rebuilt, rebuilt[0] / walked[0], REBUILD_TIMES, "of find")
    for sort, pipe in (("size", LARGEST), ("access", OLDEST)) if lists else ():
        other = find(pipe)
        _say(pipe.format("ROOT"), other)
        own = best([*stager, "cache", "ls", "--sort", sort, "--limit", "100"], runs, environment)
        _say(f"stager cache ls --sort {sort} --limit 100", own, own[0] / other[0], LIST_SHARE, "of that")


def _say(what: str, took: tuple[float, float], ratio: float = 0.0, goal: float = 0.0, of: str = "") -> None:
    judged = ""
    if goal:
        judged = f"  {ratio:.4g} {of}; goal: at most {goal:g}: {'met' if ratio <= goal else 'NOT MET'}"
    print(f"{what:62} {took[0]:8.3f} s ({took[1]:.3f} s CPU){judged}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--directory", type=Path, help="where the tree is made; by default in memory")
    parser.add_argument("--shards", default="2+2")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rebuild-only", action="store_true", help="leave out the lists")
    parser.add_argument("--tree", type=Path, help="a cache that is there already; none is made")
    given = parser.parse_args()
    if given.tree is not None:
        with tempfile.TemporaryDirectory(dir=given.tree.parent, prefix="stager-bench-") as state:
            measure(given.tree, Path(state), given.runs, lists=not given.rebuild_only)
        return
    within = (
        memory_directory()
        if given.directory is None
        else tempfile.TemporaryDirectory(dir=given.directory, prefix="stager-bench-")
    )
    with within as place:
        root, state = Path(place, "cache"), Path(place, "state")
        began = time.perf_counter()
        make_tree(root, given.files, given.shards)
        print(f"{given.files:,} files, shards {given.shards}, made in {time.perf_counter() - began:.0f} s")
        measure(root, state, given.runs, lists=not given.rebuild_only)


if __name__ == "__main__":
    main()
