"""One server per state directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from stager.errors import ServerBusyError, StateError


class StateLock:
    """Held as long as the object is open; the kernel frees it however the process ends.

    Args:
        directory: the state directory; made, for its owner alone, if it does not exist.

    Raises:
        ServerBusyError: another process holds it.
        StateError: the directory can't be used.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / "lock"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(
                f"state directory {directory} can't be used",
                cause=error.strerror or str(error),
                remedy="check state_dir: a directory of yours on a local disk",
            ) from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._fd, 32).decode("ascii", "replace").strip() or "?"
            os.close(self._fd)
            raise ServerBusyError(
                f"a server is already running with state directory {directory}",
                cause=f"process {holder}",
                remedy="use that one, or give this one another state_dir",
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, str(os.getpid()).encode(), 0)

    def close(self) -> None:
        """Let the next server in."""
        os.close(self._fd)
