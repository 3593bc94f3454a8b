"""Users, and the tokens that they show."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from stager.errors import ConflictError, ForbiddenError, InputError
from stager.model.accounts import Token, User
from stager.model.principals import Principal, Role
from stager.server.once import MakesOnce
from stager.server.problems import described
from stager.server.who import About, May, Who
from stager.service.accounts import AccountService


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class UserIn(_Shape):
    """A new user."""

    name: str = Field(description="Who; it is the owner of what he makes.", examples=["ada"])
    role: Role = Field(default=Role.USER, description="What he may do at most.")


class UserChange(_Shape):
    """What is to be different about a user; null: as it is."""

    role: Role | None = Field(default=None, description="What he may do at most.", examples=["operator"])
    disabled: bool | None = Field(
        default=None, description="Whether none of his tokens counts.", examples=[None]
    )


class TokenIn(_Shape):
    """A new token."""

    user: str = Field(default="", description="Whose it is; empty: of who asks.", examples=["ada"])
    name: str = Field(default="", description="What it is called.", examples=["laptop"])
    scopes: list[str] | None = Field(
        default=None, description="What it is for; null: all that its user may.", examples=[["jobs", "read"]]
    )
    seconds: float | None = Field(
        default=None, description="How long it counts; null: until it is revoked.", examples=[7776000]
    )


@dataclass(frozen=True)
class WhoAmI:
    """Who asks, and what he may do at most; `scopes` is what his token is for (null: all of that)."""

    name: str
    role: Role
    scopes: list[str] | None


@dataclass(frozen=True)
class UserList:
    """Users by name."""

    users: list[User]


@dataclass(frozen=True)
class TokenList:
    """Tokens, the oldest first; never a secret."""

    tokens: list[Token]


@dataclass(frozen=True)
class TokenMade(Token):
    """A new token with its secret, which is in no other answer."""

    secret: str = ""


def account_routes(accounts: AccountService | None) -> APIRouter:
    """The routes ``/v1/whoami``, and those below ``/v1/users`` and ``/v1/tokens``."""
    router = APIRouter(tags=["accounts"])

    def service() -> AccountService:
        if accounts is None:
            raise ConflictError("this server has no users", remedy="ask the job server")
        return accounts

    @router.get("/whoami", responses=described(), summary="Who asks")
    async def whoami(who: Who) -> WhoAmI:
        """For whom the server takes whoever shows this token."""
        return WhoAmI(who.name, who.role, None if who.scopes is None else sorted(who.scopes))

    @router.get("/users", responses=described(409, 503), summary="List users")
    def users(may: May) -> UserList:
        """Who there is, with his role; who is no administrator sees himself."""
        return UserList(service().users(may.only))

    @router.post("/users", status_code=201, responses=described(409, 503), summary="Add a user")
    def add_user(body: UserIn, about: About, once: MakesOnce) -> User:
        """Take in a user. He needs a token, which is made by itself."""
        about(f"{body.name[:80]}: {body.role}")
        return once(User, lambda _: service().add_user(body.name, body.role))

    @router.patch("/users/{name}", responses=described(404, 409, 503), summary="Change a user")
    def change_user(name: str, body: UserChange, about: About) -> User:
        """Give another role, or disable him: his tokens do not count until he is enabled again. Both at once."""
        changes = body.model_dump(mode="json", exclude_none=True)
        about(f"{name[:80]}: {', '.join(f'{key} {value}' for key, value in changes.items())}")
        return service().change_user(name, role=body.role, disabled=body.disabled)

    @router.delete("/users/{name}", responses=described(404, 409, 503), summary="Remove a user")
    def remove_user(name: str) -> User:
        """Forget a user and his tokens, at once. His jobs and files stay."""
        return service().remove_user(name)

    @router.get("/tokens", responses=described(409, 503), summary="List tokens")
    def tokens(
        may: May, user: Annotated[str | None, Query(description="Only those of this user.")] = None
    ) -> TokenList:
        """What tokens there are, what for, last used when, until when; never a secret."""
        return TokenList(service().tokens(may.about(user)))

    @router.post("/tokens", status_code=201, responses=described(404, 409, 503), summary="Make a token")
    def create_token(body: TokenIn, who: Who, may: May, about: About) -> TokenMade:
        """Make a token. Its secret is in this answer, and never again in any. It ends with the token shown at the latest."""
        user = may.owner(body.user)
        if not user:
            raise InputError("nobody is named whose token it is", remedy="name a user")
        _check_scopes(who, body.scopes)
        made = service().create_token(
            user, body.name, scopes=body.scopes, seconds=body.seconds, shown=who.token
        )
        about(f"{made.token.id} of {user}")
        return TokenMade(**asdict(made.token), secret=made.secret)

    @router.delete("/tokens/{token}", responses=described(404, 409, 503), summary="Revoke a token")
    def revoke_token(token: str, may: May) -> Token:
        """End a token, at once: by its id, or by its name if only one is called that."""
        return service().revoke_token(token, may.only)

    return router


def _check_scopes(who: Principal, scopes: list[str] | None) -> None:
    """A token makes none that is for more than it is for itself."""
    if who.scopes is not None and (scopes is None or not who.scopes.issuperset(scopes)):
        raise ForbiddenError(
            "this token can't make one that is for more",
            cause=f"its scopes are {', '.join(sorted(who.scopes))}",
            remedy="name some of these",
        )
