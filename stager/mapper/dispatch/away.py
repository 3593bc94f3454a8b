"""A node that does not see the cache of the server: what it asks of the server instead, and brings back to it."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from stager.cache.removal import remove_tree
from stager.cache.store import FileCache
from stager.errors import CacheError, ConflictError, InputError, JobError, NotFoundError, StagerError
from stager.mapper.dispatch.claims import NOBODY
from stager.mapper.dispatch.results import result_key
from stager.model.events import DispatchOrder, JobEnded

log = logging.getLogger(__name__)

AGAIN_SECONDS = 5.0
"""After the disk of the node refused to read what a job left, it is tried again."""


class ServerSide(Protocol):
    """The server, as such a node reaches it."""

    def claim(self, job: str, epoch: int, node: str) -> str:
        """Take the hand-over for a node; which node has it."""
        ...

    def holder(self, job: str, epoch: int) -> str | None:
        """Which node has it."""
        ...

    def deliver(self, order: DispatchOrder, ended: JobEnded, given_up: Callable[[], bool]) -> bool:
        """Bring back what the run left, however long the server is away; False when `given_up` said so first.

        Raises:
            StagerError: the server does not want it, or it is lost.
            CacheError, OSError: it can't be read now; to be called again.
        """
        ...


def is_final(error: StagerError) -> bool:
    """Whether the server says so of the run itself; else it, or what stands before it, is only not well now."""
    return isinstance(error, NotFoundError | InputError | ConflictError) and not (
        error.transient or "offset" in error.details
    )


def not_away(order: DispatchOrder) -> JobEnded:
    """The end of a job that can't run here."""
    error = JobError(
        f"job {order.job} can't run on a node without the share",
        cause="restricted inputs are not brought to nodes",
        remedy="run it where nodes see the cache",
    )
    return JobEnded(order.job, order.epoch, None, error)


def is_filled(cache: FileCache, order: DispatchOrder, lost: set[str]) -> bool:
    """Whether all inputs are on such a node, but for those that would not come however long it waited."""
    return all(item.sha256 in lost or cache.has_object(item.sha256, item.size) for item in order.inputs)


def bring_back(
    server: ServerSide, order: DispatchOrder, end: JobEnded, closed_within: Callable[[float], bool]
) -> JobEnded | None:
    """Bring back what the run left, and say which end is to be told; None: this process is to be closed first.

    Args:
        server: takes it.
        order: of the run.
        end: as the dispatcher tells it.
        closed_within: waits so many seconds, or until the process is to be closed; whether it is.
    """
    while True:
        try:
            return end if server.deliver(order, end, lambda: closed_within(0)) else None
        except (CacheError, OSError) as error:
            log.warning("what job %s left can't be read now: %s", end.job, error)
            if closed_within(AGAIN_SECONDS):
                return None
        except StagerError as error:
            log.error("what job %s left can't be brought back: %s", end.job, error)  # noqa: TRY400 - it says all
            return JobEnded(end.job, end.epoch, end.exit_code, end.error or error, (), end.seconds)


def clear_away(cache: FileCache, order: DispatchOrder, end: object) -> None:
    """All that such a node has of a job that is over and recorded goes: the server has it."""
    try:
        for result in end.results if isinstance(end, JobEnded) else ():
            cache.remove(result_key(order.job, result.name))
        cache.release(order.job)
        remove_tree(str(cache.job_dir(order.job)))
    except (CacheError, OSError) as error:
        log.warning("what job %s left on this node stays there: %s", order.job, error)


@dataclass(frozen=True, slots=True)
class ServerClaim:
    """As `NodeClaim`, which the server keeps for this node."""

    server: ServerSide
    job: str
    epoch: int

    def take(self, name: str) -> str:
        """See `NodeClaim.take`."""
        try:
            return self.server.claim(self.job, self.epoch, name)
        except StagerError as error:
            if not is_final(error):
                raise OSError(errno.EAGAIN, str(error)) from error
            log.info("job %s is left alone: %s", self.job, error)
            return NOBODY

    def holder(self) -> str | None:
        """See `NodeClaim.holder`."""
        try:
            return self.server.holder(self.job, self.epoch)
        except StagerError as error:
            raise OSError(errno.EAGAIN, str(error)) from error
