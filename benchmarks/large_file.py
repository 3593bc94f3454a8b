"""One large file from a web server on loopback, verified: ours beside curl + openssl, pooch and aria2c.

Starts its own nginx (source in memory), runs each contender in turns, and prints medians, ratios and
peak memory. Ours also publishes and records the file, and has it on stable storage when it returns;
the peers leave that to the system.

    python benchmarks/large_file.py [--size BYTES] [--dir DIR]... [--runs 3] [--without NAME]...
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from contest import (
    Commands,
    Contender,
    Source,
    aria2c,
    curl,
    in_turns,
    installed,
    judge,
    kind_of,
    make_file,
    ours,
    show,
)
from support import Nginx, memory_directory

GOALS = ("curl", 0.55), ("pooch", 0.15)
"""Ours takes at most this part of a peer's time."""
MEMORY_MIB = 64
"""Ours takes at most this much memory."""


def wget(source: Source) -> Commands:
    file = str(source.target / "file")
    return [["wget", "-q", "-O", file, source.url], ["openssl", "dgst", "-sha256", file]]


def pooch(source: Source) -> Commands:
    return [[sys.executable, "-c", _POOCH, source.url, source.sha256, str(source.target)]]


_POOCH = """
import logging, sys, pooch
pooch.get_logger().setLevel(logging.ERROR)
pooch.retrieve(sys.argv[1], known_hash="sha256:" + sys.argv[2], path=sys.argv[3])
"""

CONTENDERS: dict[str, Contender] = {
    "stager": ours,
    "curl": curl,
    "aria2c": aria2c,
    "wget": wget,
    "pooch": pooch,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=4 << 30, help="bytes")
    parser.add_argument(
        "--dir", action="append", type=Path, help="where to write (memory and a disk by default)"
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--without", action="append", default=[], choices=CONTENDERS)
    given = parser.parse_args()
    contenders = installed(CONTENDERS, given.without)
    with memory_directory() as memory, Nginx(memory) as nginx:
        digest = make_file(nginx.sources / "file", given.size)
        for base in given.dir or [memory, Path(tempfile.gettempdir())]:
            print(f"\n{given.size / 2**30:g} GiB to {kind_of(base)}, {given.runs} runs in turns")
            taken = in_turns(contenders, f"{nginx.url}/file", digest, base, given.runs)
            show(taken)
            for name, goal in GOALS:
                judge(taken, name, goal)
            if "stager" in taken:
                print(
                    f"  goal: below {MEMORY_MIB} MiB: {'met' if taken['stager'].mib < MEMORY_MIB else 'NOT MET'}"
                )


if __name__ == "__main__":
    main()
