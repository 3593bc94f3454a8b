"""What reads the schemes besides http and https."""

from __future__ import annotations

from pathlib import Path

from stager.settings import Settings
from stager.transfer.limited import LimitedTransport
from stager.transfer.local import FileTransport
from stager.transfer.reach import Reach
from stager.transfer.remote import BACKENDS
from stager.transfer.remote.base import Site
from stager.transfer.remote.transport import RemoteTransport
from stager.transfer.schemes import SchemesTransport
from stager.transfer.transport import Transport


def other_transports(settings: Settings, reach: Reach) -> dict[str, Transport]:
    """A transport for each scheme besides http and https."""
    barred = (settings.state_dir, settings.cache_dir)
    site = Site(
        connect_timeout_seconds=settings.connect_timeout_seconds,
        read_timeout_seconds=settings.read_timeout_seconds,
        known_hosts=known_hosts(settings),
        endpoints=settings.endpoints,
        ca_bundle=settings.ca_bundle,
        reach=reach,
    )
    remote = RemoteTransport(site, connections=settings.origin_connections)
    local = FileTransport(settings.file_roots, barred=barred)
    return {"file": local, **dict.fromkeys(BACKENDS, remote)}


def known_hosts(settings: Settings) -> tuple[Path, ...]:
    """Files with the keys of SSH servers: the one that is set, else those that OpenSSH reads."""
    if settings.sftp_known_hosts:
        return (Path(settings.sftp_known_hosts).expanduser(),)
    return Path("~/.ssh/known_hosts").expanduser(), Path("/etc/ssh/ssh_known_hosts")


def other_schemes(settings: Settings, reach: Reach) -> Transport:
    """One for all of them, with the limits that hold for each origin."""
    return LimitedTransport(SchemesTransport(other_transports(settings, reach)), settings.origin_connections)
