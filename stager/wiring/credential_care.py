"""Who takes credentials, and who lets go on what waited for them."""

from __future__ import annotations

from collections.abc import Callable

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


def build_credential_watch(settings: Settings, mapper: Mapper) -> CredentialWatch:
    """Lets go on what waited for a credential, once it is there."""
    return CredentialWatch(build_store(settings), mapper, SystemClock())
