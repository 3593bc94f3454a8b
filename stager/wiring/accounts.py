"""Who may ask the server, put together as the settings say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from stager.clock import Clock
from stager.service.account_care import AccountCare
from stager.service.accounts import AccountService
from stager.state.store import Store


def build_account_care(store: Store, clock: Clock, ids: Iterator[str], made: ExitStack) -> AccountCare:
    """Users and their tokens, kept up to date once it is started."""
    care = AccountCare(AccountService(store.accounts, clock, ids))
    made.callback(care.close)
    return care
