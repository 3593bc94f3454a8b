"""What reads the schemes besides http and https."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stager.errors import SettingsError
from stager.model.checks import Checked, Health
from stager.model.urls import GENERIC, ON_DEMAND, SCHEMES, looks_secret
from stager.settings import Settings
from stager.transfer.limited import LimitedTransport
from stager.transfer.local import FileTransport
from stager.transfer.reach import Reach
from stager.transfer.remote import BACKENDS, PACKAGES
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
        schemes=settings.other_schemes,
        generic=unchecked_schemes(settings),
        reach=reach,
    )
    remote = RemoteTransport(site, connections=settings.origin_connections)
    local = FileTransport(settings.file_roots, barred=barred)
    return {"file": local, **dict.fromkeys(BACKENDS, remote)}


def unchecked_schemes(settings: Settings) -> dict[str, dict[str, Any]]:
    """What the constructors of the file systems of these schemes are given.

    Raises:
        SettingsError: fsspec knows no such scheme, it needs no such setting, or a secret is among what is given.
    """
    for scheme, given in settings.unchecked_schemes.items():
        if scheme not in GENERIC:
            raise SettingsError(
                f"setting unchecked_schemes names {scheme!r}", cause=f"it can have {', '.join(GENERIC)}"
            )
        for name in filter(looks_secret, given):
            raise SettingsError(
                f"setting unchecked_schemes gives {name} to {scheme}",
                cause="that looks like a secret, and settings are no place for one",
                remedy="put it where the library of the scheme looks by itself: a file, or the environment of what fetches",
            )
    return settings.unchecked_schemes


def scheme_checks(settings: Settings) -> Iterator[Checked]:
    """Which schemes can be read, and whether what they need is there."""
    read = [scheme for scheme in SCHEMES if scheme not in ON_DEMAND or scheme in settings.other_schemes]
    read += unchecked_schemes(settings)
    missing = [scheme for scheme in read if scheme in PACKAGES and find_spec(PACKAGES[scheme]) is None]
    found = ", ".join(scheme for scheme in read if scheme not in missing)
    extras = ", ".join(f"stager[{scheme}]" for scheme in missing)
    finding = found + (f"; not installed: {extras}" if extras else "")
    if set(missing).isdisjoint(settings.other_schemes):
        yield Checked("schemes", Health.OK, finding)
    else:
        remedy = (
            "install what is missing where fetches run, or take the scheme out of the setting other_schemes"
        )
        yield Checked("schemes", Health.WARNING, finding, remedy)
    for root in settings.file_roots:
        if not root.is_dir():
            remedy = "mount it, or take it out of the setting file_roots"
            yield Checked("file_roots", Health.WARNING, f"{root} is not a directory here", remedy)
    if settings.sftp_known_hosts and not known_hosts(settings)[0].is_file():
        remedy = "write the keys of the site's SSH servers into it, as of `ssh-keyscan HOST`"
        yield Checked(
            "sftp_known_hosts", Health.WARNING, f"{settings.sftp_known_hosts} does not exist", remedy
        )


def known_hosts(settings: Settings) -> tuple[Path, ...]:
    """Files with the keys of SSH servers: the one that is set, else those that OpenSSH reads."""
    if settings.sftp_known_hosts:
        return (Path(settings.sftp_known_hosts).expanduser(),)
    return Path("~/.ssh/known_hosts").expanduser(), Path("/etc/ssh/ssh_known_hosts")


def other_schemes(settings: Settings, reach: Reach) -> Transport:
    """One for all of them, with the limits that hold for each origin."""
    return LimitedTransport(SchemesTransport(other_transports(settings, reach)), settings.origin_connections)
