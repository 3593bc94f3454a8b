"""Answers to calls with a key, in the database."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, Engine, insert, select
from sqlalchemy.exc import SQLAlchemyError

from stager.errors import StateError
from stager.model.answered import Answered, Call
from stager.state.bulk import ManyRows
from stager.state.leadership import writing
from stager.state.schema import answers

_INSERT = ManyRows(insert(answers))


def save_answers(connection: Connection, answered: Iterable[Answered]) -> None:
    """Write them, in the transaction of what they answer."""
    rows = [
        {"digest": one.call.digest, "asked": one.call.asked, "answer": one.answer, "at": one.at}
        for one in answered
    ]
    _INSERT.execute(connection, rows)


class AnswerStore:
    """Answers by the digest of the call.

    Args:
        engine: of the database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def find(self, digest: str) -> Answered | None:
        """The answer to that call; None: it was never answered."""
        query = select(answers).where(answers.c.digest == digest)
        with self._engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else Answered(Call(row["digest"], row["asked"]), row["answer"], row["at"])

    def keep(self, answered: Answered) -> None:
        """Write one.

        Raises:
            StateError: it is not written.
        """
        try:
            with writing(self._engine) as connection:
                save_answers(connection, [answered])
        except SQLAlchemyError as error:
            cause = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise StateError("the answer can't be kept", cause=cause, remedy="check the database") from error

    def forget(self, before: float) -> None:
        """Remove those of before that time."""
        with writing(self._engine) as connection:
            connection.execute(answers.delete().where(answers.c.at < before))
