"""SMB 2 and 3 (Windows shares, Samba): known by size and times, gone on with by offset.

Upon what fsspec's own SMB is made of: that one keeps one connection for all who ask a server, whoever they are, and goes
to wherever the server refers it to.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import TypeVar

from smbprotocol.connection import Connection
from smbprotocol.exceptions import (
    AccessDenied,
    BadNetworkName,
    EndOfFile,
    FileIsADirectory,
    LogonFailure,
    ObjectNameInvalid,
    ObjectNameNotFound,
    ObjectPathInvalid,
    ObjectPathNotFound,
    ObjectPathSyntaxBad,
    PasswordExpired,
    SMBAuthenticationError,
    SMBException,
    SMBLinkRedirectionError,
    StatusNotADirectory,
    WrongPassword,
)
from smbprotocol.file_info import FileAttributes
from smbprotocol.open import (
    CreateDisposition,
    CreateOptions,
    FilePipePrinterAccessMask,
    ImpersonationLevel,
    Open,
    ShareAccess,
)
from smbprotocol.session import Session
from smbprotocol.tree import TreeConnect

from stager.errors import OriginRefusedError
from stager.model.urls import Url
from stager.transfer.decisions import Identity
from stager.transfer.remote.base import Refused, Site, at_one_place, in_blocks
from stager.transfer.source import Version, timed_version

_UNKNOWN = (
    BadNetworkName, ObjectNameInvalid, ObjectNameNotFound, ObjectPathInvalid, ObjectPathNotFound,
    ObjectPathSyntaxBad, StatusNotADirectory,
)  # fmt: skip
_NO_LOGIN = (LogonFailure, PasswordExpired, SMBAuthenticationError, WrongPassword)
_Said = TypeVar("_Said")
_ANY_OTHER = ShareAccess.FILE_SHARE_READ | ShareAccess.FILE_SHARE_WRITE | ShareAccess.FILE_SHARE_DELETE
"""Nobody is kept from the file because it is read here."""


class SmbBackend:
    """See `Backend`."""

    pins = False

    def __init__(self, url: Url, identity: Identity, site: Site) -> None:
        if not identity.user:
            raise Refused(401)
        self._trees: dict[str, TreeConnect] = {}
        self._host = url.host.strip("[]")
        self._connection = at_one_place(url, site, lambda address: _connected(address, url.port, site))
        # With a password, and never with this machine's Kerberos tickets. Signed, or it is not spoken to.
        self._session = Session(
            self._connection, identity.user, identity.password, require_encryption=False, auth_protocol="ntlm"
        )
        try:
            _said(self._session.connect)
        except BaseException:
            self.close()
            raise

    def look(self, url: Url) -> Version:
        """See `Backend.look`."""
        with self._opened(url) as file:
            changed = file.last_write_time.timestamp()
            # The time of any change, of rights too, can't be set by whoever has changed the bytes.
            return timed_version(
                file.end_of_file, changed, time.time(), f"{file.change_time.timestamp():.6f}"
            )

    def read(self, url: Url, version: Version, offset: int, end: int) -> Generator[bytes, None, None]:  # noqa: ARG002 - the port's
        """See `Backend.read`."""
        most = self._connection.max_read_size
        with self._opened(url) as file:

            def block(first: int, length: int) -> bytes:
                try:
                    return _said(lambda: bytes(file.read(first, min(length, most))))
                except EndOfFile:  # it is shorter than it was: the look that follows tells
                    return b""

            yield from in_blocks(block, offset, end)

    def abort(self) -> None:
        """See `Backend.abort`."""
        self.close()

    def close(self) -> None:
        """See `Backend.close`: the server ends the session with the connection."""
        with suppress(OSError):  # it is gone already
            self._connection.transport.close()

    @contextmanager
    def _opened(self, url: Url) -> Generator[Open, None, None]:
        _, share, *names = url.path.split("/")
        if not share or not {"", ".", ".."}.isdisjoint(names) or "\\" in url.path:  # another separator there
            raise Refused(404)
        try:
            file = _said(lambda: self._open(share, "\\".join(names)))
        except FileIsADirectory:
            file = None
        if file is None or file.file_attributes & FileAttributes.FILE_ATTRIBUTE_DIRECTORY:
            raise OriginRefusedError(
                f"{url.redacted} can't be fetched",
                cause="it is not a regular file",
                remedy="name one, as in smb://host/share/file; of a directory, name its files",
                url=url.redacted,
            )
        try:
            yield file
        finally:
            with suppress(OSError, SMBException):  # the connection is gone, and with it what was open
                file.close(get_attributes=False)

    def _open(self, share: str, path: str) -> Open:
        tree = self._trees.get(share)
        if tree is None:
            tree = TreeConnect(self._session, f"\\\\{self._host}\\{share}")
            tree.connect()
            self._trees[share] = tree
        file = Open(tree, path)
        file.create(
            ImpersonationLevel.Impersonation,
            FilePipePrinterAccessMask.FILE_READ_DATA | FilePipePrinterAccessMask.FILE_READ_ATTRIBUTES,
            FileAttributes.FILE_ATTRIBUTE_NORMAL,
            _ANY_OTHER,
            CreateDisposition.FILE_OPEN,
            CreateOptions.FILE_NON_DIRECTORY_FILE,
        )
        return file


def _connected(address: str, port: int, site: Site) -> Connection:
    connection = Connection(uuid.uuid4(), address, port, require_signing=True)
    try:
        connection.connect(timeout=site.connect_timeout_seconds)
    except ValueError as error:  # its word for a connection that can't be made
        raise OSError(str(error)) from None
    return connection


def _said(call: Callable[[], _Said]) -> _Said:
    """What `call` returns; an answer that says no is raised as `Refused`."""
    try:
        return call()
    except _NO_LOGIN:
        raise Refused(401) from None
    except AccessDenied:
        raise Refused(403) from None
    except (*_UNKNOWN, SMBLinkRedirectionError):  # a link that leads to another server is not followed
        raise Refused(404) from None
