"""FTP: anonymous or with a password; known by SIZE and MDTM, gone on with by REST."""

from __future__ import annotations

import ftplib
import re
import time
from calendar import timegm
from collections.abc import Callable, Generator
from contextlib import suppress
from socket import SHUT_RDWR
from typing import TypeVar

from fsspec.implementations.ftp import FTPFileSystem

from stager.errors import ProtocolError
from stager.model.urls import Url
from stager.transfer.decisions import Identity
from stager.transfer.remote.base import Refused, Site, at_one_place
from stager.transfer.source import Version, timed_version

PIECE_BYTES = 1 << 18
_Said = TypeVar("_Said")
_MDTM = re.compile(r"213 (\d{14})(\.\d+)?")
_DENIED = re.compile(r"(?i)permission|denied|not allowed|access")
_NO_LOGIN = {"530", "331", "332", "430", "532"}
_UNKNOWN = {"500", "501", "502", "504", "550"}
"""What servers answer to a command that they do not have, or not for this."""


class FtpBackend:
    """See `Backend`."""

    pins = False

    def __init__(self, url: Url, identity: Identity, site: Site) -> None:
        self._fs = at_one_place(url, site, lambda address: _connected(address, url, identity, site))
        self._ftp: ftplib.FTP = self._fs.ftp
        self._patience = site.read_timeout_seconds
        if self._ftp.sock is not None:
            self._ftp.sock.settimeout(self._patience)

    def look(self, url: Url) -> Version:
        """See `Backend.look`."""
        _said(lambda: self._ftp.voidcmd("TYPE I"))  # else SIZE is of the text
        size = _said(lambda: self._ftp.size(url.path))
        if size is None:
            raise ProtocolError(
                f"{url.redacted} can't be fetched",
                cause="the origin does not say how long the file is",
                remedy="get it in another way",
                url=url.redacted,
            )
        return timed_version(size, self._modified(url), time.time())

    def read(self, url: Url, version: Version, offset: int, end: int) -> Generator[bytes, None, None]:
        """See `Backend.read`."""
        command = f"RETR {url.path}"
        skip = 0
        try:
            sock = self._ftp.transfercmd(command, rest=offset or None)
        except ftplib.error_perm as error:
            if not offset or str(error)[:3] not in _UNKNOWN:
                raise _refusal(error) from None
            skip = offset  # it knows no REST, or not with this file: what we have comes once more
            sock = _said(lambda: self._ftp.transfercmd(command))
        with sock:
            sock.settimeout(self._patience)
            left = end - offset
            while left > 0:
                piece = sock.recv(PIECE_BYTES)
                if not piece:
                    break
                if skip:
                    skip, piece = max(0, skip - len(piece)), piece[skip:]
                piece = piece[:left]
                left -= len(piece)
                if piece:
                    yield piece
            whole = not left and end == version.size and not sock.recv(1)
        try:
            self._ftp.voidresp()  # always: else it would be taken for the answer to what is asked next
        except ftplib.Error:
            if whole:  # else of what nobody wanted, or was cut, or grew: the look that follows tells
                raise

    def abort(self) -> None:
        """See `Backend.abort`."""
        sock = self._ftp.sock
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(SHUT_RDWR)

    def close(self) -> None:
        """See `Backend.close`."""
        self._ftp.close()

    def _modified(self, url: Url) -> float | None:
        try:
            found = _MDTM.match(_said(lambda: self._ftp.sendcmd(f"MDTM {url.path}")))
        except Refused:
            return None
        if found is None:
            return None
        return timegm(time.strptime(found[1], "%Y%m%d%H%M%S")) + float(found[2] or 0)


def _connected(address: str, url: Url, identity: Identity, site: Site) -> FTPFileSystem:
    return _said(
        lambda: FTPFileSystem(
            address,  # data, too, come from there, whatever the server says (see ftplib's trust_server_pasv_ipv4_address)
            url.port,
            username=identity.user,
            password=identity.password,
            timeout=site.connect_timeout_seconds,
            skip_instance_cache=True,
            use_listings_cache=False,
        )
    )


def _said(call: Callable[[], _Said]) -> _Said:
    """What `call` returns; an answer that says no is raised as `Refused`."""
    try:
        return call()
    except ftplib.Error as error:
        raise _refusal(error) from None


def _refusal(error: ftplib.Error) -> Exception:
    text = str(error)
    if text[:3] in _NO_LOGIN:
        return Refused(401)
    if isinstance(error, ftplib.error_temp):
        return Refused(503)
    if text[:3] in {"550", "553"}:
        return Refused(403 if _DENIED.search(text) else 404)
    return Refused(502)
