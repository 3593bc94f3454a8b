"""Settings about who reaches the server, and how."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Literal

from pydantic import BaseModel, Field
from pydantic_settings import NoDecode


class AccessSettings(BaseModel):
    """Part of `stager.settings.Settings`."""

    listen: str = Field(default="127.0.0.1", min_length=1)
    """Address that the server binds; one that other machines reach wants TLS and users."""
    port: int = Field(default=8717, ge=0, le=65535)
    """Port of the server; 0: any free one."""
    host_names: Annotated[tuple[str, ...], NoDecode] = ()
    """Names by which clients reach the server, with commas, the one for its own commands first; besides this host's name and addresses."""
    tls_certificate: str = ""
    """File with the server's certificate and its chain (PEM); empty: no TLS. Read again when it changes, and at SIGHUP."""
    tls_key: str = ""
    """File with the private key of `tls_certificate` (PEM)."""
    listen_plain: bool = False
    """Listen where other machines reach it although nothing is encrypted: behind a proxy that does that."""
    requests_per_second: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 500.0
    """Requests of one user in the long run; 0: no limit. The server's own token has none."""
    audit_days: Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False)] = 365.0
    """How long the audit log keeps who did what; 0: for ever."""
    proxy_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    """Networks of proxies that are believed, with commas: where a request came from (X-Forwarded-For, X-Forwarded-Proto)."""
    proxy_user_header: str = Field(default="", pattern=r"^([A-Za-z][A-Za-z0-9-]*)?$")
    """Header in which these proxies say who asks, such as ``X-Remote-User``; empty: they don't."""
    proxy_unknown_role: Literal["", "reader", "user"] = ""
    """Role of whom a proxy names and who is no user here; empty: he may not come in."""
    oidc_issuer: str = ""
    """URL of an OpenID Connect issuer whose tokens are taken; empty: none are."""
    oidc_audience: str = ""
    """What its tokens for this server have as ``aud``."""
    oidc_user_claim: str = Field(default="preferred_username", min_length=1)
    """Claim with the user's name."""
    oidc_role_claim: str = ""
    """Claim with groups or roles (dots lead into objects, such as ``realm_access.roles``); empty: none counts."""
    oidc_roles: dict[str, Literal["reader", "user", "operator", "admin"]] = Field(default_factory=dict)
    """Role by such a group, such as ``{"stager-operators" = "operator"}``; of several the one that may most."""
    oidc_default_role: Literal["", "reader", "user"] = ""
    """Role of whoever has none of them; empty: he may not come in."""
    server: str = ""
    """URL of the server for clients; empty: `listen` and `port`."""
    server_ca_bundle: str = ""
    """File with the certificates that clients of the server trust; empty: the usual ones."""
    token_file: str = ""
    """File with the token that clients show, and that the server makes for its administrator; empty: `state_dir`/token."""
