"""A purge of many objects, beside `find -delete` of the same files.

    python benchmarks/purge.py [DIRECTORY...] [--objects 100000]

Each object has an entry of its own and lies in the usual shards. The purge is the service's own: which files go is
asked of the catalogue, longest unused first; each object is looked at (is it held?), its entry is moved aside, read
and removed, the object is removed, and the catalogue's rows are dropped. `find` gets the same tree, in which
everything is to go, and removes its directories as well (the first line) or only its files (the second).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import closing
from hashlib import sha256
from pathlib import Path

from stager.cache.tree import open_tree
from stager.model.catalogue import CachedFile
from stager.model.entries import Entry
from stager.model.eviction import Purge, Purged
from stager.model.keys import key_digest
from stager.settings import Settings
from stager.wiring.cache import CacheSite, build_cache_site

ROUNDS = 3
OBJECTS = 100_000


def fill(root: Path, count: int) -> list[CachedFile]:
    tree = open_tree(root, "2+2")
    rows = []
    now = time.time()
    for number in range(count):
        key = f"https://data.example.org/run/{number}.nxs"
        digest, body = key_digest(key), key.encode()
        entry = Entry(key, sha256(body).hexdigest(), len(body), now, url=key)
        for path, text in ((tree.object(entry.object), body), (tree.entry(digest), entry.to_json())):
            write = lambda path=path: os.open(path, os.O_WRONLY | os.O_CREAT, 0o444)  # noqa: E731
            fd = tree.creating(path, write)
            os.write(fd, text)
            os.close(fd)
        rows.append(CachedFile.of(entry, digest, now - number))
    os.sync()
    return rows


def purge(site: CacheSite) -> Purged:
    work = site.eviction.purge(Purge(to_size=0))
    while True:
        try:
            next(work)
        except StopIteration as end:
            purged: Purged = end.value
            return purged


def find(root: Path, *what: str) -> float:
    command = ["find", str(root / "objects"), str(root / "entries"), "-mindepth", "1", *what, "-delete"]
    began = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - began


def measure(where: Path, count: int) -> None:
    times: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, what in (("find -delete", ()), ("find -type f -delete", ("-type", "f"))):
            base = Path(tempfile.mkdtemp(dir=where))
            fill(base / "c", count)
            times.setdefault(name, []).append(find(base / "c", *what))
            shutil.rmtree(base)
        base = Path(tempfile.mkdtemp(dir=where))
        (base / "s").mkdir()
        rows = fill(base / "c", count)
        with closing(build_cache_site(Settings(cache_dir=base / "c", state_dir=base / "s"))) as site:
            site.catalogue.put(rows)
            began = time.perf_counter()
            gone = purge(site)
            times.setdefault("purge", []).append(time.perf_counter() - began)
            assert gone.files == count, gone
            assert site.catalogue.size() == (0, 0)
        shutil.rmtree(base)
    print(f"{where}: {count} objects, best of {ROUNDS}")
    for name, found in times.items():
        print(f"  {name:<22} {min(found):7.2f} s   {count / min(found):9.0f} objects/s")
    for name in ("find -delete", "find -type f -delete"):
        print(f"  rate of the purge / rate of {name}: {min(times[name]) / min(times['purge']):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directories", nargs="*", type=Path, default=[Path("/dev/shm"), Path("/var/tmp")])
    parser.add_argument("--objects", type=int, default=OBJECTS)
    options = parser.parse_args()
    for directory in options.directories:
        measure(directory, options.objects)


if __name__ == "__main__":
    main()
