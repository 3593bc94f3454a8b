"""Who takes credentials, and who lets go on what waited for them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from stager.clock import SystemClock
from stager.mapper.loop import Mapper
from stager.model.credentials import CredentialRow
from stager.service.credential_watch import CredentialWatch
from stager.service.credentials import CredentialService
from stager.service.ids import IdMaker
from stager.settings import Settings
from stager.wiring.credentials import build_store, closer


def build_credential_service(
    settings: Settings, given: Callable[[CredentialRow], None] = lambda _: None
) -> CredentialService:
    """Takes credentials; makes the keys at the first one."""
    clock = SystemClock()
    return CredentialService(
        build_store(settings),
        lambda: closer(settings, make=True),
        clock,
        IdMaker(clock),
        given,
    )


def build_credential_watch(settings: Settings, mapper: Mapper, made: ExitStack) -> CredentialWatch:
    """Lets go on what waited for a credential, once it is there; workers of a farm get it sealed, through Redis."""
    store = build_store(settings)
    if settings.farm != "celery":
        return CredentialWatch(store, mapper, SystemClock())
    from stager.service.credential_spread import CredentialSpread
    from stager.signals.vault import RedisStore
    from stager.wiring.redis import redis_address

    shared = RedisStore(redis_address(settings))
    made.callback(shared.close)
    return CredentialWatch(store, mapper, SystemClock(), CredentialSpread(store, shared))
