"""One server leads, where several use one PostgreSQL: the others wait, and one takes over when it is gone.

Who leads holds an advisory lock of the database, in a session of its own; the database frees it when that session ends,
however the process or its host did. A lock alone would not do: a server that was frozen or cut off may wake up
and not know that another one leads. So each term of office has a number, raised by who begins one, and every
transaction that writes reads it first, under a lock that the next leader has to wait for: what an old leader has
written is complete before the new one reads, and later it writes nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, create_engine, func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from stager.errors import ServerBusyError, StateError, SupersededError
from stager.state.database import watchful_options
from stager.state.schema import leaders

log = logging.getLogger(__name__)

LOCK = 0x5374_6167_6572
"""The advisory lock ("Stager"); such a lock is known within one database only."""
LOOK_SECONDS = 2.0
"""Between two looks at whether the lock is still ours."""
UNFINISHED_SECONDS = 15.0
"""So long the database waits for the next word inside a transaction that keeps another one from leading."""
_FENCE = "stager_fence"


class Leadership:
    """The lock, from the time when it was got to `close`; and, from `begin` on, a term of office.

    Args:
        url: of a PostgreSQL database.
        holder: who wants to lead, for people.
        lost: called when another one leads; must end the process, which has nothing to say any more.

    Raises:
        ServerBusyError: another one leads.
        StateError: the database can't be used.
    """

    def __init__(self, url: str, holder: str, lost: Callable[[str], None]) -> None:
        self._holder = holder
        self._lost = lost
        self._term = 0
        options = watchful_options(url)
        self._engine = create_engine(url, **options, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="leadership", daemon=True)
        try:
            self._session = self._lock()
        except SQLAlchemyError as error:
            cause = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise StateError(
                "the database can't be used", cause=cause, remedy="check that it runs, and database_url"
            ) from None
        if self._session is None:
            raise ServerBusyError(
                "another server uses the database",
                cause="one at a time does",
                remedy="end it, or start this one with --standby: it takes over when that one is gone",
            )

    def begin(self, engine: Engine) -> Engine:
        """Begin a term; the engine through which its transactions are written (see `writing`).

        Raises:
            StateError: the database refused.
        """
        try:
            with engine.begin() as connection:
                taken = leaders.update().values(term=leaders.c.term + 1, holder=self._holder)
                term = connection.execute(taken.returning(leaders.c.term)).scalar()
                if term is None:
                    term = 1
                    connection.execute(leaders.insert().values(id=0, term=term, holder=self._holder))
        except SQLAlchemyError as error:
            raise StateError("the database refused", cause=str(error).splitlines()[0]) from error
        self._term = term
        log.info("term %d of %s begins", term, self._holder, extra={"action": "server.leads", "term": term})
        self._thread.start()
        return engine.execution_options(**{_FENCE: self._check})

    def close(self) -> None:
        """Let another one lead."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._session is not None:
            self._session.close()
        self._engine.dispose()

    def _lock(self) -> Connection | None:
        session = self._engine.connect()
        if session.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": LOCK}).scalar():
            return session
        session.close()
        return None

    def _check(self, connection: Connection) -> None:
        """Whether the term lasts, in a transaction that no other term can begin before the end of."""
        limit = func.set_config("idle_in_transaction_session_timeout", f"{UNFINISHED_SECONDS:g}s", True)
        reading = select(leaders.c.term, leaders.c.holder, limit).with_for_update(read=True)
        found = connection.execute(reading).first()
        if found is None or found.term != self._term:
            raise self._superseded("" if found is None else found.holder)

    def _superseded(self, by: str) -> SupersededError:
        error = SupersededError(
            "another server has taken over", cause=by or "it is not known which", remedy="this one ends"
        )
        self._lost(str(error))
        return error

    def _watch(self) -> None:
        """An idle server does not write: it looks whether it still leads."""
        while not self._ended.wait(LOOK_SECONDS):
            try:
                if self._session is None:
                    self._session = self._lock()
                    if self._session is None:
                        self._superseded("")
                        return
                    self._check_alone(self._session)
                self._session.execute(text("SELECT 1"))
            except SQLAlchemyError as error:
                log.warning(
                    "the session with the database that holds the lock has broken: %s", type(error).__name__
                )
                if self._session is not None:
                    self._session.invalidate()
                    self._session.close()
                self._session = None
            except SupersededError:
                return

    def _check_alone(self, session: Connection) -> None:
        found = session.execute(select(leaders.c.term, leaders.c.holder)).first()
        if found is None or found.term != self._term:
            raise self._superseded("" if found is None else found.holder)


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes; where several servers use the database, only of the one that leads.

    Raises:
        SupersededError: another one does.
    """
    with engine.begin() as connection:
        fence = engine.get_execution_options().get(_FENCE)
        if fence is not None:
            fence(connection)
        yield connection
