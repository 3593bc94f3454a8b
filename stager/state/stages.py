"""Stage requests in the database."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, Select, bindparam, func, select
from sqlalchemy.exc import SQLAlchemyError

from stager import steps
from stager.errors import StateError, error_from_dict
from stager.model.answered import Answered
from stager.model.stages import Stage, StagedFile, StagedState
from stager.state.answers import save_answers
from stager.state.bulk import ManyRows
from stager.state.leadership import writing
from stager.state.rows import mirrors_of, wanted_row
from stager.state.schema import STAGED_IS_OPEN, staged, stages

FILES_AT_ONCE = 1000
"""Files written in one transaction, so that nobody else waits for long."""
_CHANGING = ("state", "fetch", "sha256", "size", "error", "ended_at", "pinned", "pinned_until")
_INSERT = ManyRows(staged.insert())
_UPDATE = ManyRows(
    staged.update()
    .where(staged.c.stage == bindparam("row_stage"), staged.c.number == bindparam("row_number"))
    .values({column: bindparam(column) for column in _CHANGING})
)


def save_staged(connection: Connection, files: Iterable[StagedFile]) -> None:
    """Write what changed of these files, which have rows."""
    _UPDATE.execute(connection, [_row(file) for file in files])


def open_fetches(connection: Connection) -> list[str]:
    """Ids of the fetches that files of stage requests wait for."""
    query = select(staged.c.fetch).where(STAGED_IS_OPEN, staged.c.fetch.is_not(None))
    return list(connection.execute(query).scalars())


class StageStore:
    """Stage requests and their files.

    Args:
        engine: of the database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, stage: Stage, files: Sequence[StagedFile], answered: Answered | None = None) -> None:
        """Write a new request; it exists, whole, once its own row is there, which is the last one.

        Raises:
            StateError: it does not exist.
        """
        try:
            for start in range(0, len(files), FILES_AT_ONCE):
                with writing(self._engine) as connection:
                    rows = [_row(file) | _new(file) for file in files[start : start + FILES_AT_ONCE]]
                    _INSERT.execute(connection, rows)
            steps.reached("stage.files")
            with writing(self._engine) as connection:
                connection.execute(stages.insert().values(**_stage_row(stage)))
                save_answers(connection, [answered] if answered is not None else [])
        except SQLAlchemyError as error:
            raise _refused(error) from error
        steps.reached("stage.recorded")

    def open_files(self) -> list[StagedFile]:
        """Files of requests that are not over, or whose pin is still to be taken away."""
        query = (
            select(stages, staged)
            .join(stages, stages.c.id == staged.c.stage)
            .where(STAGED_IS_OPEN)
            .order_by(staged.c.stage, staged.c.number)
        )
        with self._engine.connect() as connection:
            return _files(connection.execute(query).mappings())

    def stage(self, stage_id: str) -> Stage | None:
        """The request with this id, or None."""
        query = select(stages).where(stages.c.id == stage_id, ~stages.c.deleted)
        with self._engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else _stage(row)

    def find(self, ending: str, limit: int = 10, owner: str | None = None) -> list[str]:
        """Ids of requests (of that owner) that end in `ending`, newest first."""
        query = (
            select(stages.c.id)
            .where(stages.c.id.endswith(ending, autoescape=True), ~stages.c.deleted)
            .order_by(stages.c.id.desc())
            .limit(limit)
        )
        if owner is not None:
            query = query.where(stages.c.owner == owner)
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def stages(self, *, limit: int, before: str | None = None, owner: str | None = None) -> list[Stage]:
        """Requests (of that owner), newest first."""
        query: Select[Any] = select(stages).where(~stages.c.deleted).order_by(stages.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(stages.c.id < before)
        if owner is not None:
            query = query.where(stages.c.owner == owner)
        with self._engine.connect() as connection:
            return [_stage(row) for row in connection.execute(query).mappings()]

    def files(self, stage_id: str, states: Collection[StagedState] = ()) -> list[StagedFile]:
        """The files of a request (in these states), in the order given."""
        query: Select[Any] = (
            select(stages, staged)
            .join(stages, stages.c.id == staged.c.stage)
            .where(staged.c.stage == stage_id)
            .order_by(staged.c.number)
        )
        if states:
            query = query.where(staged.c.state.in_(list(states)))
        with self._engine.connect() as connection:
            return _files(connection.execute(query).mappings())

    def counts(self, ids: Collection[str]) -> dict[str, tuple[Counter[str], int]]:
        """For each of these requests the number of files in each state, and the bytes of those that are ready."""
        query = (
            select(staged.c.stage, staged.c.state, func.count(), func.sum(staged.c.size))
            .where(staged.c.stage.in_(list(ids)))
            .group_by(staged.c.stage, staged.c.state)
        )
        found: dict[str, tuple[Counter[str], int]] = {stage: (Counter(), 0) for stage in ids}
        with self._engine.connect() as connection:
            for stage, state, count, size in connection.execute(query):
                states, ready = found[stage]
                states[state] = count
                found[stage] = (states, int(size) if state == StagedState.READY else ready)
        return found

    def delete(self, stage_id: str) -> None:
        """Show the request no more; its rows go with `sweep`, once no pin of it is left.

        Raises:
            StateError: it is still there.
        """
        try:
            with writing(self._engine) as connection:
                connection.execute(stages.update().where(stages.c.id == stage_id).values(deleted=True))
        except SQLAlchemyError as error:
            raise _refused(error) from error

    def sweep(self, *, unfinished: bool = False) -> int:
        """Remove deleted requests that hold nothing any more; how many.

        Args:
            unfinished: remove those too that were never written whole: only while none is being written.
        """
        held = select(staged.c.stage).where(STAGED_IS_OPEN)
        query = select(stages.c.id).where(stages.c.deleted, stages.c.id.not_in(held))
        with writing(self._engine) as connection:
            gone = list(connection.execute(query).scalars())
            for stage_id in gone:
                connection.execute(staged.delete().where(staged.c.stage == stage_id))
                connection.execute(stages.delete().where(stages.c.id == stage_id))
            if unfinished:
                connection.execute(staged.delete().where(staged.c.stage.not_in(select(stages.c.id))))
        return len(gone)


def _stage_row(stage: Stage) -> dict[str, Any]:
    return {
        "id": stage.id,
        "owner": stage.owner,
        "priority": stage.priority,
        "keep_seconds": stage.keep_seconds,
        "created_at": stage.created_at,
        "deleted": False,
    }


def _stage(row: RowMapping) -> Stage:
    return Stage(row["id"], row["owner"], row["priority"], row["keep_seconds"], row["created_at"])


def _new(file: StagedFile) -> dict[str, Any]:
    return {
        "stage": file.stage.id,
        "number": file.number,
        "url": file.url,
    } | wanted_row(file)


def _row(file: StagedFile) -> dict[str, Any]:
    return {
        "row_stage": file.stage.id,
        "row_number": file.number,
        "state": file.state.value,
        "fetch": file.fetch,
        "sha256": file.sha256,
        "size": file.size,
        "error": None if file.error is None else json.dumps(file.error.to_dict()),
        "ended_at": file.ended_at,
        "pinned": file.pinned,
        "pinned_until": file.pinned_until,
    }


def _files(rows: Iterable[RowMapping]) -> list[StagedFile]:
    known: dict[str, Stage] = {}
    found = []
    for row in rows:
        stage = known.get(row["stage"])
        if stage is None:
            stage = known[row["stage"]] = _stage(row)
        found.append(
            StagedFile(
                stage,
                row["number"],
                row["url"],
                row["expected"] or row["digest"],
                StagedState(row["state"]),
                row["fetch"],
                row["sha256"],
                row["size"],
                None if row["error"] is None else error_from_dict(json.loads(row["error"])),
                row["ended_at"],
                bool(row["pinned"]),
                row["pinned_until"],
                mirrors=mirrors_of(row["mirrors"]),
                expected_size=row["expected_size"],
                saved=StagedState(row["state"]),
            )
        )
    return found


def _refused(error: SQLAlchemyError) -> StateError:
    cause = str(getattr(error, "orig", None) or error).splitlines()[0]
    return StateError("the stage request can't be written", cause=cause, remedy="check the database")
