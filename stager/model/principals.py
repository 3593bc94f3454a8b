"""Who asks: a name, what he may do at most, and what the token he shows is for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What somebody may do at most; see `stager.model.roles` for what that is."""

    READER = "reader"
    USER = "user"
    OPERATOR = "operator"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks.

    Attributes:
        name: of the user; `SERVER` for whoever holds the server's own token.
        role: what he may do at most.
        scopes: what the token is for; None: all that the role may.
        token: id of the token, which is no secret; empty: it has none.
    """

    name: str
    role: Role
    scopes: frozenset[str] | None = None
    token: str = ""

    @property
    def owner(self) -> str:
        """Whose is what he makes and names no other owner of; empty: nobody's in particular."""
        return "" if self.name == SERVER else self.name


SERVER = "server"
"""No user can have this name."""

SERVER_TOKEN = Principal(SERVER, Role.ADMIN)
"""Whoever holds the server's own token (`state_dir`/token): its administrator."""
