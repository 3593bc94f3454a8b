"""``file:`` URLs: regular files under the directories that the site allows, and nothing else."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from stager.clock import Clock, SystemClock
from stager.errors import FetchError, OriginRefusedError, SchemeError
from stager.model.urls import Url
from stager.transfer.classify import os_cause
from stager.transfer.decisions import Request
from stager.transfer.exchange import no_connection
from stager.transfer.fields import Headers
from stager.transfer.source import Version, changed, reply, timed_version
from stager.transfer.transport import Pulse
from stager.transfer.wire import NO_FIELDS, End

ASK_EACH_TIME = "no-cache"
"""A look at a file costs nothing: a copy is never used without one."""
READ_BYTES = 4 << 20
"""Longest read, so that a cancel is noticed in time also on a slow disk."""
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
_DENIED = {errno.EACCES, errno.EPERM}


class FileTransport:
    """Reads files of this host; one is used by many threads at once.

    Args:
        roots: directories under which files may be read; none: none.
        barred: directories under which none may be read, whatever `roots` say (the program's own).
        clock: tells how long ago a file was changed.
    """

    def __init__(
        self, roots: Sequence[Path], *, barred: Sequence[Path] = (), clock: Clock | None = None
    ) -> None:
        self._roots = [os.path.realpath(root) for root in roots]
        self._barred = [os.path.realpath(path) for path in barred]
        self._clock = clock or SystemClock()

    def open(self, request: Request, pulse: Pulse) -> FileResponse:
        """See `Transport.open`."""
        url = request.url
        pulse(0.0)
        try:
            fd = self._open(url)
        except OSError as error:
            raise _refused(url, error) from None
        try:
            return FileResponse(fd, request, self._clock)
        except BaseException:
            os.close(fd)
            raise

    def announce(self, request: Request) -> bool:  # noqa: ARG002 - the port's
        """See `Transport.announce`: nothing is gained by it."""
        return False

    def spare(self, origin: str) -> None:
        """See `Transport.spare`: a file is read by one."""

    def withdraw(self, url: str) -> None:
        """See `Transport.withdraw`."""

    def close(self) -> None:
        """See `Transport.close`."""

    def _open(self, url: Url) -> int:
        """Open what the path leads to; a symbolic link that is put in its way meanwhile leads nowhere."""
        path = os.path.realpath(url.path)
        root = next((root for root in self._roots if _is_under(path, root)), None)
        if root is None or any(_is_under(path, barred) for barred in self._barred):
            raise self._not_allowed(url)
        directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            *parents, name = path[len(root) :].strip("/").split("/")
            for parent in parents:
                below = os.open(
                    parent, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory
                )
                os.close(directory)
                directory = below
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            return os.open(name or ".", flags, dir_fd=directory)
        finally:
            os.close(directory)

    def _not_allowed(self, url: Url) -> FetchError:
        if not self._roots:
            return SchemeError(
                f"{url.redacted} can't be fetched",
                cause="no file of the host that fetches may be read",
                remedy="let the site's administrator name its directory in the setting file_roots",
                url=url.redacted,
            )
        # Not whether it exists: that is nobody's business there.
        return OriginRefusedError(
            f"{url.redacted} can't be fetched",
            cause="it is not under a directory from which files may be read",
            remedy="move it there, or let the site's administrator add its directory to the setting file_roots",
            url=url.redacted,
            status=403,
        )


class FileResponse:
    """See `Response`; owns `fd`.

    Raises:
        FetchError: it is not a regular file.
    """

    def __init__(self, fd: int, request: Request, clock: Clock) -> None:
        self._url = request.url
        self._stat = found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise _not_a_file(request.url)
        answer = reply(_version(found, clock.time()), request.headers, fresh=ASK_EACH_TIME)
        self.status = answer.status
        self.headers: Headers = answer.headers
        self._at, self._end = answer.first, answer.end
        self.end: End | None = None
        self.trailer: Headers = NO_FIELDS
        self._fd: int | None = fd
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    def take(self) -> None:
        """See `Answer.take`: it is read as it comes."""

    def readinto(self, buffer: memoryview) -> int | None:
        """See `Response.readinto`."""
        if self.end is not None or self._fd is None:
            return 0
        if self._at == self._end:
            return self._finish()
        room = buffer[: min(self._end - self._at, READ_BYTES)]
        try:
            count = os.preadv(self._fd, [room], self._at)
        except OSError as error:
            raise no_connection(self._url, os_cause(error)) from None
        if count == 0:  # it became shorter
            raise changed(self._url)
        self._at += count
        if self._at == self._end:
            self._finish()
        return count

    def close(self) -> None:
        """See `Response.close`."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _finish(self) -> int:
        assert self._fd is not None
        if _identity(os.fstat(self._fd)) != _identity(self._stat):
            raise changed(self._url)
        self.end = End.COMPLETE
        return 0


def _version(found: os.stat_result, now: float) -> Version:
    version = timed_version(found.st_size, found.st_mtime, now)
    if not version.tag:
        return version
    return version._replace(tag="-".join(str(part) for part in _identity(found)))


def _identity(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _is_under(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _not_a_file(url: Url) -> FetchError:
    return OriginRefusedError(
        f"{url.redacted} can't be fetched",
        cause="it is not a regular file",
        remedy="name one; of a directory, name its files",
        url=url.redacted,
        status=403,
    )


def _refused(url: Url, error: OSError) -> FetchError:
    what = f"{url.redacted} can't be fetched"
    if error.errno in _ABSENT:
        return OriginRefusedError(
            what, cause="there is no such file", remedy="check the path", url=url.redacted, status=404
        )
    if error.errno in _DENIED:
        remedy = "let the user who runs the fetches read it"
        return OriginRefusedError(what, cause=os_cause(error), remedy=remedy, url=url.redacted, status=403)
    return no_connection(url, os_cause(error))
