"""Every Celery setting, with its reason."""

from __future__ import annotations

from typing import Any

from stager.farm.names import FETCH_TASK, RUN_TASK
from stager.farm.tasks import transport_options
from stager.settings import Settings
from stager.wiring.redis import redis_address

HEARTBEAT_SECONDS = 10.0
"""Between two words to the dashboard."""


def configuration(settings: Settings) -> dict[str, Any]:
    """Celery's settings for workers of this installation."""
    address = redis_address(settings)
    return {
        "broker_url": address.url,
        # A connection that broke without a word is found within seconds, not hours; and Redis may come and go.
        **transport_options(address),
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # What comes of a task is told by our own stream, in order and for good; a second store would cost
        # as much as the task.
        "result_backend": None,
        "task_ignore_result": True,
        # A task is acknowledged before it is run: what was lost with a worker is found by the lease on the
        # fetch. Late acknowledgement would run long tasks again and again.
        "task_acks_late": False,
        # A worker takes a task when it has a thread for it, so that none waits behind another's long
        # transfer, and none is lost with a worker that had not begun it.
        "worker_disable_prefetch": True,
        "worker_prefetch_multiplier": 1,
        # Transfers go on while Redis is away; what they tell waits in the worker.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # Transfers wait for the network and hash without the interpreter's lock: threads do, and cost least per
        # task; a process per core beside (`stager worker`).
        "worker_pool": "threads",
        "worker_concurrency": settings.fetch_threads,
        # Nothing but JSON is read: a message can't run code.
        "task_serializer": "json",
        "accept_content": ["json"],
        "result_serializer": "json",
        # The dashboard lives on events; arguments are ids, what they mean is said in words of our own.
        "worker_send_task_events": True,
        "task_send_sent_event": False,
        "event_queue_ttl": 60,
        "event_queue_expires": 120,
        "broker_heartbeat": None,
        # Logs are stager's own: one form, one redaction.
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "task_create_missing_queues": True,
        "task_default_queue": "fetch",
        "task_routes": {FETCH_TASK: {"queue": "fetch"}, RUN_TASK: {"queue": "work"}},
        "enable_utc": True,
    }
