"""How much there is. Of the rows of one object exactly one counts its bytes; the others are aliases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, delete, func, literal_column, select, update

from stager.model.catalogue import AGES, SIZES, Selection, Share, Totals
from stager.state.catalogue_rows import chosen
from stager.state.catalogue_schema import IS_ALIAS, files, owners

OBJECTS_AT_ONCE = 500
"""In one query; below the limit of every database's parameters."""


@contextmanager
def counted(
    connection: Connection, digests: Sequence[bytes], objects: Sequence[bytes] = ()
) -> Iterator[None]:
    """Around a change of the rows with these digests, which will have these objects: the totals follow."""
    query = select(files.c.object).where(files.c.digest.in_(digests))
    touched = set(objects) | {bytes(found) for found in connection.execute(query).scalars()}
    deltas: Counter[tuple[str, str]] = Counter()
    for found in _rows(connection, touched).values():
        for row in found:
            if not row.alias:
                deltas["files", row.owner] -= 1
                deltas["bytes", row.owner] -= row.size
    yield
    for owner, size in _choose(connection, touched):
        deltas["files", owner] += 1
        deltas["bytes", owner] += size
    for owner in {owner for _, owner in deltas}:
        _add(connection, owner, deltas["files", owner], deltas["bytes", owner])


def has_aliases(connection: Connection) -> bool:
    """Whether any object has several rows; known at once."""
    return connection.execute(select(files.c.id).where(IS_ALIAS).limit(1)).first() is not None


def drop_counted(connection: Connection, digests: Sequence[bytes]) -> None:
    """Delete the rows with these digests, some thousands at most; the totals follow."""
    if has_aliases(connection):
        for start in range(0, len(digests), OBJECTS_AT_ONCE):
            some = digests[start : start + OBJECTS_AT_ONCE]
            with counted(connection, some):
                connection.execute(delete(files).where(files.c.digest.in_(some)))
        return
    # In the driver's own words: to put a thousand values into a statement takes SQLAlchemy as long as all the rest.
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    wanted = f"FROM {files.name} WHERE digest IN ({', '.join([mark] * len(digests))})"
    sums = f"SELECT owner, COUNT(*), SUM(size) {wanted} GROUP BY owner"
    gone = connection.exec_driver_sql(sums, tuple(digests)).all()
    connection.exec_driver_sql(f"DELETE {wanted}", tuple(digests))
    for owner, number, size in gone:
        _add(connection, owner, -number, -int(size))


def count_anew(connection: Connection) -> None:
    """Choose which row of each object counts, and add them up, from the beginning."""
    first = select(func.min(files.c.id)).group_by(files.c.object).having(func.count() > 1).scalar_subquery()
    many = select(files.c.object).group_by(files.c.object).having(func.count() > 1)
    connection.execute(update(files).where(IS_ALIAS).values(alias=False))
    connection.execute(
        update(files).where(files.c.object.in_(many), files.c.id.not_in(first)).values(alias=True)
    )
    connection.execute(delete(owners))
    # By no index: read in the order of one, each row would be sought in its table.
    owner: ColumnElement[str] = literal_column("owner || ''")
    sums = select(owner, func.count(), func.sum(files.c.size)).where(~files.c.alias).group_by(owner)
    connection.execute(owners.insert().from_select(["owner", "files", "bytes"], sums))


def count(connection: Connection, now: float, selection: Selection) -> Totals:
    """See `Catalogue.totals`."""
    age = _class(now - files.c.last_access, [(name, end) for name, end in AGES])
    size = _class(files.c.size, [(name, end) for name, end in SIZES])
    hosts = _shares(connection, files.c.host, selection)
    return Totals(
        files=sum(share.files for share in hosts),
        bytes=sum(share.bytes for share in hosts),
        hosts=_largest_first(hosts),
        owners=_largest_first(_shares(connection, files.c.owner, selection)),
        ages=_in_order(_shares(connection, age, selection), AGES),
        sizes=_in_order(_shares(connection, size, selection), SIZES),
        kinds=_largest_first(_shares(connection, files.c.kind, selection)),
    )


def _rows(connection: Connection, objects: set[bytes]) -> dict[bytes, list[Any]]:
    wanted = list(objects)
    found: dict[bytes, list[Any]] = {}
    for start in range(0, len(wanted), OBJECTS_AT_ONCE):
        some = files.c.object.in_(wanted[start : start + OBJECTS_AT_ONCE])
        query = select(files.c.object, files.c.id, files.c.owner, files.c.size, files.c.alias).where(some)
        for row in connection.execute(query):
            found.setdefault(bytes(row.object), []).append(row)
    return found


def _choose(connection: Connection, objects: set[bytes]) -> list[tuple[str, int]]:
    """Let exactly one row of each object count; owner and size of those that do."""
    counting = []
    for rows in _rows(connection, objects).values():
        one = min(rows, key=lambda row: (row.alias, row.id))
        counting.append((one.owner, one.size))
        for row in rows:
            if row.alias == (row is one):
                connection.execute(update(files).where(files.c.id == row.id).values(alias=row is not one))
    return counting


def _add(connection: Connection, owner: str, more_files: int, more_bytes: int) -> None:
    if not (more_files or more_bytes):
        return
    change = update(owners).where(owners.c.owner == owner)
    values = {"files": owners.c.files + more_files, "bytes": owners.c.bytes + more_bytes}
    if not connection.execute(change.values(values)).rowcount:
        connection.execute(owners.insert().values(owner=owner, files=more_files, bytes=more_bytes))


def _class(value: Any, classes: Sequence[tuple[str, float]]) -> Any:
    return case(*((value < end, name) for name, end in classes[:-1]), else_=classes[-1][0])


def _shares(connection: Connection, name: Any, selection: Selection) -> list[Share]:
    query = chosen(select(name, func.count(), func.sum(files.c.size)).where(~files.c.alias), selection)
    return [Share(row[0], row[1], int(row[2])) for row in connection.execute(query.group_by(name))]


def _largest_first(shares: Sequence[Share]) -> tuple[Share, ...]:
    return tuple(sorted(shares, key=lambda share: (-share.bytes, share.name)))


def _in_order(shares: Sequence[Share], classes: Sequence[tuple[str, float]]) -> tuple[Share, ...]:
    found = {share.name: share for share in shares}
    return tuple(found.get(name, Share(name, 0, 0)) for name, _ in classes)
