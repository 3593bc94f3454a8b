"""Calls about credentials; no secret comes back."""

from __future__ import annotations

from collections.abc import Mapping

from stager.client.patience import once
from stager.client.shapes import view, views
from stager.client.talk import Group, M, Request, Talk, answered, part
from stager.model.credentials import CredentialView, NewCredential


class CredentialCalls(Group[M]):
    """``client.credentials``: what origins are shown."""

    @answered
    def add(self, new: NewCredential) -> Talk[CredentialView]:
        """See `CredentialService.add`."""
        scope = new.scope
        body = {
            "host": scope.host,
            "prefix": scope.prefix,
            "owner": scope.owner,
            "allow_http": scope.allow_http,
            "kind": new.kind.value,
            "parts": dict(new.parts),
            "expires_at": new.expires_at,
        }
        request = Request("POST", "credentials", json=body)
        return view(CredentialView, (yield from once(request, self._driver.outage_seconds)))

    @answered
    def rotate(
        self, word: str, parts: Mapping[str, str], expires_at: float | None = None
    ) -> Talk[CredentialView]:
        """See `CredentialService.rotate`."""
        body = {"parts": dict(parts), "expires_at": expires_at}
        return view(CredentialView, (yield Request("PUT", f"credentials/{part(word)}", json=body)))

    @answered
    def remove(self, word: str) -> Talk[CredentialView]:
        """See `CredentialService.remove`."""
        return view(CredentialView, (yield Request("DELETE", f"credentials/{part(word)}")))

    @answered
    def list(self, host: str = "", owner: str | None = None) -> Talk[list[CredentialView]]:
        """See `CredentialService.list`."""
        answer = yield Request("GET", "credentials", {"host": host, "owner": owner})
        return views(CredentialView, answer["credentials"])
