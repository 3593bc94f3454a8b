"""A request with a credential, as a fetch of this machine would make it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing

from stager.clock import SystemClock
from stager.model.credentials import CredentialRow
from stager.model.fetches import FetchRequest
from stager.model.urls import WEB
from stager.settings import Settings
from stager.transfer.device import Invitation, refresh_token
from stager.transfer.http import HttpTransport
from stager.transfer.reach import Reach
from stager.transfer.schemes import SchemesTransport
from stager.transfer.trial import try_credential
from stager.wiring import build_reach, transfer_options
from stager.wiring.credentials import build_store, build_wallet
from stager.wiring.schemes import other_transports


def try_url(settings: Settings, request: FetchRequest) -> CredentialRow | None:
    """What was shown to the origin that gave the file; None: nothing was needed.

    Raises:
        FetchError: it did not give it.
    """
    store = build_store(settings)
    reach = build_reach(settings)
    web = _transport(settings, reach)
    transport = SchemesTransport({**dict.fromkeys(WEB, web), **other_transports(settings, reach)})
    before = {row.id: store.notes(row.id) for row in store.rows()}
    with closing(transport):
        wallet = build_wallet(settings, store)
        shown = try_credential(wallet, transport, request, transfer_options(settings), SystemClock())
    if shown is not None and before[shown.id].is_refused:
        store.swap(shown, shown)  # whoever has seen that it was refused looks again
    return shown


def granted(
    settings: Settings,
    parts: Mapping[str, str],
    sleep: Callable[[float], None],
    invite: Callable[[Invitation], None],
) -> str:
    """A refresh token, once somebody has said yes; see `stager.transfer.device`."""
    with closing(_transport(settings, build_reach(settings))) as transport:
        return refresh_token(parts, transport, SystemClock(), sleep, invite)


def _transport(settings: Settings, reach: Reach) -> HttpTransport:
    return HttpTransport(
        connect_timeout_seconds=settings.connect_timeout_seconds,
        ca_bundle=settings.ca_bundle,
        reach=reach,
    )
