"""What a hit costs, ours and others', in microseconds.

    python benchmarks/hit.py [--keys 20000] [--directory DIR]

warm: a key asked for before by this `FileCache`. cold: the first `get` of each of many keys, in a fresh
`FileCache` (so that nothing is remembered) with the directories in the kernel's cache, and not the first
`get` ever of that key, which reads the entry and makes its link (its own line: first). The time of the
access is written later, outside of the hit, and is shown on its own line. Baseline: SHA-256 of
the key, the path built from it, one `os.stat` of an existing file; once with the path as text, which is
the least that could be done, and once as the `Path` that a caller is given.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from stager.cache.store import FileCache

ROUNDS = 7
BODY = b"x" * 4096


def microseconds(act: Callable[[str], object], keys: Sequence[str]) -> float:
    """Per key."""
    begin = time.perf_counter()
    for key in keys:
        act(key)
    return (time.perf_counter() - begin) / len(keys) * 1e6


def rounds(make: Callable[[], Callable[[str], object]], keys: Sequence[str], number: int = ROUNDS) -> float:
    """The median over rounds, each with what `make` makes anew."""
    found = []
    for _ in range(number):
        act = make()
        gc.collect()
        found.append(microseconds(act, keys))
    return median(found)


def our_figures(root: Path, keys: Sequence[str]) -> dict[str, float]:
    """Ours, and the baselines."""
    cache = FileCache(root)
    for key in keys:
        cache.put(key, BODY)

    def text_path(key: str) -> object:
        name = sha256(key.encode()).hexdigest()
        return os.stat(f"{root}/entries/{name[:2]}/{name[2:4]}/{name}.json")  # noqa: PTH116

    def real_path(key: str) -> object:
        name = sha256(key.encode()).hexdigest()
        path = Path(f"{root}/entries/{name[:2]}/{name[2:4]}/{name}.json")
        path.stat()
        return path

    keep: list[FileCache] = []

    def cold() -> Callable[[str], object]:
        keep[:] = [FileCache(root)]
        return keep[0].get

    first = microseconds(cache.get, keys)  # makes the links that the others follow
    cold_cost = rounds(cold, keys)
    begin = time.perf_counter()
    keep[0].close()
    later = (time.perf_counter() - begin) / len(keys) * 1e6
    return {
        "baseline, path as text": rounds(lambda: text_path, keys),
        "baseline, path as Path": rounds(lambda: real_path, keys),
        "stager, first ever": first,
        "stager, cold": cold_cost,
        "stager, warm": rounds(lambda: cache.get, keys),
        "  access time, once a minute": later,
    }


def pooch_figure(directory: Path) -> float:
    pooch = import_module("pooch")

    names = [f"file-{number}" for number in range(200)]
    directory.mkdir()
    for name in names:
        (directory / name).write_bytes(BODY)
    fetcher = pooch.create(
        directory, "http://127.0.0.1:9/", registry=dict.fromkeys(names, sha256(BODY).hexdigest())
    )
    return rounds(lambda: fetcher.fetch, names)


def diskcache_figure(directory: Path) -> float:
    diskcache = import_module("diskcache")

    keys = [f"http://127.0.0.1/{number}" for number in range(500)]
    with diskcache.Cache(directory) as cache:
        for key in keys:
            cache.set(key, BODY)
        return rounds(lambda: cache.get, keys)


def fsspec_figure(directory: Path) -> float:
    fsspec = import_module("fsspec")

    origin = directory / "origin"
    origin.mkdir(parents=True)
    names = [str(origin / f"file-{number}") for number in range(200)]
    for name in names:
        Path(name).write_bytes(BODY)
    files = fsspec.filesystem("filecache", target_protocol="file", cache_storage=str(directory / "cache"))

    def opened(name: str) -> None:
        with files.open(name) as file:
            file.read(1)

    for name in names:
        opened(name)
    return rounds(lambda: opened, names, 3)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keys", type=int, default=20_000, help="entries in the cache (default 20000)")
    parser.add_argument(
        "--directory", type=Path, default=None, help="where to work (default: memory, /dev/shm)"
    )
    options = parser.parse_args()
    place = options.directory or (Path("/dev/shm") if Path("/dev/shm").is_dir() else None)
    keys = [f"http://127.0.0.1:8000/run/{number:07d}.nxs" for number in range(options.keys)]
    with TemporaryDirectory(dir=place) as work:
        ours = our_figures(Path(work) / "cache", keys)
        peers: dict[str, float | None] = {}
        for name, figure in (
            ("pooch fetch, 4 KiB", pooch_figure),
            ("diskcache get, 4 KiB", diskcache_figure),
            ("fsspec filecache open", fsspec_figure),
        ):
            try:
                peers[name] = figure(Path(work) / name.partition(" ")[0])
            except ImportError:
                peers[name] = None
    text, path = ours["baseline, path as text"], ours["baseline, path as Path"]
    print(f"{options.keys} entries, median of {ROUNDS} rounds, Python {sys.version.split()[0]}")
    print(f"{'':28}{'µs':>8}{'to text':>9}{'to Path':>9}")
    for name, value in {**ours, **peers}.items():
        if value is None:
            print(f"{name:28}{'not installed':>17}")
        else:
            print(f"{name:28}{value:8.2f}{value / text:9.2f}{value / path:9.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
