"""Tokens of an issuer, as the settings say."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from stager.clock import SystemClock
from stager.errors import SettingsError
from stager.model.accounts import User
from stager.model.principals import Role
from stager.settings import Settings
from stager.transfer.documents import read_document
from stager.transfer.http import HttpTransport
from stager.wiring import build_reach

if TYPE_CHECKING:
    from stager.service.oidc import Oidc


def build_oidc(settings: Settings, user: Callable[[str], User | None]) -> Oidc | None:
    """Who shows tokens of the issuer that is set; None: none is.

    Raises:
        SettingsError: what is said about it makes no sense, or a package is missing.
    """
    if not settings.oidc_issuer:
        return None
    if find_spec("joserfc") is None:
        raise SettingsError(
            "the package joserfc is not installed",
            cause="tokens of an issuer are verified with it",
            remedy="pip install 'stager[oidc]'",
        )
    if not settings.oidc_audience:
        raise SettingsError(
            "oidc_audience is not set",
            cause="without it a token that the issuer made for another service would be taken",
            remedy="set it to the name that this server has there",
        )
    from stager.service.oidc import Issuer, Oidc

    issuer = Issuer(
        settings.oidc_issuer,
        settings.oidc_audience,
        settings.oidc_user_claim,
        settings.oidc_role_claim,
        {text: Role(role) for text, role in settings.oidc_roles.items()},
        Role(settings.oidc_default_role) if settings.oidc_default_role else None,
    )
    clock, reach = SystemClock(), build_reach(settings)

    def read(url: str) -> dict[str, Any]:
        transport = HttpTransport(
            connect_timeout_seconds=settings.connect_timeout_seconds,
            ca_bundle=settings.ca_bundle,
            reach=reach,
        )
        with closing(transport):
            return read_document(url, transport, clock)

    return Oidc(issuer, read, clock, user)
