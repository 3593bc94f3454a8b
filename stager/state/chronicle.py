"""The chronicle in the database: a row for each batch of events, so many events at most."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import Connection, Engine, func, insert, select

from stager.model.chronicle import Event
from stager.state.rows import to_json
from stager.state.schema import events

KEPT = 100_000
"""Events that can be read again, at least."""
_CUT_EVERY = 1000
"""Older ones are removed once in so many."""


class Chronicle:
    """Events by number. One thread writes (the mapper's loop), any may read.

    Args:
        engine: of the database.
        kept: events that can be read again, at least.
    """

    def __init__(self, engine: Engine, kept: int = KEPT) -> None:
        self._engine = engine
        self._kept = kept
        self._newest: int | None = None

    def write(self, connection: Connection, told: Sequence[Event], at: float) -> None:
        """Give events their numbers and write them, in the transaction of what they tell of."""
        if self._newest is None:
            self._newest = self._read_newest(connection)
        first = self._newest + 1
        for number, event in enumerate(told, first):
            event.id, event.at = number, at
        last = told[-1].id
        text = to_json([(e.kind, e.user, e.job, e.stage, e.fetch, e.details) for e in told])
        connection.execute(_INSERT, {"last": last, "first": first, "at": at, "told": text})
        if last // _CUT_EVERY != self._newest // _CUT_EVERY:
            connection.execute(events.delete().where(events.c.last <= last - self._kept))

    def written(self, told: Sequence[Event]) -> None:
        """The transaction is over: what was told is durable."""
        self._newest = told[-1].id

    def lost(self) -> None:
        """The transaction failed, or somebody else wrote: numbers go on from what the database has."""
        self._newest = None

    def newest(self) -> int:
        """Number of the last event; 0: there was none."""
        newest = self._newest
        if newest is None:
            with self._engine.connect() as connection:
                return self._read_newest(connection)
        return newest

    def oldest(self) -> int:
        """Number of the first event that can be read; one after the newest if none can."""
        with self._engine.connect() as connection:
            found = connection.execute(select(func.min(events.c.first))).scalar()
        return self.newest() + 1 if found is None else int(found)

    def read(self, after: int, limit: int) -> list[Event]:
        """Events after that number, at most `limit`; the first may be a later one, if older ones were removed."""
        query = select(events).where(events.c.last > after).order_by(events.c.last)
        found: list[Event] = []
        with self._engine.connect() as connection:
            for row in connection.execution_options(stream_results=True).execute(query).mappings():
                for number, told in enumerate(json.loads(row["told"]), row["first"]):
                    if number > after and len(found) < limit:
                        kind, user, job, stage, fetch, details = told
                        found.append(Event(kind, user, job, stage, fetch, details, number, row["at"]))
                if len(found) >= limit:
                    break
        return found

    def _read_newest(self, connection: Connection) -> int:
        return int(connection.execute(select(func.max(events.c.last))).scalar() or 0)


_INSERT = insert(events)
