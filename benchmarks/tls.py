"""One large file over https from a web server on loopback, verified: ours beside curl + openssl.

Starts its own nginx (source in memory, certificate of a CA of the tests), runs each in turns, and prints
medians and the ratio. All write to memory.

    python benchmarks/tls.py [--size BYTES] [--runs 5]
"""

from __future__ import annotations

import argparse
import os

from contest import Commands, Source, curl, in_turns, installed, judge, make_file, ours, show
from support import CA_BUNDLE, Nginx, memory_directory

GOAL = 1.2
"""Ours takes at most this part of curl's time and openssl's after it."""


def secure_curl(source: Source) -> Commands:
    return curl(source, "--cacert", str(CA_BUNDLE))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=1 << 30, help="bytes")
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    os.environ["STAGER_CA_BUNDLE"] = str(CA_BUNDLE)
    contenders = installed({"stager": ours, "curl": secure_curl}, [])
    with memory_directory() as memory, Nginx(memory, tls=True) as nginx:
        digest = make_file(nginx.sources / "file", given.size)
        print(f"\n{given.size / 2**30:g} GiB over https to memory, {given.runs} runs in turns")
        taken = in_turns(contenders, f"{nginx.url}/file", digest, memory, given.runs)
    show(taken)
    judge(taken, "curl", GOAL)


if __name__ == "__main__":
    main()
