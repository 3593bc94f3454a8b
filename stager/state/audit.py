"""The audit log in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Engine, Select, select
from sqlalchemy.exc import SQLAlchemyError

from stager.errors import StateError
from stager.model.audit import AuditEntry
from stager.state.bulk import ManyRows
from stager.state.leadership import writing
from stager.state.schema import audit

_INSERT = ManyRows(audit.insert())


class AuditStore:
    """Entries are added, read and, when they are old, removed; none is ever changed.

    Args:
        engine: of the database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, entries: Sequence[AuditEntry]) -> None:
        """Write entries.

        Raises:
            StateError: none was written.
        """
        try:
            with writing(self._engine) as connection:
                _INSERT.execute(connection, [asdict(entry) for entry in entries])
        except SQLAlchemyError as error:
            cause = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise StateError(
                "the audit log can't be written", cause=cause, remedy="check the database"
            ) from error

    def entries(
        self,
        *,
        limit: int,
        before: str | None = None,
        who: str | None = None,
        since: float | None = None,
    ) -> list[AuditEntry]:
        """Entries (of that user; from then on), newest first; only those older than the one with the id `before`."""
        query: Select[Any] = select(audit).order_by(audit.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(audit.c.id < before)
        if who is not None:
            query = query.where(audit.c.who == who)
        if since is not None:
            query = query.where(audit.c.at >= since)
        with self._engine.connect() as connection:
            return [AuditEntry(**row) for row in connection.execute(query).mappings()]

    def sweep(self, until: float) -> int:
        """Remove entries from before that time; how many."""
        with writing(self._engine) as connection:
            return connection.execute(audit.delete().where(audit.c.at < until)).rowcount
