"""Calls about users and tokens."""

from __future__ import annotations

from collections.abc import Sequence

from stager.client.shapes import view, views
from stager.client.talk import Group, M, Request, Talk, answered, part
from stager.model.accounts import NewToken, Token, User
from stager.model.principals import Principal, Role


class AccountCalls(Group[M]):
    """``client.accounts``: users, and the tokens that they show."""

    @answered
    def whoami(self) -> Talk[Principal]:
        """For whom the server takes who asks."""
        found = yield Request("GET", "whoami")
        scopes = None if found["scopes"] is None else frozenset(found["scopes"])
        return Principal(found["name"], Role(found["role"]), scopes)

    @answered
    def users(self) -> Talk[list[User]]:
        """See `AccountService.users`."""
        return views(User, (yield Request("GET", "users"))["users"])

    @answered
    def add_user(self, name: str, role: Role) -> Talk[User]:
        """See `AccountService.add_user`."""
        return view(User, (yield Request("POST", "users", json={"name": name, "role": role.value})))

    @answered
    def change_user(self, name: str, *, role: Role | None = None, disabled: bool | None = None) -> Talk[User]:
        """See `AccountService.change_user`."""
        body = {"role": None if role is None else role.value, "disabled": disabled}
        return view(User, (yield Request("PATCH", f"users/{part(name)}", json=body)))

    @answered
    def remove_user(self, name: str) -> Talk[User]:
        """See `AccountService.remove_user`."""
        return view(User, (yield Request("DELETE", f"users/{part(name)}")))

    @answered
    def tokens(self, user: str | None = None) -> Talk[list[Token]]:
        """See `AccountService.tokens`."""
        return views(Token, (yield Request("GET", "tokens", {"user": user}))["tokens"])

    @answered
    def create_token(
        self,
        user: str = "",
        name: str = "",
        *,
        scopes: Sequence[str] | None = None,
        seconds: float | None = None,
    ) -> Talk[NewToken]:
        """See `AccountService.create_token`; without `user` it is one's own."""
        body = {
            "user": user,
            "name": name,
            "scopes": None if scopes is None else list(scopes),
            "seconds": seconds,
        }
        made = yield Request("POST", "tokens", json=body)
        return NewToken(view(Token, made), str(made["secret"]))

    @answered
    def revoke_token(self, word: str) -> Talk[Token]:
        """See `AccountService.revoke_token`."""
        return view(Token, (yield Request("DELETE", f"tokens/{part(word)}")))
