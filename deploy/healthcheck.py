"""Asks a part of the farm, from inside its container, whether it works: status 0 if so.

    python healthcheck.py server | flower | fetch | work

The server and Flower are asked over HTTP. The processes of a `stager worker` for that queue are asked
through Redis, as by ``celery inspect ping``: each of this node's has to answer.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request

ANSWER_SECONDS = 4.0
PING_SECONDS = 12.0
"""The longest wait for the last of a worker's processes."""


def server() -> str:
    """What is wrong with the server; empty if nothing is."""
    return _http(f"http://127.0.0.1:{os.environ.get('STAGER_PORT') or 8717}/healthz")


def flower() -> str:
    """What is wrong with Flower; empty if nothing is."""
    prefix = os.environ.get("FLOWER_URL_PREFIX", "flower").strip("/")
    port = os.environ.get("FLOWER_PORT") or 5555
    return _http(f"http://127.0.0.1:{port}{'/' if prefix else ''}{prefix}/healthcheck")


def worker(queue: str) -> str:
    """What is wrong with this node's worker processes for a queue; empty if nothing is."""
    from stager.settings import load_settings
    from stager.wiring.redis import node_name
    from workers.celery import app

    settings = load_settings()
    nodes = f"{queue}-*@{node_name(settings)}"
    expected = (settings.worker_processes or settings.cores) if queue == "fetch" else 1
    answers = app.control.broadcast(
        "ping", reply=True, timeout=PING_SECONDS, limit=expected, pattern=nodes, matcher="glob"
    )
    found = len(answers or [])
    return "" if found >= expected else f"{found} of {expected} worker processes answer ({nodes})"


def _http(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:  # noqa: S310 - of this container
            answer.read()
    except (OSError, urllib.error.HTTPError) as error:
        return f"{url}: {error}"
    return ""


def main(part: str) -> int:
    """Ask, and say what is wrong."""
    wrong = worker(part) if part in {"fetch", "work"} else {"server": server, "flower": flower}[part]()
    if wrong:
        print(wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
