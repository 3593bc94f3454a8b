"""The store: what the mapper writes, in one transaction a batch, and what people ask about it.

One thread writes (the mapper's loop); any thread may read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Unpack

from sqlalchemy import Connection, RowMapping, Select, Table, bindparam, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from stager.errors import StateError
from stager.model.events import JobResult
from stager.model.grants import Grant
from stager.model.jobs import JobFilters, JobSpec, JobState
from stager.model.records import Changes, FetchRecord, JobRecord, NameRecord, Position
from stager.model.stages import StagedFile
from stager.model.telling import events_of
from stager.state import rows, schema
from stager.state.accounts import AccountStore
from stager.state.answers import AnswerStore, save_answers
from stager.state.audit import AuditStore
from stager.state.bulk import ManyRows
from stager.state.chronicle import Chronicle
from stager.state.database import open_engine
from stager.state.grants import read_grants, save_grants
from stager.state.leadership import Leadership, writing
from stager.state.stages import StageStore, open_fetches, save_staged

READ_AT_ONCE = 500
"""Ids in one query; below the limit of every database's parameters."""


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job with what it runs."""

    record: JobRecord
    spec: JobSpec


def _update(table: Table, key: str, columns: Iterable[str]) -> ManyRows:
    return ManyRows(
        table.update()
        .where(table.c[key] == bindparam(f"row_{key}"))
        .values({c: bindparam(c) for c in columns})
    )


_JOB_COLUMNS = [
    "state", "epoch", "handed", "ready_at", "dispatched_at", "started_at", "ended_at", "exit_code", "error",
]  # fmt: skip
_INSERT_JOBS = ManyRows(schema.jobs.insert())
_UPDATE_JOBS = _update(schema.jobs, "id", _JOB_COLUMNS)
_INSERT_FETCHES = ManyRows(schema.fetches.insert())
_UPDATE_FETCHES = _update(schema.fetches, "id", [c.name for c in schema.fetches.columns if c.name != "id"])
_INSERT_NAMES = ManyRows(schema.preconditions.insert())
_UPDATE_NAMES = _update(schema.preconditions, "name", ["met_at"])
_INSERT_RESULTS = ManyRows(schema.results.insert())


class Store:
    """Jobs, fetches, preconditions and results in a SQL database.

    Args:
        url: SQLAlchemy URL.
        leadership: of the server, where several use the database; a term of it begins.

    Raises:
        StateError: the database can't be used.
    """

    def __init__(self, url: str, leadership: Leadership | None = None) -> None:
        self._engine = open_engine(url)
        self.leads = leadership is not None
        """Whether the database has made this the one server of several."""
        if leadership is not None:
            self._engine = leadership.begin(self._engine)
        self.stages = StageStore(self._engine)
        """Stage requests."""
        self.accounts = AccountStore(self._engine)
        """Users and tokens."""
        self.answers = AnswerStore(self._engine)
        """Answers to calls that may be repeated."""
        self.chronicle = Chronicle(self._engine)
        """What happened."""
        self.audit = AuditStore(self._engine)
        """Who did what."""

    def ping(self) -> None:
        """Ask the database for something.

        Raises:
            StateError: it can't be used.
        """
        try:
            with self._engine.connect() as connection:
                connection.execute(select(schema.version.c.version_num)).scalar()
        except SQLAlchemyError as error:
            raise StateError("state can't be read", cause=str(error).splitlines()[0]) from error

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    # -- the mapper's side ----------------------------------------------------------------------

    def save(self, changes: Changes, specs: Mapping[str, JobSpec]) -> None:
        """Write a batch in one transaction; it is durable on return.

        Args:
            changes: records to insert or update; `saved` is set on them, and `events` to what they told.
            specs: what the new jobs among them run.

        Raises:
            StateError: nothing was written.
        """
        try:
            with writing(self._engine) as connection:
                _save_names(connection, changes.names)
                _save_fetches(connection, changes.fetches)
                _save_jobs(connection, changes.jobs, specs)
                save_staged(connection, changes.staged)
                save_grants(connection, changes.grants)
                if changes.position is not None:
                    _save_position(connection, changes.position)
                save_answers(connection, changes.besides.answered)
                if told := events_of(changes):
                    self.chronicle.write(connection, told, changes.at)
        except SQLAlchemyError as error:
            self.chronicle.lost()
            cause = str(getattr(error, "orig", None) or error).splitlines()[0]
            on_disk = self._engine.dialect.name == "sqlite"
            remedy = "check the disk of state_dir" if on_disk else "check the database server"
            raise StateError("state can't be written", cause=cause, remedy=remedy) from error
        if told:
            changes.events = told
            self.chronicle.written(told)
        for job in changes.jobs:
            job.saved = job.state
        for fetch in changes.fetches:
            fetch.saved = fetch.state
        for file in changes.staged:
            file.saved = file.state
        for name in changes.names:
            name.saved = True

    def load(self) -> tuple[list[JobRecord], list[FetchRecord], list[NameRecord]]:
        """What is not over, for a start: open jobs, the fetches they need, all preconditions."""
        with self._engine.connect() as connection:
            query = select(schema.jobs).where(schema.JOB_IS_OPEN).order_by(schema.jobs.c.id)
            jobs = [_open_job(row) for row in connection.execute(query).mappings()]
            names = [
                rows.name_record(row) for row in connection.execute(select(schema.preconditions)).mappings()
            ]
            needed = {f: None for job in jobs for f in job.fetches}
            unfinished = select(schema.fetches.c.id).where(schema.FETCH_IS_OPEN)
            needed |= dict.fromkeys(connection.execute(unfinished).scalars())
            needed |= dict.fromkeys(open_fetches(connection))
            fetches = {fetch.id: fetch for fetch in _fetches(connection, needed)}
        for job in jobs:
            for fetch in filter(None, map(fetches.get, job.fetches)):
                fetch.request_id = fetch.request_id or job.request_id
        return jobs, list(fetches.values()), names

    def staged(self) -> list[StagedFile]:
        """Files of stage requests that are not over, for a start."""
        return self.stages.open_files()

    def grants(self) -> list[Grant]:
        """Who has proved that he may read what; some may be over."""
        return read_grants(self._engine)

    def position(self) -> Position | None:
        """Up to where the stream of signals was taken in; None before the first one."""
        with self._engine.connect() as connection:
            row = connection.execute(select(schema.position)).mappings().first()
        return None if row is None else Position(row["stream"], row["entry"])

    def specs(self, ids: Iterable[str]) -> dict[str, JobSpec]:
        """What these jobs run; unknown ids are left out."""
        found: dict[str, JobSpec] = {}
        with self._engine.connect() as connection:
            for some in _parts(ids):
                query = select(schema.jobs.c.id, schema.jobs.c.spec).where(schema.jobs.c.id.in_(some))
                found |= {job: JobSpec.from_dict(json.loads(spec)) for job, spec in connection.execute(query)}
        return found

    # -- what people ask ------------------------------------------------------------------------

    def job(self, job_id: str) -> StoredJob | None:
        """One job with its results, or None."""
        with self._engine.connect() as connection:
            row = connection.execute(select(schema.jobs).where(schema.jobs.c.id == job_id)).mappings().first()
            if row is None:
                return None
            found = _stored(row)
            query = (
                select(schema.results).where(schema.results.c.job == job_id).order_by(schema.results.c.name)
            )
            kept = tuple(
                JobResult(r["name"], r["sha256"], r["size"]) for r in connection.execute(query).mappings()
            )
        return replace(found, record=replace(found.record, results=kept))

    def jobs(
        self, *, limit: int = 100, before: str | None = None, **chosen: Unpack[JobFilters]
    ) -> list[StoredJob]:
        """Jobs, newest first, at most `limit`; only those older than the id `before`, if given."""
        query: Select[Any] = select(schema.jobs).order_by(schema.jobs.c.id.desc()).limit(limit)
        states = chosen.get("states", ())
        if states:
            query = query.where(schema.jobs.c.state.in_(list(states)))
        if states and not any(state.is_final for state in states):
            query = query.where(text(f"({schema.JOB_IS_OPEN})"))  # implied; the index of these alone will do
        if before is not None:
            query = query.where(schema.jobs.c.id < before)
        if (owner := chosen.get("owner")) is not None:
            query = query.where(schema.jobs.c.owner == owner)
        if (name := chosen.get("name")) is not None:
            query = query.where(schema.jobs.c.name == name)
        if (since := chosen.get("since")) is not None:
            query = query.where(schema.jobs.c.submitted_at >= since)
        with self._engine.connect() as connection:
            return [_stored(row) for row in connection.execute(query).mappings()]

    def find_jobs(self, word: str, limit: int = 10, owner: str | None = None) -> list[str]:
        """Ids of jobs (of that owner) called `word`, or whose id ends in it; newest first."""
        column = schema.jobs.c
        query = (
            select(column.id)
            .where((column.name == word) | column.id.endswith(word, autoescape=True))
            .order_by(column.id.desc())
            .limit(limit)
        )
        if owner is not None:
            query = query.where(column.owner == owner)
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def count_jobs(self, owner: str | None = None) -> dict[JobState, int]:
        """Number of jobs (of that owner) in each state."""
        query = select(schema.jobs.c.state, func.count()).group_by(schema.jobs.c.state)
        if owner is not None:
            query = query.where(schema.jobs.c.owner == owner)
        with self._engine.connect() as connection:
            return {JobState(state): count for state, count in connection.execute(query)}

    def fetches(self, ids: Iterable[str]) -> dict[str, FetchRecord]:
        """Fetches by id; unknown ids are left out."""
        with self._engine.connect() as connection:
            return {fetch.id: fetch for fetch in _fetches(connection, dict.fromkeys(ids))}

    def recent_fetches(self, *, limit: int = 100) -> list[FetchRecord]:
        """Fetches, newest first."""
        query = select(schema.fetches).order_by(schema.fetches.c.id.desc()).limit(limit)
        with self._engine.connect() as connection:
            return [rows.fetch_record(row) for row in connection.execute(query).mappings()]

    def names_of(self, names: Iterable[str]) -> dict[str, NameRecord]:
        """These preconditions, by name; unknown ones are left out."""
        with self._engine.connect() as connection:
            return {
                row["name"]: rows.name_record(row)
                for some in _parts(dict.fromkeys(names))
                for row in connection.execute(
                    select(schema.preconditions).where(schema.preconditions.c.name.in_(some))
                ).mappings()
            }

    def names(self) -> list[NameRecord]:
        """Preconditions by name, in alphabetical order."""
        query = select(schema.preconditions).order_by(schema.preconditions.c.name)
        with self._engine.connect() as connection:
            return [rows.name_record(row) for row in connection.execute(query).mappings()]


def _stored(row: RowMapping) -> StoredJob:
    spec = JobSpec.from_dict(json.loads(row["spec"]))
    return StoredJob(rows.job_record(row, spec.after), spec)


def _fetches(connection: Connection, ids: Iterable[str]) -> Iterator[FetchRecord]:
    for some in _parts(ids):
        query = select(schema.fetches).where(schema.fetches.c.id.in_(some))
        given = {fetch_id: fetch_id for fetch_id in some}
        for row in connection.execute(query).mappings():
            fetch = rows.fetch_record(row)
            fetch.id = given[fetch.id]  # what asks has this text already: twice a million are 64 MB more
            yield fetch


def _parts(ids: Iterable[str]) -> Iterator[list[str]]:
    wanted = list(ids)
    for start in range(0, len(wanted), READ_AT_ONCE):
        yield wanted[start : start + READ_AT_ONCE]


def _save_jobs(connection: Connection, jobs: Iterable[JobRecord], specs: Mapping[str, JobSpec]) -> None:
    new, old, kept = [], [], []
    for job in jobs:
        if job.saved:
            old.append(rows.job_row(job))
        else:
            spec = specs[job.id]
            job.owner = spec.owner
            text = rows.to_json(spec.to_dict())
            new.append(rows.new_job_row(job, name=spec.name, owner=spec.owner, spec=text))
        kept += [{"job": job.id, "name": r.name, "sha256": r.sha256, "size": r.size} for r in job.results]
    _INSERT_JOBS.execute(connection, new)
    _UPDATE_JOBS.execute(connection, old)
    _INSERT_RESULTS.execute(connection, kept)


def _save_fetches(connection: Connection, fetches: Iterable[FetchRecord]) -> None:
    new = [rows.fetch_row(fetch) for fetch in fetches if not fetch.saved]
    old = [rows.fetch_row(fetch) for fetch in fetches if fetch.saved]
    _INSERT_FETCHES.execute(connection, new)
    _UPDATE_FETCHES.execute(connection, old)


def _save_position(connection: Connection, position: Position) -> None:
    values = {"stream": position.stream, "entry": position.entry}
    if not connection.execute(schema.position.update().values(values)).rowcount:
        connection.execute(schema.position.insert().values(id=0, **values))


def _open_job(row: RowMapping) -> JobRecord:
    spec = json.loads(row["spec"])
    return rows.job_record(row, tuple(spec.get("after", ())), spec.get("request_id", ""))


def _save_names(connection: Connection, names: Iterable[NameRecord]) -> None:
    _INSERT_NAMES.execute(connection, [rows.name_row(name) for name in names if not name.saved])
    _UPDATE_NAMES.execute(connection, [rows.name_row(name) for name in names if name.saved])
