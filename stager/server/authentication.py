"""Who it is that asks, by what he shows."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import Scope

from stager.errors import AccessDeniedError, InputError
from stager.model.accounts import PREFIX, check_user_name
from stager.model.principals import SERVER_TOKEN, Principal, Role
from stager.server.forwarded import Network
from stager.service.accounts import AccountService

if TYPE_CHECKING:
    from stager.service.oidc import Oidc

_LOOKS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class ProxyUser:
    """What a trusted proxy says of who asks.

    Attributes:
        header: with the user's name; empty: it says nothing.
        unknown_role: role of a user that is not known here; None: he may not come in.
    """

    header: str = ""
    unknown_role: Role | None = None


@dataclass(frozen=True, slots=True)
class Admittance:
    """Who may come in besides those with a token of this server, and how often anybody may.

    Attributes:
        oidc: tokens of an issuer; None: none are taken.
        proxies: networks of proxies that are believed.
        proxy_user: what these say of who asks.
        per_second: requests of one user in the long run; 0: no limit.
    """

    oidc: Oidc | None = None
    proxies: tuple[Network, ...] = ()
    proxy_user: ProxyUser = ProxyUser()
    per_second: float = 0.0

    @property
    def lets_others_in(self) -> bool:
        """Whether anybody without a token of this server could."""
        return self.oidc is not None or bool(self.proxy_user.header)


class Authentication:
    """Takes the server's own token, those of users and of an issuer, and the word of a trusted proxy.

    Args:
        token: the server's own.
        accounts: users and their tokens; None: there are none.
        admittance: who else may come in; a proxy is one where `stager.server.forwarded.Forwarded` says so.
    """

    def __init__(
        self,
        token: str,
        accounts: AccountService | None = None,
        admittance: Admittance = Admittance(),
    ) -> None:
        self._token = token.encode()
        self._accounts = accounts
        self._oidc = admittance.oidc
        self._proxy = admittance.proxy_user

    async def principal(self, scope: Scope, headers: Headers) -> Principal:
        """Who asks.

        Raises:
            AccessDeniedError: nobody that may.
        """
        shown = headers.get("authorization", "")
        if not shown and self._proxy.header and scope.get("state", {}).get("proxy"):
            return self._of_proxy(scope, headers)
        kind, _, token = shown.partition(" ")
        token = token.strip()
        found = self.of_token(token) if kind.lower() == "bearer" else None
        if found is None and self._oidc is not None and kind.lower() == "bearer":
            found = self._oidc.known(token) or await run_in_threadpool(self._oidc.principal, token)
        if found is None:
            raise AccessDeniedError(
                "the server did not accept the token",
                cause=_cause(token) if shown else "none was sent",
                remedy="send `Authorization: Bearer` with a token of yours (`stager token create`)",
            )
        return found

    def of_token(self, token: str) -> Principal | None:
        """Whose token that is, of the server's own and those of users; None: nobody's that counts."""
        if hmac.compare_digest(token.encode("utf-8", "surrogatepass"), self._token):
            return SERVER_TOKEN
        return None if self._accounts is None else self._accounts.principal(token)

    def still_counts(self, principal: Principal) -> bool:
        """Whether the token that he showed when he was let in still says the same; what no token of ours says does.

        One who has another role by now is let in anew, as what he is.
        """
        return not principal.token or self._accounts is None or self._accounts.still(principal) == principal

    def _of_proxy(self, scope: Scope, headers: Headers) -> Principal:
        named = headers.getlist(self._proxy.header)
        try:
            (name,) = named
            check_user_name(name)
        except (ValueError, InputError):
            raise _nobody("it names nobody" if not named else "it names nobody that can be one") from None
        if scope["method"] not in _LOOKS and _is_foreign(headers):
            # the proxy knows a browser by its cookie, which another site's page can make it send
            raise _nobody("another site's page sent the request")
        user = None if self._accounts is None else self._accounts.user(name)
        role = self._proxy.unknown_role if user is None else user.role
        if role is None or (user is not None and user.disabled):
            raise _nobody(f"{name} is {'disabled' if user else 'not known'} here")
        return Principal(name, role)


def _is_foreign(headers: Headers) -> bool:
    """Whether a browser says that the request comes from a page of another site."""
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
        return True
    return headers.get("sec-fetch-site", "none") not in {"same-origin", "none"}


def _nobody(cause: str) -> AccessDeniedError:
    return AccessDeniedError(
        "the server did not accept what the proxy says", cause=cause, remedy="ask an administrator"
    )


def _cause(token: str) -> str:
    if token.startswith(PREFIX):
        return "it has expired or was revoked, its user is disabled, or it is another server's"
    return "it is another's"
