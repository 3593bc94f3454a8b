"""Users and tokens in the database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from stager.errors import ConflictError, StateError
from stager.model.accounts import Token, User
from stager.model.principals import Role
from stager.state.leadership import writing
from stager.state.schema import accounts_revision, tokens, users


class AccountStore:
    """Users and tokens. Each change counts up the revision, by which other servers of the database learn of it.

    Args:
        engine: of the database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.is_shared = engine.dialect.name != "sqlite"
        """Whether other servers may change them."""

    def revision(self) -> int:
        """It differs after any change."""
        with self._engine.connect() as connection:
            return connection.execute(select(accounts_revision.c.number)).scalar() or 0

    def users(self) -> list[User]:
        """All, by name."""
        with self._engine.connect() as connection:
            return [_user(row) for row in connection.execute(select(users).order_by(users.c.name)).mappings()]

    def tokens(self) -> dict[str, Token]:
        """All, by digest; the oldest first."""
        query = select(tokens).order_by(tokens.c.id)
        with self._engine.connect() as connection:
            return {row["digest"]: _token(row) for row in connection.execute(query).mappings()}

    def add_user(self, user: User) -> None:
        """Keep a new user.

        Raises:
            ConflictError: there is one of that name.
            StateError: the database refused.
        """
        try:
            with writing(self._engine) as connection:
                connection.execute(
                    users.insert().values(
                        name=user.name,
                        role=user.role.value,
                        disabled=user.disabled,
                        created_at=user.created_at,
                    )
                )
                _count_up(connection)
        except IntegrityError:
            raise ConflictError(
                f"there is a user {user.name!r}", remedy=f"see `stager user role {user.name} ROLE`"
            ) from None
        except SQLAlchemyError as error:
            raise _refused(error) from error

    def change_user(self, user: User) -> bool:
        """Write role and state; False: there is no such user."""
        values = {"role": user.role.value, "disabled": user.disabled}
        return self._write(users.update().where(users.c.name == user.name).values(**values))

    def remove_user(self, name: str) -> bool:
        """Forget a user and all his tokens; False: there was none."""
        return self._write(
            users.delete().where(users.c.name == name), tokens.delete().where(tokens.c.owner == name)
        )

    def add_token(self, token: Token, digest: str) -> None:
        """Keep a new token.

        Raises:
            ConflictError: its user is gone.
            StateError: the database refused.
        """
        row = {
            "id": token.id,
            "owner": token.user,
            "name": token.name,
            "digest": digest,
            "scopes": None if token.scopes is None else json.dumps(list(token.scopes)),
            "created_at": token.created_at,
            "expires_at": token.expires_at,
        }
        user = select(users.c.name).where(users.c.name == token.user).with_for_update()
        try:
            with writing(self._engine) as connection:
                if connection.execute(user).first() is None:
                    raise ConflictError(f"there is no user {token.user!r} any more")
                connection.execute(tokens.insert().values(**row))
                _count_up(connection)
        except SQLAlchemyError as error:
            raise _refused(error) from error

    def remove_token(self, token: str) -> bool:
        """Forget a token; False: there was none."""
        return self._write(tokens.delete().where(tokens.c.id == token))

    def note_uses(self, uses: Mapping[str, float]) -> None:
        """Write when tokens were used last; no other server needs to know at once."""
        try:
            with writing(self._engine) as connection:
                for token, at in uses.items():
                    connection.execute(tokens.update().where(tokens.c.id == token).values(last_used_at=at))
        except SQLAlchemyError as error:
            raise _refused(error) from error

    def _write(self, *statements: Any) -> bool:
        """Whether the first one changed something."""
        try:
            with writing(self._engine) as connection:
                counts = [connection.execute(statement).rowcount for statement in statements]
                _count_up(connection)
        except SQLAlchemyError as error:
            raise _refused(error) from error
        return bool(counts[0])


def _count_up(connection: Connection) -> None:
    number = accounts_revision.c.number
    if not connection.execute(accounts_revision.update().values(number=number + 1)).rowcount:
        connection.execute(accounts_revision.insert().values(id=0, number=1))


def _user(row: RowMapping) -> User:
    return User(row["name"], Role(row["role"]), bool(row["disabled"]), row["created_at"])


def _token(row: RowMapping) -> Token:
    scopes = None if row["scopes"] is None else tuple(json.loads(row["scopes"]))
    return Token(
        row["id"], row["owner"], row["name"], scopes, row["created_at"], row["expires_at"], row["last_used_at"]
    )  # fmt: skip


def _refused(error: SQLAlchemyError) -> StateError:
    cause = str(getattr(error, "orig", None) or error).splitlines()[0]
    return StateError("accounts can't be written", cause=cause, remedy="check the database")
