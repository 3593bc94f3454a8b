"""Whether those who follow events and read objects hold up the jobs.

A real server; 500 clients follow all events, 200 read an object of 16 MiB over and over at 1 MiB/s each. Printed is the
time from the call that meets a job's last precondition to the start of its process, with nobody there and with all.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import tempfile
import time
from contextlib import suppress
from multiprocessing.synchronize import Event
from pathlib import Path

from serving import Served, served

from stager.client import Client
from stager.model.jobs import JobSpec

OBJECT_BYTES = 16 << 20
RATE = 1 << 20
JOBS = 60


def latencies(client: Client, kind: str) -> list[float]:
    """Seconds from the call to the start of the process, job by job."""
    found = []
    for number in range(JOBS):
        name = f"{kind}-{number}"
        (job,) = client.jobs.submit([JobSpec(("true",), after=(name,))])
        began = time.time()
        client.preconditions.meet(name)
        started = client.jobs.wait(job, 60).started_at
        assert started is not None
        found.append(started - began)
    return found


async def follow(server: Served, counts: list[int], at: int) -> None:
    """Read events for ever; counts what came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(server.head("GET", "/v1/events"))
    while data := await reader.read(65536):
        counts[at] += data.count(b"\nevent: ")


async def read(server: Served, sha256: str) -> None:
    """Read the object over and over, at `RATE`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=65536)
    left = 0
    while True:
        if left <= 0:
            writer.write(server.head("GET", f"/v1/objects/{sha256}"))
            await reader.readuntil(b"\r\n\r\n")
            left = OBJECT_BYTES
        data = await reader.read(min(left, 65536))
        assert data, "the server closed the connection"
        left -= len(data)
        await asyncio.sleep(len(data) / RATE)


def crowd(server: Served, followers: int, readers: int, sha256: str, there: Event, end: Event) -> None:
    """A process with all those clients; it prints how many events a follower got."""

    async def main() -> None:
        counts = [0] * followers
        tasks = [asyncio.ensure_future(follow(server, counts, at)) for at in range(followers)]
        tasks += [asyncio.ensure_future(read(server, sha256)) for _ in range(readers)]
        while followers and not all(counts):  # noqa: ASYNC110 - nobody else could say so
            await asyncio.sleep(0.05)
        there.set()
        await asyncio.to_thread(end.wait)
        for task in tasks:
            if task.done():
                task.result()
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        if counts:
            print(f"events told to each follower   {min(counts):>8} to {max(counts)}")

    asyncio.run(main())


def shown(what: str, seconds: list[float]) -> float:
    median = statistics.median(seconds)
    worst = sorted(seconds)[int(len(seconds) * 0.95)]
    print(f"{what:<30} {median * 1000:>8.1f} ms median {worst * 1000:>8.1f} ms at 95 %")
    return median


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--followers", type=int, default=500)
    parser.add_argument("--readers", type=int, default=200)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        served(Path(name)) as server,
        Client(server.url, server.token) as client,
    ):
        content = client.cache.put("object", [b"x" * OBJECT_BYTES])
        latencies(client, "warm")
        idle = shown("nobody follows or reads", latencies(client, "idle"))
        for followers, readers in ((given.followers, 0), (given.followers, given.readers)):
            there, end = multiprocessing.Event(), multiprocessing.Event()
            arguments = (server, followers, readers, content.sha256, there, end)
            process = multiprocessing.Process(target=crowd, args=arguments)
            process.start()
            assert there.wait(60)
            loaded = shown(f"{followers} follow, {readers} read", latencies(client, f"{followers}-{readers}"))
            end.set()
            process.join(30)
            print(f"{'times the idle value':<30} {loaded / idle:>8.2f}")


if __name__ == "__main__":
    main()
