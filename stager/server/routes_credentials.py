"""Credentials: given, replaced, listed, removed. No answer has a secret in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from stager.errors import ConflictError
from stager.model.credential_scope import Scope
from stager.model.credentials import CredentialView, Kind, NewCredential
from stager.server.once import MakesOnce
from stager.server.problems import described
from stager.server.who import About, May
from stager.service.credentials import CredentialService

Parts = Annotated[
    dict[str, str],
    Field(
        repr=False,
        description="What belongs to the kind, by name, such as user and password; see the how-to.",
        examples=[{"user": "ada", "password": "..."}],
    ),
]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class CredentialIn(_Shape):
    """A credential."""

    host: str = Field(
        description="HOST, *.DOMAIN, or either with :PORT: where it may go.", examples=["data.example.org"]
    )
    prefix: str = Field(default="/", description="Of the path, whole segments.", examples=["/private"])
    owner: str = Field(
        default="",
        description="Whose fetches use it; empty: everybody's, or, from who may only give his own, his.",
        examples=["ada"],
    )
    kind: Kind = Field(default=Kind.BASIC, description="How it is shown to an origin.")
    parts: Parts
    allow_http: bool = Field(default=False, description="It may go over unencrypted connections too.")
    expires_at: float | None = Field(
        default=None, description="Seconds since 1970 UTC; null: never.", allow_inf_nan=False
    )

    def to_new(self, owner: str) -> NewCredential:
        """The credential, checked."""
        scope = Scope(self.host, self.prefix, owner, self.allow_http)
        return NewCredential(scope, self.kind, self.parts, self.expires_at)


class SecretIn(_Shape):
    """A new secret for a credential that there is."""

    parts: Parts
    expires_at: float | None = Field(
        default=None, description="Seconds since 1970 UTC; null: never.", allow_inf_nan=False
    )


@dataclass(frozen=True)
class CredentialList:
    """Credentials by host, path and owner."""

    credentials: list[CredentialView]


def credential_routes(service: CredentialService | None) -> APIRouter:
    """Routes below ``/v1/credentials``."""
    router = APIRouter(prefix="/credentials", tags=["credentials"])

    def taken() -> CredentialService:
        if service is None:
            raise ConflictError("this server takes no credentials", remedy="ask the one that fetches")
        return service

    @router.get("", responses=described(409, 503), summary="List credentials")
    def credentials(
        may: May,
        host: Annotated[str, Query(description="Only those of this host or pattern.")] = "",
        owner: Annotated[
            str | None, Query(description="Only those of this owner; empty: the site's.")
        ] = None,
    ) -> CredentialList:
        """What there is, its scope, last use and end; never a secret."""
        return CredentialList(taken().list(host, may.about(owner)))

    @router.post("", status_code=201, responses=described(409, 503), summary="Give a credential")
    def add(body: CredentialIn, may: May, about: About, once: MakesOnce) -> CredentialView:
        """Keep it, sealed; one of the same host, prefix, owner and kind is replaced. Jobs that wait for it go on."""
        owner = body.owner if may.only is None else may.owner(body.owner)
        added = once(CredentialView, lambda _: taken().add(body.to_new(owner)))
        about(f"{added.id} for {added.host} of {added.owner or 'everybody'}")
        return added

    @router.put("/{word}", responses=described(404, 409, 503), summary="Replace a secret")
    def rotate(word: str, body: SecretIn, may: May) -> CredentialView:
        """By id, or by host if it has only one. What is no secret stays, unless it is given too."""
        return taken().rotate(word, body.parts, body.expires_at, may.only)

    @router.delete("/{word}", responses=described(404, 409, 503), summary="Remove a credential")
    def remove(word: str, may: May) -> CredentialView:
        """Forget it, and what was obtained with it."""
        return taken().remove(word, may.only)

    return router
