"""Who it is that asks, by what he shows."""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers

from stager.errors import AccessDeniedError
from stager.model.accounts import PREFIX
from stager.model.principals import SERVER_TOKEN, Principal
from stager.service.accounts import AccountService


class Authentication:
    """Takes the server's own token, and those of users.

    Args:
        token: the server's own.
        accounts: users and their tokens; None: there are none.
    """

    def __init__(self, token: str, accounts: AccountService | None = None) -> None:
        self._token = token.encode()
        self._accounts = accounts

    def principal(self, headers: Headers) -> Principal:
        """Who asks.

        Raises:
            AccessDeniedError: nobody that may.
        """
        shown = headers.get("authorization", "")
        kind, _, token = shown.partition(" ")
        found = self.of_token(token.strip()) if kind.lower() == "bearer" else None
        if found is None:
            raise AccessDeniedError(
                "the server did not accept the token",
                cause=_cause(token) if shown else "none was sent",
                remedy="send `Authorization: Bearer` with a token of yours (`stager token create`)",
            )
        return found

    def of_token(self, token: str) -> Principal | None:
        """Whose token that is; None: nobody's that counts."""
        if hmac.compare_digest(token.encode("utf-8", "surrogatepass"), self._token):
            return SERVER_TOKEN
        return None if self._accounts is None else self._accounts.principal(token)


def _cause(token: str) -> str:
    if token.startswith(PREFIX):
        return "it has expired or was revoked, its user is disabled, or it is another server's"
    return "it is another's"
