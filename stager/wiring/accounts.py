"""Who may ask the server, put together as the settings say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from stager.clock import Clock
from stager.service.account_care import AccountCare
from stager.service.accounts import AccountService
from stager.service.audit import AuditLog
from stager.settings import Settings
from stager.state.store import Store


def build_account_care(
    settings: Settings, store: Store, clock: Clock, ids: Iterator[str], made: ExitStack
) -> AccountCare:
    """Users, their tokens, and what they did: kept up to date once it is started."""
    audit = AuditLog(store.audit, clock, ids, settings.audit_days)
    care = AccountCare(AccountService(store.accounts, clock, ids), audit)
    made.callback(care.close)
    return care
