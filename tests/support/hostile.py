"""Origins that mean ill, beside one that means well: how each fetch of theirs ends, and what it costs the good one.

They are a process of their own (``python -m tests.support.hostile``), so that what they burn is not the good origin's.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from stager.client import Client
from stager.model.jobs import JobInput, JobSpec
from tests.support.origin import Answer, Exchange, Origin, content, redirect
from tests.support.processes import ServerProcess

SILENCE_SECONDS = 4.0
"""The limit of those that say too little."""
LIMIT_SECONDS = 5.0
"""The limit of all."""
FILE_BYTES = 5_000_000
FIRST = 2
"""Fetches of each kind that begin at once: as many as an origin gets connections."""
MORE = 10
"""Those behind them: what ends at once is followed by more of its kind."""
GOOD_FILES = 300
GOOD_BYTES = 20_000
PATIENCE = 60.0


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def _silent(exchange: Exchange) -> None:
    exchange.hold()


def _stalled(exchange: Exchange) -> None:
    exchange.head(200, {"Content-Length": "4000000"})
    exchange.body(bytes(10_000))
    exchange.hold()


def _dripping(exchange: Exchange) -> None:
    """Fast enough for the slowest speed that is allowed."""
    exchange.head(200, {"Content-Length": "4000000"})
    while True:
        exchange.body(bytes(100))
        _pause(0.05)


def _slow(exchange: Exchange) -> None:
    exchange.head(200, {"Content-Length": "4000000"})
    while True:
        exchange.body(b"x")
        _pause(0.1)


def _dripping_head(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nX-Field: ")
    while True:
        exchange.send(b"y")
        _pause(0.05)


def _flooding_head(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        exchange.send((b"X-Field: " + b"y" * 1000 + b"\r\n") * 50)


def _interim(exchange: Exchange) -> None:
    while True:
        exchange.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 100)


def _endless(exchange: Exchange) -> None:
    exchange.head(200, {"Transfer-Encoding": "chunked"})
    while True:
        exchange.chunk(bytes(100_000))


def _around(exchange: Exchange) -> None:
    redirect(f"{exchange.request.target}x")(exchange)


KINDS: dict[str, tuple[Answer, str]] = {
    "never answers": (_silent, "connection-failed"),
    "stalls within the file": (_stalled, "connection-failed"),
    "drips the file, below the slowest speed": (_slow, "connection-failed"),
    "drips the file, above it": (_dripping, "fetch-too-long"),
    "drips the head": (_dripping_head, "connection-failed"),
    "floods the head": (_flooding_head, "head-too-large"),
    "floods interim answers": (_interim, "head-too-large"),
    "sends a file without end": (_endless, "file-too-large"),
    "redirects without end": (_around, "redirect-refused"),
}
"""What it does, and the code of the error with which its fetches end."""


@dataclass(frozen=True)
class Ended:
    """A fetch of a hostile origin."""

    kind: str
    code: str
    seconds: float


@dataclass(frozen=True)
class Measured:
    """Seconds for the good origin's files, and the ends of the others."""

    alone: float
    beside: float
    ended: list[Ended]


def measure(root: Path, farm: str) -> Measured:
    """Fetch the good origin's files alone, and beside all hostile ones, with a server on `root`."""
    settings = {
        "STAGER_FARM": farm,
        "STAGER_FETCH_THREADS": str(FIRST * (len(KINDS) + 1)),
        "STAGER_ORIGIN_CONNECTIONS": str(FIRST),
        "STAGER_RETRY_ATTEMPTS": "1",
        "STAGER_READ_TIMEOUT_SECONDS": str(SILENCE_SECONDS),
        "STAGER_LOW_SPEED_SECONDS": str(SILENCE_SECONDS),
        "STAGER_MAX_FETCH_SECONDS": str(LIMIT_SECONDS),
        "STAGER_MAX_FILE_BYTES": str(FILE_BYTES),
        "STAGER_ALLOWED_NETWORKS": "127.0.0.0/8",
    }
    with ExitStack() as made:
        bases = made.enter_context(_hostile_process())
        origin = made.enter_context(Origin())
        server = made.enter_context(ServerProcess(root, **settings))
        client = made.enter_context(server.client())
        data = Random(9).randbytes(GOOD_BYTES)
        warm, alone, beside = (_good_job(origin, name, data) for name in ("warm", "alone", "beside"))
        _seconds(client, client.jobs.submit([warm])[0])
        took_alone = _seconds(client, client.jobs.submit([alone])[0])
        first = [
            (kind, client.jobs.submit([_job(bases[kind], n)])[0]) for kind in KINDS for n in range(FIRST)
        ]
        more = [_job(bases[kind], n) for n in range(FIRST, FIRST + MORE) for kind in KINDS]
        client.jobs.submit(more)
        took_beside = _seconds(client, client.jobs.submit([beside])[0])
        ended = [_ended(client, kind, job) for kind, job in first]
        for view in client.jobs.list():
            if view.ended_at is None:
                client.jobs.cancel(view.id)
        server.end()
    return Measured(took_alone, took_beside, ended)


def _job(base: str, number: int) -> JobSpec:
    return JobSpec(("true",), (JobInput(f"{base}/{number}"),))


def _good_job(origin: Origin, name: str, data: bytes) -> JobSpec:
    urls = [origin.serve(f"/{name}-{n}", content(data)) for n in range(GOOD_FILES)]
    return JobSpec(("true",), tuple(map(JobInput, urls)))


def _seconds(client: Client, job: str) -> float:
    view = client.jobs.wait(job, PATIENCE)
    assert view.error is None, view.error
    assert view.ready_at is not None
    return view.ready_at - view.submitted_at


def _ended(client: Client, kind: str, job: str) -> Ended:
    view = client.jobs.wait(job, PATIENCE)
    assert view.error is not None
    assert view.ended_at is not None
    return Ended(kind, view.error["details"]["code"], view.ended_at - view.submitted_at)


@contextmanager
def _hostile_process() -> Iterator[dict[str, Any]]:
    """The hostile origins; the base of each one's URLs by its kind."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.hostile"],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,  # it ends when this is closed, by us or by our end
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process:
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.kill()


def main() -> None:
    """Serve until stdin ends."""
    bases = {}
    for kind, (answer, _) in KINDS.items():
        origin = Origin()
        bases[kind] = origin.base
        for number, tail in itertools.product(range(FIRST + MORE), range(20)):
            origin.serve(f"/{number}{'x' * tail}", answer)
    sys.stdout.write(json.dumps(bases) + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
