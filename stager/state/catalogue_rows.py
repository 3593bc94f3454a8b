"""Rows of the catalogue: made, read back, chosen, put in order."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import RowMapping, Select, bindparam, case
from sqlalchemy.dialects import postgresql, sqlite

from stager.model.catalogue import CachedFile, Selection, Sort
from stager.state.bulk import ManyRows
from stager.state.catalogue_schema import files

COLUMNS = tuple(
    files.c[name]
    for name in (
        "digest", "key", "object", "size", "stored_at", "last_access", "hits", "owner", "host",
        "fresh_until", "keep_until", "restricted",
    )
)  # fmt: skip
"""What a `CachedFile` is made of."""
_ORDERS: dict[Sort, tuple[Any, ...]] = {
    Sort.SIZE: (files.c.size.desc(), files.c.id),
    Sort.ACCESS: (files.c.last_access, files.c.id),
    Sort.AGE: (files.c.stored_at, files.c.id),
    Sort.HITS: (files.c.hits.desc(), files.c.id),
    Sort.URL: (files.c.key, files.c.id),
}


def row_of(file: CachedFile, *, walk: int) -> dict[str, Any]:
    """All columns but the id."""
    return {
        "digest": bytes.fromhex(file.digest),
        "key": file.key,
        "object": bytes.fromhex(file.object),
        "size": file.size,
        "stored_at": file.stored_at,
        "last_access": file.last_access,
        "hits": file.hits,
        "owner": file.owner,
        "host": file.host,
        "kind": file.kind.value,
        "fresh_until": file.fresh_until,
        "keep_until": file.keep_until,
        "restricted": file.restricted,
        "alias": False,
        "verified_at": 0.0,
        "walk": walk,
    }


def cached_file(row: RowMapping) -> CachedFile:
    """The file of a row."""
    values = dict(row)
    values.pop("id", None)
    values["digest"] = bytes(values["digest"]).hex()
    values["object"] = bytes(values["object"]).hex()
    return CachedFile(**values)


@cache
def upsert(dialect: str) -> ManyRows:
    """Insert rows; of a key that has one, what was counted stays: hits, a later access, the alias.

    Another object under the same key begins anew: it was never verified.
    """
    insert = (
        (postgresql if dialect == "postgresql" else sqlite)
        .insert(files)
        .values({column.name: bindparam(column.name) for column in files.c if column.name != "id"})
    )
    new, old = insert.excluded, files.c
    same = old.object == new.object
    kept = {
        "last_access": case((new.last_access > old.last_access, new.last_access), else_=old.last_access),
        "alias": case((same, old.alias), else_=new.alias),
        "verified_at": case((same, old.verified_at), else_=new.verified_at),
    }
    plain = ("object", "size", "stored_at", "owner", "fresh_until", "keep_until", "restricted", "walk")
    return ManyRows(
        insert.on_conflict_do_update(
            index_elements=[files.c.digest], set_={name: new[name] for name in plain} | kept
        )
    )


def chosen(query: Select[Any], selection: Selection) -> Select[Any]:
    """`query`, of these files alone."""
    wanted: list[Any] = []
    if selection.host is not None:
        wanted.append(files.c.host == selection.host)
    if selection.owner is not None:
        wanted.append(files.c.owner == selection.owner)
    if selection.unused_since is not None:
        wanted.append(files.c.last_access < selection.unused_since)
    if selection.stored_before is not None:
        wanted.append(files.c.stored_at < selection.stored_before)
    if selection.kind is not None:
        wanted.append(files.c.kind == selection.kind.value)
    if selection.key is not None:
        wanted.append(files.c.key == selection.key)
    return query.where(*wanted)


def ordered(query: Select[Any], sort: Sort) -> Select[Any]:
    """`query`, in that order."""
    return query.order_by(*_ORDERS[sort])
