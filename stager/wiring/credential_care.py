"""Who takes credentials, and who lets go on what waited for them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from stager.clock import SystemClock
from stager.mapper.loop import Mapper
from stager.model.credentials import CredentialRow
from stager.service.credential_watch import CredentialWatch
from stager.service.credentials import CredentialService
from stager.service.grants import GrantService
from stager.service.ids import IdMaker
from stager.settings import Settings
from stager.wiring.credentials import build_store, closer


def build_credential_service(
    settings: Settings, changed: Callable[[CredentialRow, bool], None] = lambda _, __: None
) -> CredentialService:
    """Takes credentials; makes the keys at the first one."""
    clock = SystemClock()
    return CredentialService(
        build_store(settings),
        lambda: closer(settings, make=True),
        clock,
        IdMaker(clock),
        changed,
    )


def build_credential_watch(
    settings: Settings, mapper: Mapper, grants: GrantService, made: ExitStack
) -> CredentialWatch:
    """Lets go on what waited for a credential, once it is there; workers of a farm get it sealed, through Redis.

    Grants go with the credentials.
    """
    store = build_store(settings)
    if settings.farm != "celery":
        return CredentialWatch(store, mapper, SystemClock(), changed=grants.keep_those_of)
    from stager.service.credential_spread import CredentialSpread
    from stager.signals.vault import RedisStore
    from stager.wiring.redis import redis_address

    shared = RedisStore(redis_address(settings))
    made.callback(shared.close)
    spread = CredentialSpread(store, shared)
    return CredentialWatch(store, mapper, SystemClock(), spread, changed=grants.keep_those_of)
