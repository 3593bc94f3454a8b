"""Asks for a file with the credential that is for it, and looks at the head of the answer alone."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, cast

from stager.clock import Clock
from stager.credentials.wallet import Wallet
from stager.model.credentials import CredentialRow
from stager.model.fetches import FetchRequest
from stager.transfer.access import Access
from stager.transfer.asks import Fill, Open, Steps
from stager.transfer.blocking import run
from stager.transfer.decisions import Again
from stager.transfer.options import TransferOptions
from stager.transfer.plan import TransferPlan
from stager.transfer.transport import Transport


def try_credential(
    wallet: Wallet, transport: Transport, request: FetchRequest, options: TransferOptions, clock: Clock
) -> CredentialRow | None:
    """What was shown to the origin that gave the file; None: nothing was needed.

    Raises:
        FetchError: it did not give it; a `CredentialError` says what is known of the credential.
    """
    steps = _steps(wallet, request, options, clock)
    return cast("CredentialRow | None", run(cast("Steps", steps), transport, clock))


def _steps(
    wallet: Wallet, request: FetchRequest, options: TransferOptions, clock: Clock
) -> Generator[Open | Fill, Any, CredentialRow | None]:
    plan = TransferPlan(request, options)
    access = Access(wallet, request.owner, clock, again=True)

    def pulse(_: float) -> None:
        """Whoever waits presses Ctrl-C."""

    while True:
        yield from access.prepare(plan, pulse)
        answer = yield Open(plan.next_request(), pulse)
        try:
            if not isinstance(access.decide(plan, answer), Again):
                return access.shown
        finally:
            answer.close()
