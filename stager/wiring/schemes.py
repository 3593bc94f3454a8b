"""What reads the schemes besides http and https."""

from __future__ import annotations

from stager.settings import Settings
from stager.transfer.limited import LimitedTransport
from stager.transfer.local import FileTransport
from stager.transfer.schemes import SchemesTransport
from stager.transfer.transport import Transport


def other_transports(settings: Settings) -> dict[str, Transport]:
    """A transport for each scheme besides http and https."""
    barred = (settings.state_dir, settings.cache_dir)
    return {"file": FileTransport(settings.file_roots, barred=barred)}


def other_schemes(settings: Settings) -> Transport:
    """One for all of them, with the limits that hold for each origin."""
    return LimitedTransport(SchemesTransport(other_transports(settings)), settings.origin_connections)
