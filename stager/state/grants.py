"""Grants in the database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, select

from stager.model.grants import Access, Grant
from stager.model.keys import key_digest
from stager.state import schema
from stager.state.bulk import ManyRows

_IDENTITY = ("owner", "key_digest", "sha256")
_INSERT = ManyRows(schema.grants.insert())
_DELETE = ManyRows(
    schema.grants.delete().where(*(schema.grants.c[name] == bindparam(f"row_{name}") for name in _IDENTITY))
)


def save_grants(connection: Connection, grants: Mapping[Access, Grant | None]) -> None:
    """Write what changed; None: the grant is over."""
    _DELETE.execute(connection, [{f"row_{n}": v for n, v in _identity(access).items()} for access in grants])
    _INSERT.execute(connection, [_row(grant) for grant in grants.values() if grant is not None])


def read_grants(engine: Engine) -> list[Grant]:
    """All that are written, the one that was given first is the first."""
    query = select(schema.grants).order_by(schema.grants.c.granted_at)
    with engine.connect() as connection:
        return [
            Grant(
                Access(row["owner"], row["key"], row["sha256"]),
                row["granted_at"],
                row["expires_at"],
                tuple(json.loads(row["credentials"])),
            )
            for row in connection.execute(query).mappings()
        ]


def _identity(access: Access) -> dict[str, str]:
    return {"owner": access.user, "key_digest": key_digest(access.key), "sha256": access.object}


def _row(grant: Grant) -> dict[str, Any]:
    return {
        **_identity(grant.access),
        "key": grant.access.key,
        "granted_at": grant.granted_at,
        "expires_at": grant.expires_at,
        "credentials": json.dumps(list(grant.credentials)),
    }
