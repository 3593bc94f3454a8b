"""What a compute node has to remember of the jobs it took: their orders, and which of its processes has them."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from stager.signals.jobs import HandOverId

_SUFFIX = ".json"
_BEGUN = ".new"


class NodeOrders:
    """One file a job on a local disk, locked by the process that looks after it.

    Args:
        path: the directory; made if it does not exist, for the owner alone (variables of jobs may be secret).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._locked: dict[HandOverId, int] = {}
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for private in path.glob(f"*{_BEGUN}"):
            _remove_if_left(private)

    def keep(self, one: HandOverId, order: str) -> bool:
        """Remember it, durable on return; False when another process of this node looks after it.

        Raises:
            OSError: the disk refused.
        """
        fd = self._locked.get(one)
        if fd is None:
            fd = self._begin(one, order)
        if fd is None:
            fd = self._lock(one)
        if fd is None:
            return False
        os.ftruncate(fd, 0)
        os.pwrite(fd, order.encode(), 0)
        os.fsync(fd)
        return True

    def adopt(self) -> dict[HandOverId, str]:
        """Take over what no process looks after: the orders that a process before this one kept."""
        found = {}
        for path in self._path.glob(f"*{_SUFFIX}"):
            job, _, epoch = path.name.removesuffix(_SUFFIX).rpartition(".")
            one = job, int(epoch)
            if one not in self._locked and (fd := self._lock(one)) is not None:
                found[one] = os.pread(fd, os.fstat(fd).st_size, 0).decode()
        return found

    def forget(self, one: HandOverId) -> None:
        """It is over, and the server knows."""
        fd = self._locked.pop(one, None)
        if fd is not None:
            self._file(one).unlink(missing_ok=True)
            os.close(fd)

    def jobs(self) -> set[str]:
        """The jobs that any process of this node looks after, or should."""
        return {path.name.removesuffix(_SUFFIX).rpartition(".")[0] for path in self._path.glob(f"*{_SUFFIX}")}

    def close(self) -> None:
        """Leave all to the next process."""
        while self._locked:
            os.close(self._locked.popitem()[1])

    def _begin(self, one: HandOverId, order: str) -> int | None:
        """Make its file, which is locked and whole when it gets its name; None: there is one.

        Else another process could adopt it in the moment before it is locked, and nobody would have the job.
        """
        private = self._path / f"{one[0]}.{one[1]}.{os.getpid()}{_BEGUN}"
        fd = os.open(private, os.O_RDWR | os.O_CLOEXEC | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            os.pwrite(fd, order.encode(), 0)
            os.link(private, self._file(one))
        except FileExistsError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        finally:
            private.unlink(missing_ok=True)
        self._locked[one] = fd
        return fd

    def _lock(self, one: HandOverId) -> int | None:
        fd = -1
        with suppress(FileNotFoundError, BlockingIOError):
            fd = os.open(self._file(one), os.O_RDWR | os.O_CLOEXEC)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink:  # else whoever had it has just forgotten it
                self._locked[one] = fd
                return fd
        if fd >= 0:
            os.close(fd)
        return None

    def _file(self, one: HandOverId) -> Path:
        return self._path / f"{one[0]}.{one[1]}{_SUFFIX}"


def _remove_if_left(private: Path) -> None:
    """Remove what a process that was killed had begun; one that is just beginning begins anew."""
    with suppress(FileNotFoundError, BlockingIOError), private.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        private.unlink()
