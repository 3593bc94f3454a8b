"""Grants: proof that a user may read a restricted object, for a while. Values and rules, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256 as _sha256
from typing import NamedTuple

from stager.model.keys import key_digest
from stager.model.urls import parse_url


class Access(NamedTuple):
    """Who reads what: a user (empty: whoever gave no name), a cache key, an object. None of the three can be left out.

    The key is canonical: another case of its host is the same key, another case of its path is another one.
    """

    user: str
    key: str
    object: str


@dataclass(frozen=True, slots=True)
class Grant:
    """The proof.

    Attributes:
        access: who may read what.
        granted_at: when the origin gave, or confirmed, the object to this user; seconds since 1970 UTC.
        expires_at: from then on it is to be proved again.
        credentials: ids of the credentials that were shown; it goes with any of them. None: the origin asked for none.
    """

    access: Access
    granted_at: float
    expires_at: float
    credentials: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """By which people name it: the same for the same user, key and object."""
        user, key, sha256 = self.access
        return _sha256(f"{user}\n{key_digest(key)}\n{sha256}".encode()).hexdigest()[:12]

    def is_valid(self, now: float) -> bool:
        """Whether it counts."""
        return now < self.expires_at


@dataclass(frozen=True, slots=True)
class GrantView:
    """A grant as people see it; times are seconds since 1970 UTC."""

    id: str
    user: str
    key: str
    object: str
    granted_at: float
    expires_at: float
    credentials: list[str]

    @classmethod
    def of(cls, grant: Grant) -> GrantView:
        """The same, without what may be secret in the URL."""
        user, key, sha256 = grant.access
        return cls(
            grant.id, user, parse_url(key).redacted, sha256, grant.granted_at, grant.expires_at,
            list(grant.credentials),
        )  # fmt: skip
