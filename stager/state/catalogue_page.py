"""A list of the catalogue page by page: each begins behind the last row of the one before, wherever that is."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, or_, select

from stager.errors import NotFoundError
from stager.model.catalogue import CachedFile, Selection, Sort
from stager.state.catalogue_rows import COLUMNS, chosen, file_of_values
from stager.state.catalogue_schema import files

_ORDERS: dict[Sort, tuple[ColumnElement[Any], bool, bool]] = {
    Sort.SIZE: (files.c.size, True, True),
    Sort.ACCESS: (files.c.last_access, False, False),
    Sort.AGE: (files.c.stored_at, False, False),
    Sort.HITS: (files.c.hits, True, False),
    Sort.URL: (files.c.key, False, False),
}
"""By what, and whether that and the number of the row go downwards; as `stager.state.catalogue_rows` has it."""
_OFTEN_EQUAL = frozenset({Sort.HITS})
"""Of rows that are equal the first ones come first in either direction: else each that is read next would belong before
all that are kept, and sorting a million of them takes ten times as long."""


def page(
    connection: Connection,
    selection: Selection,
    sort: Sort,
    *,
    limit: int,
    after: int | None = None,
    reverse: bool = False,
) -> tuple[list[CachedFile], int | None]:
    """At most `limit` files of the selection, behind the row `after`, and the row behind which there are more.

    `reverse`: the order from its end.

    Raises:
        NotFoundError: the row is not there any more.
    """
    column, downwards, ids_downwards = _ORDERS[sort]
    if reverse:
        downwards, ids_downwards = not downwards, not ids_downwards and sort not in _OFTEN_EQUAL
    by: ColumnElement[Any] = column
    if sort is Sort.SIZE and (selection.host is not None or selection.kind is not None):
        by = (
            column + 0
        )  # by no index: if few are chosen, it would be read to its end, each row sought in its table
    query = chosen(select(files.c.id), selection)
    if after is not None:
        value = connection.execute(select(column).where(files.c.id == after)).first()
        if value is None:
            raise NotFoundError(
                "the list can't be gone on with",
                cause="the file at which the last page ended is gone",
                remedy="begin anew with its first page",
            )
        beyond = by < value[0] if downwards else by > value[0]
        later = files.c.id < after if ids_downwards else files.c.id > after
        query = query.where(or_(beyond, and_(by == value[0], later)))
        if by is column:  # what an index can begin with
            query = query.where(column <= value[0] if downwards else column >= value[0])
    order = by.desc() if downwards else by, files.c.id.desc() if ids_downwards else files.c.id
    ids = query.order_by(*order).limit(limit + 1).scalar_subquery()
    rows = connection.execute(select(*COLUMNS, files.c.id).where(files.c.id.in_(ids)).order_by(*order)).all()
    found = [file_of_values(row) for row in rows[:limit]]
    return found, int(rows[limit - 1][-1]) if len(rows) > limit else None
