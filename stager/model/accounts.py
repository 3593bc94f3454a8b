"""Users and their tokens. A token is kept as its digest only: whoever reads the database can show none."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256 as _sha256

from stager.errors import InputError
from stager.model.principals import SERVER, Principal, Role

SECRET_BYTES = 32
"""Random bytes in a token."""
PREFIX = "stg_"
"""How a token begins, so that people and scanners for secrets know one when they see it."""
LONGEST_NAME = 100
"""Characters of what a token is called."""
_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may ask.

    Attributes:
        name: which is the owner of what he makes.
        role: what he may do at most.
        disabled: none of his tokens counts.
        created_at: seconds since 1970 UTC.
    """

    name: str
    role: Role
    disabled: bool
    created_at: float


@dataclass(frozen=True, slots=True)
class Token:
    """What a user shows, without the secret.

    Attributes:
        id: by which people name it.
        user: whose it is.
        name: what he calls it.
        scopes: what it is for (see `stager.model.roles`); None: all that its user may.
        created_at: seconds since 1970 UTC, as the next two.
        expires_at: from then on it does not count; None: never.
        last_used_at: at most a minute old; None: never.
    """

    id: str
    user: str
    name: str
    scopes: tuple[str, ...] | None
    created_at: float
    expires_at: float | None = None
    last_used_at: float | None = None

    def principal(self, user: User) -> Principal:
        """Who asks with it."""
        scopes = None if self.scopes is None else frozenset(self.scopes)
        return Principal(user.name, user.role, scopes, self.id)

    def is_over(self, now: float) -> bool:
        """Whether its time is up."""
        return self.expires_at is not None and now >= self.expires_at


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that was just made, with its secret, which nobody can ask for again."""

    token: Token
    secret: str


def token_digest(secret: str) -> str:
    """What is kept of a token: SHA-256, which for 256 random bits is as good as any slower hash."""
    return _sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def is_users_token(secret: str) -> bool:
    """Whether a token says which user shows it: one of ours, or a JSON Web Token; the server's own does not."""
    return secret.startswith(PREFIX) or secret.count(".") == 2  # noqa: PLR2004 - head, claims, signature


def check_user_name(name: str) -> str:
    """`name` itself, if a user can have it.

    Raises:
        InputError: it can't be one.
    """
    if not _USER.fullmatch(name):
        raise InputError(
            f"{name[:80]!r} can't be the name of a user",
            cause="letters, digits and ._@+- are allowed, 64 of them at most, the first a letter or digit",
            remedy="give another",
        )
    if name == SERVER:
        raise InputError(
            f"no user can be called {name!r}", cause="so is whoever holds the server's own token"
        )
    return name


def check_token_name(name: str) -> str:
    """`name` itself, if a token can be called that.

    Raises:
        InputError: it can't.
    """
    if len(name) > LONGEST_NAME or not name.isprintable():
        raise InputError(
            "a token can't be called that",
            cause=f"at most {LONGEST_NAME} printable characters are",
            remedy="give a short name, such as laptop",
        )
    return name
