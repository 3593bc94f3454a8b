"""Names of the tasks and queues of a Celery farm: what the server sends and the workers take."""

from __future__ import annotations

FETCH_TASK = "stager.fetch"
"""Arguments: list of [fetch, generation], done one after another."""
RUN_TASK = "stager.run"
"""Arguments: job, epoch."""
FETCH_QUEUE = "fetch"
WORK_QUEUE = "work"
QUEUES = (FETCH_QUEUE, WORK_QUEUE)


def node_queue(queue: str, node: str) -> str:
    """The queue that only workers of that node take from."""
    return f"{queue}.{node}"
