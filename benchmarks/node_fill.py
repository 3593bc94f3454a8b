"""Filling a node's own cache with one large object, beside `cp` and `openssl dgst -sha256` of the same file.

The copy and the hash are what has to be done by any means. A fill does both at once, and ends with an object that
survives a power cut, so there is a line for a copy with `sync` too. From the share (a directory) and from a server on
this machine.

    python benchmarks/node_fill.py [--mebibytes 1024] [--runs 5] [--directory DIR]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from stager.cache.store import FileCache
from stager.settings import Settings
from stager.wiring.near import build_near
from tests.support.processes import ServerProcess

GOAL = 1.2
"""Of the time of copy and hash."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--directory", help="Where the files are; by default where temporary ones are.")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(dir=options.directory, prefix="stager-bench-"))
    try:
        with ServerProcess(root) as server:
            source = root / "file"
            _write(source, options.mebibytes)
            entry = FileCache(root / "cache").put("file", source)
            os.environ["STAGER_TOKEN"] = (root / "state" / "token").read_text().strip()
            there = str(FileCache(root / "cache").object_path(entry.object))

            def copy(*, durable: bool) -> None:
                target = root / "copy"
                subprocess.run(["cp", there, target], check=True)
                if durable:
                    subprocess.run(["sync", target], check=True)
                subprocess.run(["openssl", "dgst", "-sha256", target], check=True, stdout=subprocess.DEVNULL)
                target.unlink()

            def fill(source: str) -> Callable[[], None]:
                return lambda: _fill(root, server.url, source, entry.object, entry.size)

            actions = {
                "cp, openssl dgst": partial(copy, durable=False),
                "cp, sync, openssl dgst": partial(copy, durable=True),
                "fill from the share": fill("share"),
                "fill from the server": fill("server"),
            }
            _compare(actions, options.runs)
    finally:
        shutil.rmtree(root)


def _write(path: Path, mebibytes: int) -> None:
    block = os.urandom(1 << 20)
    with path.open("wb") as out:
        for _ in range(mebibytes):
            out.write(block)


def _fill(root: Path, server: str, source: str, sha256: str, size: int) -> None:
    near = root / "near"
    settings = Settings(
        cache_dir=root / "cache",
        state_dir=root / "node",
        node_cache_dir=str(near),
        node_sources=(source,),  # type: ignore[arg-type]  # one of them
        server=server,
    )
    with ExitStack() as made:
        build_near(settings, made).bring(sha256, size, lambda: False)
    shutil.rmtree(near)
    shutil.rmtree(root / "node")


def _compare(actions: dict[str, Callable[[], None]], runs: int) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for run in range(runs + 1):
        for name, action in actions.items():
            began = time.perf_counter()
            action()
            if run:  # the first warms up
                seconds[name].append(time.perf_counter() - began)
    first = statistics.median(next(iter(seconds.values())))
    for name, one in seconds.items():
        ratio = statistics.median(one) / first
        print(f"{name:24} {statistics.median(one):6.2f} s ({min(one):.2f} to {max(one):.2f})  {ratio:.2f}")
        if name.startswith("fill"):
            print(f"  goal: {GOAL}: {'met' if ratio <= GOAL else 'NOT MET'}")


if __name__ == "__main__":
    main()
