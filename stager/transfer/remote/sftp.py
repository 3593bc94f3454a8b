"""SFTP: only servers whose key is known; known by size and time, gone on with by offset."""

from __future__ import annotations

import asyncio
import stat
import time
from collections.abc import Generator
from contextlib import suppress
from functools import partial
from typing import Any

import asyncssh
from sshfs import SSHFileSystem

from stager.errors import CredentialUnreadableError, HostKeyError, OriginRefusedError
from stager.model.urls import Url
from stager.transfer.decisions import Identity
from stager.transfer.remote.base import Refused, Site, at_one_place, in_blocks
from stager.transfer.source import Version, timed_version

KEEPALIVE_SECONDS = 15.0
"""A server that answers none of three questions so far apart is gone."""


class _Client(asyncssh.SSHClient):
    """Asked by asyncssh about a host key that is in no file: it is not accepted, and remembered for the message."""

    def __init__(self, met: list[asyncssh.SSHKey]) -> None:
        self._met = met

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002 - its
        self._met.append(key)
        return False


class SftpBackend:
    """See `Backend`."""

    pins = False

    def __init__(self, url: Url, identity: Identity, site: Site) -> None:
        if not identity.user:
            raise Refused(401)
        known = b"\n".join(path.read_bytes() for path in site.known_hosts if path.is_file())
        met: list[asyncssh.SSHKey] = []
        try:
            self._fs = at_one_place(
                url,
                site,
                lambda address: SSHFileSystem(
                    address,
                    port=url.port,
                    host_key_alias=url.host.strip("[]"),
                    username=identity.user,
                    password=identity.password or None,
                    client_keys=[_key(identity, url)] if identity.key else None,
                    client_factory=partial(_Client, met),
                    known_hosts=known,
                    config=None,  # nothing of this user's own SSH
                    agent_path=None,
                    connect_timeout=site.connect_timeout_seconds,
                    login_timeout=site.connect_timeout_seconds,
                    keepalive_interval=KEEPALIVE_SECONDS,
                    skip_instance_cache=True,  # it has no cache of listings
                ),
            )
        except PermissionError:
            raise Refused(401) from None
        except asyncssh.HostKeyNotVerifiable as error:
            raise _unknown(url, site, known, met, str(error)) from None
        self._patience = site.read_timeout_seconds

    def look(self, url: Url) -> Version:
        """See `Backend.look`."""
        try:
            info = self._fs.info(url.path)
        except FileNotFoundError:
            raise Refused(404) from None
        except (PermissionError, asyncssh.SFTPPermissionDenied):
            raise Refused(403) from None
        if not stat.S_ISREG(info["permissions"] or 0):
            raise OriginRefusedError(
                f"{url.redacted} can't be fetched",
                cause="it is not a regular file",
                remedy="name one; of a directory, name its files",
                url=url.redacted,
            )
        modified = info["mtime"]
        return timed_version(info["size"], None if modified is None else modified.timestamp(), time.time())

    def read(self, url: Url, version: Version, offset: int, end: int) -> Generator[bytes, None, None]:  # noqa: ARG002 - the port's
        """See `Backend.read`."""
        try:
            file = self._fs.open(url.path, "rb")
        except FileNotFoundError:
            raise Refused(404) from None
        except (PermissionError, asyncssh.SFTPPermissionDenied):
            raise Refused(403) from None
        try:
            yield from in_blocks(lambda first, length: _at(file, first, length), offset, end)
        finally:
            with suppress(OSError, asyncssh.Error):  # the connection is gone
                file.close()

    def abort(self) -> None:
        """See `Backend.abort`."""
        self._fs.loop.call_soon_threadsafe(self._fs.client.abort)

    def close(self) -> None:
        """See `Backend.close`."""
        with suppress(OSError, asyncssh.Error):  # it is gone already, or says nothing
            asyncio.run_coroutine_threadsafe(self._end(), self._fs.loop).result(1.0)

    async def _end(self) -> None:
        self._fs.client.close()
        await self._fs.client.wait_closed()


def _at(file: Any, offset: int, length: int) -> bytes:
    file.seek(offset)
    return bytes(file.read(length))


def _key(identity: Identity, url: Url) -> asyncssh.SSHKey:
    try:
        return asyncssh.import_private_key(identity.key, identity.passphrase or None)
    except (ValueError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
        raise CredentialUnreadableError(
            f"{url.redacted} can't be fetched",
            cause=f"the SSH key for {url.place} can't be read, or its passphrase is wrong",
            remedy="give it again",
            url=url.redacted,
            host=url.place,
        ) from None


def _unknown(url: Url, site: Site, known: bytes, met: list[asyncssh.SSHKey], said: str) -> HostKeyError:
    what = f"{url.redacted} can't be fetched"
    host = url.host.strip("[]")
    where = site.known_hosts[0] if site.known_hosts else "the file of the setting sftp_known_hosts"
    shown = f"{met[-1].get_algorithm()} {met[-1].get_fingerprint()}" if met else said
    keys, authorities, _ = asyncssh.match_known_hosts(known, host, "", url.port)[:3]
    if keys or authorities:
        return HostKeyError(
            what,
            cause=f"{url.place} shows another key ({shown}) than the one that is known: it may be another host",
            remedy=f"ask its administrator; if the key was really changed, replace it in {where}",
            url=url.redacted,
        )
    port = "" if url.port == 22 else f"-p {url.port} "  # noqa: PLR2004 - that of SSH
    return HostKeyError(
        what,
        cause=f"the key of {url.place} is not known: {shown}",
        remedy=f"compare it with what its administrator says, then `ssh-keyscan {port}{host} >> {where}`",
        url=url.redacted,
    )
