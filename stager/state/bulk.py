"""Many rows with one statement, at the driver's own speed."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.sql.dml import Insert, Update


class ManyRows:
    """An insert or update that is compiled once and then given rows of plain values.

    SQLAlchemy would look at each value of each row for conversions that texts, numbers and truth
    values do not need; for a thousand rows that is most of the time.

    Args:
        statement: with a bound parameter for each key of the rows.
    """

    def __init__(self, statement: Insert | Update) -> None:
        self._statement = statement
        self._compiled: dict[str, tuple[str, Any]] = {}

    def execute(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Run it for each row; keys of a row that the statement does not bind are ignored."""
        if not rows:
            return
        name = connection.dialect.name
        if name not in self._compiled:
            compiled = self._statement.compile(dialect=connection.dialect)
            order = itemgetter(*compiled.positiontup) if compiled.positiontup else None
            self._compiled[name] = str(compiled), order
        text, in_order = self._compiled[name]
        connection.exec_driver_sql(text, [in_order(row) for row in rows] if in_order else list(rows))
