"""A farm on two hosts with a real NFS share: fetches on one of them, server and jobs on the other.

Redis and the origin are at home with the test's process. The state directory of the server is in its
host's memory, the cache on the share; a lease ends after `LEASE_SECONDS`.
"""

from __future__ import annotations

import threading
from hashlib import sha256
from types import TracebackType
from typing import Any, Self

from stager.signals import keys
from tests.support import guest_api
from tests.support.guests import Guest, Running
from tests.support.hosts import PYTHON, STAGER
from tests.support.origin import Answer, Exchange
from tests.support.pair import Pair
from tests.support.until import until
from tests.support.valkey import Valkey

LEASE_SECONDS = 5
PATIENCE = 120.0
"""Guests are slow where others work too."""
STORED = 8 << 20
"""So much of a transfer is handed on to the NFS server at a time."""


def gated(data: bytes, half: int, gate: threading.Event) -> Answer:
    """`data`, with a pause after `half` of it until the gate is open."""

    def answer(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Length": str(len(data)), "Etag": '"1"'})
        exchange.body(data[:half])
        assert gate.wait(PATIENCE)
        exchange.body(data[half:])

    return answer


class NfsFarm:
    """The first host of the pair is the data node, the second one has the server and runs the jobs.

    Args:
        pair: the hosts and their cache.
        redis: listens where both reach it.
    """

    def __init__(self, pair: Pair, redis: Valkey) -> None:
        self.pair = pair
        self.redis = redis
        self._state = f"/run/state-{pair.truth.name}"
        self._settings = {
            "STAGER_CACHE_DIR": pair.root,
            "STAGER_STATE_DIR": self._state,
            "STAGER_FARM": "celery",
            "STAGER_LEASE_SECONDS": str(LEASE_SECONDS),
            "STAGER_LOG_FORMAT": "text",
            **redis.environment(),
        }
        self._started: list[Running] = []
        self._server = self._start(pair.second, [*STAGER, "serve", "--port", "0"])
        self._url = ""

    def _start(self, guest: Guest, words: list[str]) -> Running:
        running = guest.start(words, env=self._settings)
        self._started.append(running)
        return running

    def start_worker(self, guest: Guest) -> Running:
        """Start a worker that fetches, with two threads; `wait_until_up` waits for it."""
        celery = [
            *PYTHON,
            "-m",
            "celery",
            "-A",
            "workers",
            "worker",
            "--queues",
            "fetch",
            "--pool",
            "threads",
        ]
        return self._start(guest, [*celery, "--concurrency", "2", "--without-gossip", "--without-mingle"])

    def wait_until_up(self, *guests: Guest) -> None:
        """Until the server answers, and a worker of each of these hosts has announced itself."""
        until(lambda: "ready at " in self._said(self._server), "the server is ready", PATIENCE)
        lines = self._said(self._server).splitlines()
        self._url = next(line for line in lines if "ready at " in line).split()[-1]
        for guest in guests:
            until(lambda guest=guest: self._has_worker(guest), f"{guest.name} has a worker", PATIENCE)  # type: ignore[misc]

    def _has_worker(self, guest: Guest) -> bool:
        node = f'"node": "{guest.name}"'.encode()
        with self.redis.client() as client:
            cards = client.mget(client.keys(keys.WORKER + "*") or ["-"])
        return any(card and node in card for card in cards)

    def _said(self, running: Running) -> str:
        done = running.wait(0)
        assert done.status is None, done.stderr
        return done.stderr

    def log(self) -> str:
        """What server and workers said, of hosts that are up."""
        said = [one.wait(0).stderr[-4000:] for one in self._started if one.guest.is_up]
        return "\n---\n".join(said)

    # -- jobs ---------------------------------------------------------------------------------------

    def submit(self, script: str, url: str) -> str:
        """Submit a job with that input; its id."""
        return str(self._ask("submit", script, url))

    def job(self, job: str, seconds: float = 0.0) -> dict[str, Any]:
        """The job, when it is over or after so many seconds."""
        found: dict[str, Any] = self._ask("job", job, seconds, timeout=seconds + 60)
        return found

    def _ask(self, function: str, *arguments: object, timeout: float = 60.0) -> Any:
        called = f"{guest_api.__name__}:{function}"
        return self.pair.second.call(called, self._url, self._state, *arguments, timeout=timeout)

    def wait_for_half(self) -> None:
        """Until the transfer stands at its gate, and the NFS server has a good part of what came."""
        partials = self.pair.truth
        until(
            lambda: any(path.stat().st_size >= STORED for path in partials.glob("partial/*/*.part")),
            "the transfer is half done",
            PATIENCE,
        )

    def printed(self, job: str) -> list[str]:
        """The words that the job printed, once it is done."""
        done = self.job(job, PATIENCE)
        assert done["state"] == "done", f"{done}\n{self.log()}"
        return (self.pair.truth / "jobs" / job / "stdout").read_text().split()

    # -- what is left -------------------------------------------------------------------------------

    def check_quiet(self) -> None:
        """Nothing is pending in Redis and nothing unfinished is in the cache, whose objects are intact."""
        with self.redis.client() as redis:
            until(lambda: not redis.exists(keys.FETCHES), "no order is left", PATIENCE)
            until(lambda: not redis.keys(keys.LEASE + "*"), "no lease is left")
            until(lambda: redis.xlen(keys.SIGNALS) == 0, "no signal is left")
            until(lambda: redis.llen("fetch") == 0, "no task is left")
            assert not redis.exists(keys.RESERVED), "space is promised still"
        for path in self.pair.objects():
            assert sha256(path.read_bytes()).hexdigest() == path.name
        assert self.pair.partials() == [], self.log()

    def close(self) -> None:
        """End all of it, on hosts that are up."""
        for running in reversed(self._started):
            if running.guest.is_up:
                running.kill()
                running.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
