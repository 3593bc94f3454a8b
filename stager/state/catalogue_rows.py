"""Rows of the catalogue: put in, read back, chosen, put in order."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    Delete,
    RowMapping,
    Select,
    bindparam,
    case,
    delete,
    false,
    literal,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from stager.model.catalogue import ROW, CachedFile, Kind, Selection, Sort
from stager.state.bulk import ManyRows
from stager.state.catalogue_schema import files

COLUMNS = tuple(
    files.c[name]
    for name in (
        "digest", "key", "object", "size", "stored_at", "last_access", "hits", "owner", "host",
        "fresh_until", "keep_until", "restricted",
    )
)  # fmt: skip
"""What a `CachedFile` is made of, in the order of its attributes."""
_UNNAMED = literal(Kind.UNNAMED.value, literal_execute=True)
"""In the text of the statement, so that the index of these alone will do."""
PUT_IN = (*ROW, "walk")
"""The values of a row that is put in."""
BEGIN: dict[str, Any] = {"hits": literal_column("0"), "alias": false(), "verified_at": literal_column("0.0")}
"""What else a row has that is new."""
_ORDERS: dict[Sort, tuple[Any, ...]] = {
    Sort.SIZE: (files.c.size.desc(), files.c.id.desc()),  # the index read backwards: rows of one size too
    Sort.ACCESS: (files.c.last_access, files.c.id),
    Sort.AGE: (files.c.stored_at, files.c.id),
    Sort.HITS: (files.c.hits.desc(), files.c.id),
    Sort.URL: (files.c.key, files.c.id),
}


def cached_file(row: RowMapping) -> CachedFile:
    """The file of a row."""
    return file_of_values(tuple(row.values()))


def file_of_values(values: Sequence[Any]) -> CachedFile:
    """The file of a row as the driver gives it: `COLUMNS`, and what follows them."""
    digest, key, sha256, size, stored, access, hits, owner, host, fresh, keep, restricted, *_ = values
    return CachedFile(
        bytes(digest).hex(), key, bytes(sha256).hex(), size, stored, access, hits, owner, host, fresh, keep,
        bool(restricted),
    )  # fmt: skip


@cache
def upsert(dialect: str) -> ManyRows:
    """Put in rows of `PUT_IN`; see `updating`."""
    bound: dict[str, Any] = {name: bindparam(name) for name in PUT_IN}
    return ManyRows(updating(_insert(dialect).values({**bound, **BEGIN})))


def _insert(dialect: str) -> Any:
    return (postgresql if dialect == "postgresql" else sqlite).insert(files)


def updating(insert: Any) -> Any:
    """`insert`; of a key that has a row, what was counted stays: hits, a later access, the alias.

    Another object under the same key begins anew: it was never verified.
    """
    new, old = insert.excluded, files.c
    same = old.object == new.object
    kept = {
        "last_access": case((new.last_access > old.last_access, new.last_access), else_=old.last_access),
        "alias": case((same, old.alias), else_=false()),
        "verified_at": case((same, old.verified_at), else_=literal_column("0.0")),
        "former": case((new.former.is_(None), old.former), else_=new.former),
        "walk": case((new.walk > old.walk, new.walk), else_=old.walk),
    }
    plain = ("object", "size", "stored_at", "owner", "fresh_until", "keep_until", "restricted")
    return insert.on_conflict_do_update(
        index_elements=[files.c.digest], set_={name: new[name] for name in plain} | kept
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
        # In the text of the statement: else no database knows that an index of this kind alone will do.
        wanted.append(files.c.kind == literal_column(f"'{selection.kind.value}'"))
    if selection.key is not None:
        wanted.append(files.c.key == selection.key)
    return query.where(*wanted)


def ordered(query: Select[Any], sort: Sort) -> Select[Any]:
    """`query`, in that order."""
    return query.order_by(*_ORDERS[sort])


def named_meanwhile(objects: Sequence[bytes] | None = None) -> Delete:
    """Removes the rows of unnamed objects (among these, if any are given) that an entry names by now."""
    other = files.alias()
    entry = select(other.c.id).where(other.c.object == files.c.object, other.c.kind != Kind.UNNAMED.value)
    query = delete(files).where(files.c.kind == _UNNAMED, entry.exists())
    return query if objects is None else query.where(files.c.object.in_(objects))
