"""Keeps accounts up to date, beside the requests: none of them waits for a database because of who asks."""

from __future__ import annotations

import logging
import threading

from stager.errors import StagerError
from stager.service.accounts import AccountService

log = logging.getLogger(__name__)

EVERY_SECONDS = 1.0
"""So long another server of the same database may go on to take a token that was revoked here."""


class AccountCare:
    """One thread, which sleeps in between.

    Args:
        accounts: what is kept up to date.
    """

    def __init__(self, accounts: AccountService) -> None:
        self.accounts = accounts
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="accounts", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End; what was noted is written first."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(EVERY_SECONDS):
            self._tend()
        self._tend()

    def _tend(self) -> None:
        try:
            self.accounts.tend()
        except StagerError as error:
            log.warning("accounts are as they were: %s", error)
        except Exception:
            log.exception("internal fault while looking after accounts")
