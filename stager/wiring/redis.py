"""Where Redis is."""

from __future__ import annotations

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
