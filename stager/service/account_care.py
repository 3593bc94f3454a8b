"""Keeps accounts up to date and writes the audit log, beside the requests: none of them waits for a database because of who asks."""

from __future__ import annotations

import logging
import threading

from stager.errors import StagerError
from stager.service.accounts import AccountService
from stager.service.audit import AuditLog

log = logging.getLogger(__name__)

EVERY_SECONDS = 1.0
"""So long another server of the same database may go on to take a token that was revoked here."""


class AccountCare:
    """One thread, which sleeps in between.

    Args:
        accounts: what is kept up to date.
        audit: what is written.
    """

    def __init__(self, accounts: AccountService, audit: AuditLog) -> None:
        self.accounts = accounts
        self.audit = audit
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
        for part in (self.accounts.tend, self.audit.write):
            try:
                part()
            except StagerError as error:
                log.warning("accounts and audit log wait: %s", error)
            except Exception:
                log.exception("internal fault while looking after accounts")
