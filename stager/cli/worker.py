"""``stager worker``: the processes of a farm on this host."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from stager.cli.jobspec import command_of
from stager.cli.options import AllowedNetworks, CacheDir


class Queue(StrEnum):
    """What workers are for."""

    FETCH = "fetch"
    WORK = "work"


Queues = Annotated[Queue, typer.Option("--queue", help="fetch: bring files into the cache; work: run jobs.")]
Processes = Annotated[
    int | None, typer.Option("--processes", metavar="N", min=1, help="By default one per core; 1 for work.")
]
Threads = Annotated[
    int | None, typer.Option("--threads", metavar="N", min=1, help="Transfers, or jobs, per process at once.")
]


def worker(
    context: typer.Context,
    *,
    queue: Queues = Queue.FETCH,
    processes: Processes = None,
    threads: Threads = None,
    cache_dir: CacheDir = None,
    allowed_networks: AllowedNetworks = None,
) -> int:
    """Run Celery workers, and start again those that end, until Ctrl-C or SIGTERM.

    What follows `--` goes to Celery: stager worker --queue fetch -- --loglevel debug
    A first Ctrl-C lets them give back what is on; a second one ends them at once.
    """
    import os

    from stager.cli.connect import logging_to_stderr
    from stager.cli.supervise import Supervisor
    from stager.settings import load_settings
    from stager.wiring import build_reach, check_farm_installed

    settings = load_settings(cache_dir=cache_dir, allowed_networks=allowed_networks)
    build_reach(settings)  # a worker would say what is wrong with it, and be started again and again
    if cache_dir is not None:
        os.environ["STAGER_CACHE_DIR"] = str(settings.cache_dir)
    if allowed_networks is not None:
        os.environ["STAGER_ALLOWED_NETWORKS"] = allowed_networks
    check_farm_installed()

    from stager.wiring.names import node_name
    from stager.wiring.redis import redis_address

    address = redis_address(settings)
    fetches = queue is Queue.FETCH
    count = processes or (settings.worker_processes or settings.cores if fetches else 1)
    at_once = threads or (settings.fetch_threads if fetches else settings.job_slots or settings.cores)
    node = node_name(settings)
    commands = [
        [
            *(sys.executable, "-m", "celery", "-A", "workers", "worker"),
            *("--queues", queue.value, "--pool", "threads", "--concurrency", str(at_once)),
            *("--hostname", f"{queue.value}-{number + 1}@{node}"),
            *("--without-gossip", "--without-mingle"),  # workers have nothing to tell each other
            *(command_of(context) or ()),
        ]
        for number in range(count)
    ]
    with logging_to_stderr(settings.log_level, settings.log_format):
        import logging

        logging.getLogger("stager.cli.worker").info(
            "%d %s worker processes of %d threads on %s, tasks by Redis at %s",
            *(count, queue.value, at_once, node, address.shown),
        )
        return Supervisor(commands).run()
