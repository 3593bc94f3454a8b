"""Many rows with one statement, at the driver's own speed."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.sql.dml import Delete, Insert, Update


class ManyRows:
    """An insert or update that is compiled once and then given rows of plain values.

    SQLAlchemy would look at each value of each row for conversions that texts, numbers and truth
    values do not need; for a thousand rows that is most of the time.

    Args:
        statement: with a bound parameter for each key of the rows.
    """

    def __init__(self, statement: Insert | Update | Delete) -> None:
        self._statement = statement
        self._compiled: dict[str, tuple[str, tuple[str, ...]]] = {}

    def execute(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Run it for each row; keys of a row that the statement does not bind are ignored."""
        if not rows:
            return
        text, names = self._of(connection)
        in_order = itemgetter(*names) if names else None
        connection.exec_driver_sql(text, [in_order(row) for row in rows] if in_order else list(rows))

    def execute_plain(
        self, connection: Connection, names: Sequence[str], rows: Sequence[tuple[Any, ...]]
    ) -> None:
        """The same for rows that are tuples, with their values in the order of `names`."""
        if not rows:
            return
        text, wanted = self._of(connection)
        if not wanted:
            connection.exec_driver_sql(text, [dict(zip(names, row, strict=True)) for row in rows])
        elif tuple(names) == wanted:
            connection.exec_driver_sql(text, list(rows))
        else:
            in_order = itemgetter(*map(names.index, wanted))
            connection.exec_driver_sql(text, [in_order(row) for row in rows])

    def _of(self, connection: Connection) -> tuple[str, tuple[str, ...]]:
        """The statement as that database takes it, and its parameters in order; none: they are named."""
        name = connection.dialect.name
        if name not in self._compiled:
            compiled = self._statement.compile(dialect=connection.dialect)
            self._compiled[name] = str(compiled), tuple(compiled.positiontup or ())
        return self._compiled[name]
