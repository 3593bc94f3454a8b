"""Users and their tokens; and who it is that shows one."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

from stager.clock import Clock
from stager.errors import InputError, NotFoundError
from stager.model.accounts import (
    PREFIX,
    SECRET_BYTES,
    NewToken,
    Token,
    User,
    check_token_name,
    check_user_name,
    token_digest,
)
from stager.model.principals import Principal, Role
from stager.model.roles import check_scopes
from stager.state.accounts import AccountStore

USE_SECONDS = 60.0
"""The last use of a token is written at most so often."""
LONGEST_SECONDS = 3_153_600_000.0
"""A hundred years."""


class AccountService:
    """The accounts of one server. Who asks is answered from memory: a look-up of a digest.

    Args:
        store: where they are kept.
        clock: the time.
        ids: makes the id of a token.
    """

    def __init__(self, store: AccountStore, clock: Clock, ids: Iterator[str]) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._lock = threading.Lock()
        self._revision = -1
        self._known: dict[str, tuple[Token, Principal]] = {}
        self._by_id: dict[str, tuple[Token, Principal]] = {}
        self._users: dict[str, User] = {}
        self._used: dict[str, float] = {}
        self._noted: dict[str, float] = {}
        self.read()

    # -- who asks -------------------------------------------------------------------------------

    def principal(self, secret: str) -> Principal | None:
        """Who shows this token; None: nobody that counts. Microseconds; may be called from any thread.

        The digest is looked up, so that how long it takes says nothing about any token.
        """
        found = self._known.get(token_digest(secret))
        if found is None:
            return None
        token, principal = found
        now = self._clock.time()
        if token.is_over(now):
            return None
        if now - self._noted.get(token.id, 0.0) >= USE_SECONDS:
            self._noted[token.id] = self._used[token.id] = now
        return principal

    def still(self, principal: Principal) -> Principal | None:
        """Who that is now, by the token that was shown then; None: it counts no more. As quick as `principal`."""
        found = self._by_id.get(principal.token)
        if found is None or found[0].is_over(self._clock.time()):
            return None
        return found[1]

    def user(self, name: str) -> User | None:
        """The user of that name; None: there is none."""
        return self._users.get(name)

    @property
    def let_somebody_in(self) -> bool:
        """Whether anybody has a token that counts."""
        now = self._clock.time()
        return any(not token.is_over(now) for token, _ in self._known.values())

    def tend(self) -> None:
        """Learn what other servers changed, and write when tokens were used. To be called every second or so.

        Raises:
            StateError: the database refused.
        """
        if self._store.is_shared and self._store.revision() != self._revision:
            self.read()
        used, self._used = self._used, {}
        if used:
            self._store.note_uses(used)

    def read(self) -> None:
        """Learn all anew."""
        with self._lock:
            self._revision = self._store.revision()  # first: a change meanwhile is met at the next look
            users = {user.name: user for user in self._store.users()}
            counting = (
                (digest, token, users[token.user])
                for digest, token in self._store.tokens().items()
                if token.user in users and not users[token.user].disabled
            )
            self._known = {digest: (token, token.principal(user)) for digest, token, user in counting}
            self._by_id = {found[0].id: found for found in self._known.values()}
            self._users = users

    # -- users ----------------------------------------------------------------------------------

    def users(self, only: str | None = None) -> list[User]:
        """All by name, or only the one of that name."""
        return [user for user in self._store.users() if only in {None, user.name}]

    def add_user(self, name: str, role: Role) -> User:
        """Take in a user, who has no token yet. Durable on return.

        Raises:
            InputError: not a name.
            ConflictError: there is one of that name.
        """
        user = User(check_user_name(name), role, disabled=False, created_at=self._clock.time())
        self._store.add_user(user)
        self.read()
        return user

    def change_user(self, name: str, *, role: Role | None = None, disabled: bool | None = None) -> User:
        """Give another role, or stop (and start) all his tokens; at once.

        Raises:
            NotFoundError: no such user.
        """
        user = self._user(name)
        user = replace(
            user,
            role=user.role if role is None else role,
            disabled=user.disabled if disabled is None else disabled,
        )
        if not self._store.change_user(user):
            raise _no_user(name)
        self.read()
        return user

    def remove_user(self, name: str) -> User:
        """Forget a user; his tokens end at once. What he made stays, and is his again if he comes back.

        Raises:
            NotFoundError: no such user.
        """
        user = self._user(name)
        if not self._store.remove_user(name):
            raise _no_user(name)
        self.read()
        return user

    # -- tokens ---------------------------------------------------------------------------------

    def tokens(self, user: str | None = None) -> list[Token]:
        """All (of that user), the oldest first."""
        found = self._store.tokens().values()
        return [self._with_use(token) for token in found if user in {None, token.user}]

    def create_token(
        self,
        user: str,
        name: str = "",
        *,
        scopes: Sequence[str] | None = None,
        seconds: float | None = None,
        shown: str = "",
    ) -> NewToken:
        """Make a token; its secret is in no other answer, ever.

        Args:
            user: whose it is.
            name: what he calls it.
            scopes: what it is for; None: all that its user may.
            seconds: how long it counts; None: until it is revoked.
            shown: id of the token that asks for it: the new one ends with that one's time at the latest.

        Raises:
            NotFoundError: no such user.
            InputError: a name, scope or time that makes no sense.
        """
        if seconds is not None and not 0 < seconds <= LONGEST_SECONDS:
            raise InputError(
                f"{seconds:g} seconds are no time for a token",
                cause=f"more than 0 and at most {LONGEST_SECONDS:.0f} are",
                remedy="give no time for one that counts until it is revoked",
            )
        self._user(user)
        now = self._clock.time()
        secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        token = Token(
            next(self._ids),
            user,
            check_token_name(name),
            None if scopes is None else check_scopes(scopes),
            now,
            self._end(shown, None if seconds is None else now + seconds),
        )
        self._store.add_token(token, token_digest(secret))
        self.read()
        return NewToken(token, secret)

    def _end(self, shown: str, wanted: float | None) -> float | None:
        found = self._by_id.get(shown)
        ends = [end for end in (wanted, found[0].expires_at if found else None) if end is not None]
        return min(ends, default=None)

    def revoke_token(self, word: str, user: str | None = None) -> Token:
        """End a token (of that user), named by its id, or by its name if only one is called that; at once.

        Raises:
            NotFoundError: there is none.
            InputError: several are called that.
        """
        mine = self.tokens(user)
        found = [token for token in mine if token.id == word] or [t for t in mine if word and t.name == word]
        if len(found) > 1:
            raise InputError(
                f"{word[:80]!r} names several tokens",
                cause=", ".join(token.id for token in found),
                remedy="name one by its id",
            )
        if not found or not self._store.remove_token(found[0].id):
            raise NotFoundError(f"no token {word[:80]!r}", remedy="see `stager token ls`")
        self.read()
        return found[0]

    # -- inside ---------------------------------------------------------------------------------

    def _user(self, name: str) -> User:
        for user in self._store.users():
            if user.name == name:
                return user
        raise _no_user(name)

    def _with_use(self, token: Token) -> Token:
        used = self._noted.get(token.id)
        return token if used is None else replace(token, last_used_at=used)


def _no_user(name: str) -> NotFoundError:
    return NotFoundError(f"no user {name[:80]!r}", remedy="see `stager user ls`")
