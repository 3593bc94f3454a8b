"""What every place for jobs does before a job may start: its directory, its inputs, its environment."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from stager.cache.store import FileCache
from stager.errors import ObjectLostError
from stager.model.events import DispatchOrder, JobRefused

log = logging.getLogger(__name__)

INHERITED = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
)
"""Variables that a job sees of the process that starts it; all others are that process's own business."""


Prepare = Callable[[FileCache, DispatchOrder], Path | JobRefused]
"""What `prepare` is, or does it in another way."""


def prepare(cache: FileCache, order: DispatchOrder) -> Path | JobRefused:
    """Make the job's directory and pin its inputs there; doing it again changes nothing.

    Returns:
        The directory, or the refusal that names the fetches whose objects are gone.

    Raises:
        CacheError: the file system failed.
    """
    directory = cache.job_dir(order.job)
    lost = []
    for item in order.inputs:
        try:
            cache.pin(order.job, item.name, item.sha256, item.size, restricted=item.restricted)
        except ObjectLostError as error:
            log.warning("%s", error)
            lost.append(item.fetch)
    if lost:
        return JobRefused(order.job, order.epoch, tuple(dict.fromkeys(lost)))
    return directory


def job_variables(order: DispatchOrder, directory: Path) -> dict[str, str]:
    """What the job's command is told: the user's variables and where everything is."""
    return {
        **dict(order.environment),
        "STAGER_JOB_ID": order.job,
        "STAGER_JOB_NAME": order.name,
        "STAGER_JOB_DIR": str(directory),
        "STAGER_INPUTS": str(directory / "inputs"),
        "STAGER_RESULTS": str(directory / "results"),
        **({"STAGER_REQUEST_ID": order.request_id} if order.request_id else {}),
    }


def environment(order: DispatchOrder, directory: Path) -> dict[str, str]:
    """All that the job's command sees when this process starts it."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {**inherited, **job_variables(order, directory)}
