"""Where Redis is, and who speaks to it."""

from __future__ import annotations

import os
import re

from stager.settings import Settings
from stager.signals.connection import RedisAddress


def redis_address(settings: Settings) -> RedisAddress:
    """Redis as set.

    Raises:
        SettingsError: the address makes no sense, or a file can't be read.
    """
    return RedisAddress(
        settings.redis_url, password_file=settings.redis_password_file, ca_bundle=settings.redis_ca_bundle
    )


def node_name(settings: Settings) -> str:
    """The name of this host among the workers."""
    return settings.node or re.sub(r"[^A-Za-z0-9_.-]", "-", os.uname().nodename)[:63] or "node"
