"""Grants as people see and end them; and they go with the credentials for which they were given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from stager.clock import Clock
from stager.errors import InputError, NotFoundError
from stager.mapper.loop import Mapper
from stager.model.grants import Grant, GrantView
from stager.model.urls import parse_url

ANSWER_SECONDS = 60.0
"""Longest wait for the mapper."""


class GrantService:
    """The grants of one server.

    Args:
        mapper: holds them.
        clock: the time.
    """

    def __init__(self, mapper: Mapper, clock: Clock) -> None:
        self._mapper = mapper
        self._clock = clock

    def held(self, user: str | None = None) -> list[GrantView]:
        """Those that count now (of that user), the newest first."""
        return [GrantView.of(grant) for grant in self._valid(user)]

    def allows(self, user: str, sha256: str, key: str | None = None) -> bool:
        """Whether the user has proved of late that he may read that object, under that key (None: under any)."""
        return any(one.access.object == sha256 and key in {None, one.access.key} for one in self._valid(user))

    def revoke(self, words: Sequence[str] = (), *, user: str | None = None) -> list[GrantView]:
        """End grants: those named by id or URL, or all of a user; which they were. Durable on return.

        A job that has its inputs already keeps them; any other of the same user proves again first.

        Raises:
            InputError: neither words nor a user.
            NotFoundError: a word names none that counts; nothing was changed.
        """
        if not words and user is None:
            raise InputError("nothing says which grants", remedy="give ids or URLs, or a user")
        tests = [_names(word) for word in words]
        valid = self._valid(user)
        for word, names in zip(words, tests, strict=True):
            if not any(names(grant) for grant in valid):
                raise NotFoundError(f"no grant {word[:80]!r}", remedy="see `stager grants ls`")

        def wanted(grant: Grant) -> bool:
            return user in {None, grant.access.user} and (not tests or any(names(grant) for names in tests))

        ended = self._end(wanted)
        return [GrantView.of(grant) for grant in ended if grant.is_valid(self._clock.time())]

    def keep_those_of(self, credentials: Collection[str]) -> int:
        """Credentials have changed, and these are all: what was granted for another one ends; how many grants."""
        there = frozenset(credentials)
        return len(self._end(lambda grant: not there.issuperset(grant.credentials)))

    def _valid(self, user: str | None) -> list[Grant]:
        now = self._clock.time()
        found: list[Grant] = self._mapper.inspect(lambda machine: machine.flights.grants.valid(now)).result(
            ANSWER_SECONDS
        )
        return [grant for grant in found if user in {None, grant.access.user}]

    def _end(self, wanted: Callable[[Grant], bool]) -> list[Grant]:
        ended: list[Grant] = self._mapper.repair(
            lambda machine, _: machine.flights.grants.revoke(wanted)
        ).result(ANSWER_SECONDS)
        return ended


def _names(word: str) -> Callable[[Grant], bool]:
    if "://" not in word:
        return lambda grant: grant.id == word
    key = parse_url(word).text
    return lambda grant: grant.access.key == key
