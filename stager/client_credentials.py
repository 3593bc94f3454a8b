"""The API's client for credentials: the same calls as `CredentialService`, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from stager.client_cache import view
from stager.model.credentials import CredentialView, NewCredential


class CredentialCalls:
    """What a server can be told about credentials.

    Args:
        ask: method, path, then `params` and `json`; the answer.
    """

    def __init__(self, ask: Callable[..., dict[str, Any]]) -> None:
        self._ask = ask

    def add(self, new: NewCredential) -> CredentialView:
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
        return view(CredentialView, self._ask("POST", "credentials", json=body))

    def rotate(self, word: str, parts: Mapping[str, str], expires_at: float | None = None) -> CredentialView:
        """See `CredentialService.rotate`."""
        body = {"parts": dict(parts), "expires_at": expires_at}
        return view(CredentialView, self._ask("PUT", f"credentials/{quote(word, safe='')}", json=body))

    def remove(self, word: str) -> CredentialView:
        """See `CredentialService.remove`."""
        return view(CredentialView, self._ask("DELETE", f"credentials/{quote(word, safe='')}"))

    def list(self, host: str = "", owner: str | None = None) -> list[CredentialView]:
        """See `CredentialService.list`."""
        params = {"host": host} | ({} if owner is None else {"owner": owner})
        answer = self._ask("GET", "credentials", params=params)
        return [view(CredentialView, one) for one in answer["credentials"]]
