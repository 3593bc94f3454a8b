"""How many requests the server answers in a second, on one core.

The server is kept on one core, the clients on the others. Printed are requests per second for looking at the status, at a
job, and at a page of jobs, and for submitting: a job a call without and with an Idempotency-Key, and a hundred a call.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from serving import Served, served

from stager.client import Client

SERVER_CORE = 0
CONNECTIONS = 16


async def ask(server: Served, request: Callable[[], bytes], until: float) -> int:
    """Ask one thing after the other; how many were answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    count = 0
    while time.monotonic() < until:
        writer.write(request())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.split()[1] in {b"200", b"201"}, head
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        count += 1
    writer.close()
    return count


def rate(server: Served, what: str, request: Callable[[], bytes], seconds: float, each: int = 1) -> None:
    """Print how many a second."""

    async def main() -> int:
        until = time.monotonic() + seconds
        return sum(await asyncio.gather(*(ask(server, request, until) for _ in range(CONNECTIONS))))

    began = time.monotonic()
    count = asyncio.run(main())
    print(f"{what:<34} {count * each / (time.monotonic() - began):>8.0f} /s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    given = parser.parse_args()
    others = os.sched_getaffinity(0) - {SERVER_CORE}
    if others:
        os.sched_setaffinity(0, others)
    job = {"command": ["true"], "after": ["never"], "inputs": []}
    one, hundred = json.dumps(job).encode(), json.dumps([job] * 100).encode()
    keys = itertools.count()
    with tempfile.TemporaryDirectory() as name, served(Path(name), core=SERVER_CORE) as server:
        submit = server.head("POST", "/v1/jobs", body=one)
        many = server.head("POST", "/v1/jobs", body=hundred)

        def keyed() -> bytes:
            return server.head("POST", "/v1/jobs", f"Idempotency-Key: {next(keys)}", body=one)

        seconds = given.seconds
        rate(server, "status", lambda: server.head("GET", "/v1/status"), seconds)
        rate(server, "submit, one a call", lambda: submit, seconds)
        rate(server, "submit, one a call, with a key", keyed, seconds)
        rate(server, "submit, 100 a call (jobs)", lambda: many, seconds, each=100)
        rate(server, "status, with those jobs", lambda: server.head("GET", "/v1/status"), seconds)
        with Client(server.url, server.token) as client:
            (known,) = client.jobs.list(limit=1)
        rate(server, "one job", lambda: server.head("GET", f"/v1/jobs/{known.id}"), seconds)
        rate(server, "page of 100 jobs", lambda: server.head("GET", "/v1/jobs"), seconds)


if __name__ == "__main__":
    main()
