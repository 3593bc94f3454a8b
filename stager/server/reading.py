"""What all routes have in common that answer with the bytes of a file."""

from __future__ import annotations

from stager.model.principals import Principal, Role
from stager.server.problems import Answers
from stager.service.cache_content import MayRead, everything
from stager.service.grants import GrantService

REFUSALS = (412, 416)
"""Statuses for conditions that do not hold, and ranges that the file does not have."""
_BYTES: dict[str, dict[str, str]] = {"application/octet-stream": {}}
OCTETS: Answers = {
    200: {"content": _BYTES, "description": "The bytes."},
    206: {
        "content": _BYTES | {"multipart/byteranges": {}},
        "description": "The parts that `Range` asks for.",
    },
    304: {"description": "Who asks has it already."},
}
"""How the routes' answers are described in OpenAPI."""


def readable(who: Principal, grants: GrantService | None) -> MayRead:
    """What of the restricted objects `who` may read: all as an operator, else those that he has proved."""
    if who.role in {Role.OPERATOR, Role.ADMIN}:
        return everything
    return lambda sha256, key: grants is not None and grants.allows(who.name, sha256, key)
