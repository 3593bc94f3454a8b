"""Tokens of an issuer (OpenID Connect): verified with its published keys, which are read rarely and kept."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from stager.clock import Clock
from stager.errors import InputError, StagerError
from stager.model.accounts import User, check_user_name, token_digest
from stager.model.principals import Principal, Role

log = logging.getLogger(__name__)

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures with a private key alone: a published key must not be taken for a shared secret, nor nothing for one."""
LEEWAY_SECONDS = 60.0
"""Clocks may differ by so much."""
KEPT_SECONDS = 60.0
"""A token that was verified is believed for so long without looking at it again."""
KEYS_SECONDS = 3600.0
"""The issuer's keys are read again after so long;"""
SOONEST_SECONDS = 30.0
"""and at most so often, whatever tokens name keys that are not known."""
MOST_KEPT = 10_000
_RANK = (Role.READER, Role.USER, Role.OPERATOR, Role.ADMIN)
_PARTS = 3


@dataclass(frozen=True, slots=True)
class Issuer:
    """Whose tokens are taken, and what is read off them.

    Attributes:
        url: of the issuer: what ``iss`` has to be, and below which its configuration is.
        audience: what ``aud`` has to have: this server's name there.
        user_claim: claim with the user's name.
        role_claim: claim with what decides his role: a text or a list of them; dots lead into objects. Empty: nothing.
        roles: role by one of these texts.
        default_role: of whoever has none of them; None: he may not come in.
    """

    url: str
    audience: str
    user_claim: str = "preferred_username"
    role_claim: str = ""
    roles: Mapping[str, Role] | None = None
    default_role: Role | None = None


class Oidc:
    """Says who shows a token of the issuer. May be called from any thread.

    Args:
        issuer: whose tokens.
        read: the JSON document at a URL.
        clock: the time.
        user: a local user by name: one who is disabled does not come in, whatever the issuer says.
    """

    def __init__(
        self,
        issuer: Issuer,
        read: Callable[[str], dict[str, Any]],
        clock: Clock,
        user: Callable[[str], User | None] = lambda _: None,
    ) -> None:
        self._issuer = issuer
        self._read = read
        self._clock = clock
        self._user = user
        self._lock = threading.Lock()
        self._keys: KeySet | None = None
        self._read_at = self._tried_at = float("-inf")
        self._kept: dict[str, tuple[Principal, float]] = {}

    def known(self, token: str) -> Principal | None:
        """Who shows it, if it was verified a moment ago: without waiting for anybody."""
        found = self._kept.get(token_digest(token))
        if found is None or found[1] <= self._clock.time():
            return None
        return None if self._is_disabled(found[0].name) else found[0]

    def principal(self, token: str) -> Principal | None:
        """Who shows it; None: it does not count. May ask the issuer for its keys."""
        if token.count(".") != _PARTS - 1:
            return None
        claims = self._claims(token)
        if claims is None:
            return None
        principal = self._of(claims)
        if principal is None or self._is_disabled(principal.name):
            return None
        until = min(self._clock.time() + KEPT_SECONDS, float(claims["exp"]) + LEEWAY_SECONDS)
        with self._lock:
            while len(self._kept) >= MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[token_digest(token)] = principal, until
        return principal

    # -- parts ----------------------------------------------------------------------------------

    def _claims(self, token: str) -> dict[str, Any] | None:
        """What the issuer signed, if it is for us and now."""
        for anew in (False, True):
            keys = self._current_keys(anew=anew)
            if keys is None:
                return None
            try:
                claims = dict(jwt.decode(token, keys, algorithms=list(ALGORITHMS)).claims)
            except (JoseError, ValueError, TypeError, KeyError) as error:
                log.debug("a token of %s does not count: %s", self._issuer.url, type(error).__name__)
                continue  # the issuer may have a new key
            return claims if self._is_for_us(claims) else None
        return None

    def _is_for_us(self, claims: dict[str, Any]) -> bool:
        now, audience = self._clock.time(), claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        exp, nbf = claims.get("exp"), claims.get("nbf", 0)
        return (
            claims.get("iss") == self._issuer.url
            and self._issuer.audience in audiences
            and _is_number(exp)
            and exp + LEEWAY_SECONDS > now
            and _is_number(nbf)
            and nbf - LEEWAY_SECONDS <= now
        )

    def _of(self, claims: dict[str, Any]) -> Principal | None:
        name, role = claims.get(self._issuer.user_claim), self._role(claims)
        try:
            return None if role is None else Principal(check_user_name(str(name or "")), role)
        except InputError as error:
            log.warning("a token of %s is of nobody: %s", self._issuer.url, error)
            return None

    def _role(self, claims: dict[str, Any]) -> Role | None:
        found: Any = claims
        for step in self._issuer.role_claim.split("."):
            found = found.get(step) if isinstance(found, dict) else None
        said = found if isinstance(found, list) else [found]
        roles = [
            self._issuer.roles[one]
            for one in said
            if self._issuer.roles and isinstance(one, str) and one in self._issuer.roles
        ]
        return max(roles, key=_RANK.index) if roles else self._issuer.default_role

    def _is_disabled(self, name: str) -> bool:
        user = self._user(name)
        return user is not None and user.disabled

    def _current_keys(self, *, anew: bool) -> KeySet | None:
        """The issuer's keys; None: it can't be asked."""
        with self._lock:
            now = self._clock.monotonic()
            is_stale = self._keys is None or now - self._read_at > KEYS_SECONDS
            if (is_stale or anew) and now - self._tried_at >= SOONEST_SECONDS:
                self._tried_at = now
                try:
                    self._keys = self._read_keys()
                    self._read_at = now
                except (StagerError, JoseError, ValueError, TypeError, KeyError) as error:
                    log.warning("the keys of %s can't be read: %s", self._issuer.url, error)
            elif anew:
                return None  # nothing new to try
            return self._keys

    def _read_keys(self) -> KeySet:
        base = self._issuer.url.rstrip("/")
        configuration = self._read(f"{base}/.well-known/openid-configuration")
        if configuration.get("issuer") != self._issuer.url:
            raise ValueError("its configuration names another issuer")
        return KeySet.import_key_set(self._read(str(configuration["jwks_uri"])))  # type: ignore[arg-type]  # it checks


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
