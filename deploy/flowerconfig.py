"""Flower's settings: ``celery -A workers flower --conf=deploy/flowerconfig.py``, or ``make flower``.

Who may look is said by the environment: ``FLOWER_BASIC_AUTH`` (``user:password``), or
``FLOWER_PASSWORD_FILE`` with the password of ``FLOWER_USER`` (by default ``stager``). Without a
password Flower does not start. Every name here that is an option of Flower's is set to its value.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import tornado.web
from flower.views import monitor


def _who() -> list[str]:
    """``user:password`` of everyone who may look."""
    named = os.environ.get("FLOWER_PASSWORD_FILE", "")
    try:
        password = Path(named).read_text("utf-8").strip() if named else ""
    except OSError as error:
        sys.exit(f"error: Flower's password file {named} can't be read: {error.strerror}")
    if password:
        return [f"{os.environ.get('FLOWER_USER') or 'stager'}:{password}"]
    given = [one for one in os.environ.get("FLOWER_BASIC_AUTH", "").split(",") if one]
    if not given or not all(all(one.partition(":")[::2]) for one in given):
        sys.exit(
            "error: Flower needs a password: set FLOWER_PASSWORD_FILE, or FLOWER_BASIC_AUTH to user:password"
        )
    return given


def _readable(task: Any) -> Any:
    """A task as the pages show it: what came of it as words, not as a Python literal."""
    result = task.result if isinstance(task.result, str) else ""
    task.result = "" if result == "None" else result.strip("'")
    return task


basic_auth = _who()
if os.environ.get("FLOWER_UNAUTHENTICATED_API"):
    sys.exit("error: FLOWER_UNAUTHENTICATED_API would open Flower's API to everyone; unset it")
# Flower itself leaves this page open; it names tasks and workers.
monitor.Metrics.get = tornado.web.authenticated(monitor.Metrics.get)

address = os.environ.get("FLOWER_ADDRESS") or "127.0.0.1"
port = int(os.environ.get("FLOWER_PORT") or 5555)
url_prefix = os.environ.get("FLOWER_URL_PREFIX", "flower")  # so that a proxy can pass /flower on

read_only = (
    True  # tasks are cancelled, and workers stopped, where it is recorded: by `stager` and the supervisor
)
persistent = True
db = os.environ.get("FLOWER_DB") or "flower.db"
state_save_interval = 60_000  # milliseconds: a kill loses a minute of history
max_tasks = 10_000  # in memory; the database of the server has them all
purge_offline_workers = 3600  # seconds

natural_time = True
tasks_columns = "name,args,state,result,received,started,runtime,worker"
format_task = _readable
task_runtime_metric_buckets = [1.0, 10.0, 60.0, 600.0, 3600.0, 14400.0, 43200.0, 86400.0]  # seconds
