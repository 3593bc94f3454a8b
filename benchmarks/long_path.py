"""One large file where a single connection is slow, verified: ours beside aria2c with four and curl with one.

The whole command is timed. Starts its own nginx (source in memory) and measures

- a web server that gives each connection so much and no more (nginx's limit_rate);
- a long path: 50 ms there and back, on which one packet of a hundred is lost. It lies between two network
  namespaces with a guest as bridge; that takes root and what `scripts/system-packages bench` installs.

    python benchmarks/long_path.py [--cap] [--netem] [--runs 3] [--without NAME]...

With `--cap` or `--netem` only that one.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from contest import (
    Commands,
    Contender,
    Source,
    aria2c,
    curl,
    in_turns,
    installed,
    judge,
    make_file,
    ours,
    show,
)
from support import NETWORKS, PROJECT, Nginx, memory_directory

sys.path.append(str(PROJECT))
from tests.support.guests import missing_parts
from tests.support.long_path import NETWORK, LongPath, Passed

GOAL = 1.0
"""Ours takes at most this part of aria2c's time."""


def four(source: Source) -> Commands:
    return aria2c(source, "-x4", "-s4", "-k1M")


CONTENDERS: dict[str, Contender] = {"stager": ours, "aria2c": four, "curl": curl}

_CONNECT = """
import socket, sys, time
for _ in range(20):
    began = time.perf_counter()
    socket.create_connection((sys.argv[1], int(sys.argv[2]))).close()
    print(time.perf_counter() - began)
"""


def through_cap(given: argparse.Namespace, contenders: dict[str, Contender]) -> None:
    """Print what a file takes from a server that limits each connection."""
    size, rate = given.cap_size, given.rate
    print(f"\n{size / 1e6:g} MB at {rate / 1e6:g} MB/s per connection, to memory, {given.runs} runs in turns")
    with memory_directory() as memory, Nginx(memory, more=f"limit_rate {rate};") as nginx:
        digest = make_file(nginx.sources / "file", size)
        taken = in_turns(contenders, f"{nginx.url}/file", digest, memory, given.runs)
    show(taken)
    judge(taken, "aria2c", GOAL)


def through_path(given: argparse.Namespace, contenders: dict[str, Contender]) -> None:
    """Print what a file takes through a long path."""
    size = given.netem_size
    os.environ["STAGER_ALLOWED_NETWORKS"] = f"{NETWORKS}, {NETWORK}"
    with ExitStack() as made:
        memory = made.enter_context(memory_directory())
        path = made.enter_context(
            LongPath(
                memory, round_trip_ms=given.round_trip, loss_percent=given.loss, congestion=given.congestion
            )
        )
        nginx = made.enter_context(Nginx(memory, address=path.address, inside=path.far))
        digest = make_file(nginx.sources / "file", size)
        seen = _round_trip_ms(path, nginx.url)
        print(
            f"\n{size / 1e6:g} MB through {given.round_trip:g} ms there and back ({seen:.1f} ms seen) with"
            f" {given.loss:g} % loss, {given.congestion}, to memory, {given.runs} runs in turns"
        )
        before = path.passed()
        near = {name: _at(path.near, contender) for name, contender in contenders.items()}
        taken = in_turns(near, f"{nginx.url}/file", digest, memory, given.runs)
        show(taken)
        for way, was, now in zip(("to", "from"), before, path.passed(), strict=True):
            print(f"  the path, {way} the client: {_difference(was, now)}")
    judge(taken, "aria2c", GOAL)


def _at(inside: Sequence[str], contender: Contender) -> Contender:
    return lambda source: [[*inside, *command] for command in contender(source)]


def _round_trip_ms(path: LongPath, url: str) -> float:
    """Of a connection's beginning, as the near end sees it."""
    address, port = url.removeprefix("http://").split(":")
    command = [*path.near, sys.executable, "-c", _CONNECT, address, port]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return statistics.median(float(line) for line in said.split()) * 1000


def _difference(was: Passed, now: Passed) -> str:
    packets, dropped = now.packets - was.packets, now.dropped - was.dropped
    size = (now.bytes - was.bytes) / max(1, packets)
    share = 100 * dropped / max(1, packets + dropped)
    return f"{packets} packets of {size:.0f} bytes passed, {share:.2f} % lost"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cap", action="store_true", help="only the limited connections")
    parser.add_argument("--cap-size", type=int, default=200_000_000, help="bytes")
    parser.add_argument("--rate", type=int, default=10_000_000, help="bytes per second and connection")
    parser.add_argument("--netem", action="store_true", help="only the long path")
    parser.add_argument("--netem-size", type=int, default=16_000_000, help="bytes")
    parser.add_argument("--round-trip", type=float, default=50.0, help="milliseconds")
    parser.add_argument("--loss", type=float, default=1.0, help="percent of the packets, each way")
    parser.add_argument("--congestion", default="cubic", help="how the server reacts to loss; or bbr")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--without", action="append", default=[], choices=CONTENDERS)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the guest and the namespaces go in any case
    contenders = installed(CONTENDERS, given.without)
    if given.cap or not given.netem:
        through_cap(given, contenders)
    if given.netem or not given.cap:
        if missing := missing_parts("nginx"):
            print(f"\nthe long path is not measured: {', '.join(missing)} missing")
        else:
            through_path(given, contenders)


if __name__ == "__main__":
    main()
