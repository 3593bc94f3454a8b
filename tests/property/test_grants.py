"""Grants against a plain table of who proved what when."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from stager.mapper.grants import ROUNDS, Grants
from stager.model.grants import Access, Grant

SECONDS = 10.0
USERS = ("", "ann", "bob", "Ann")
KEYS = ("https://h.example/a", "https://h.example/A", "https://h.example/b")
OBJECTS = ("a" * 64, "b" * 64)
CREDENTIALS = ("c1", "c2")

users, keys, objects = st.sampled_from(USERS), st.sampled_from(KEYS), st.sampled_from(OBJECTS)


class GrantsBesideATable(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.grants = Grants(SECONDS)
        self.written: dict[Access, Grant] = {}
        self.proved: dict[tuple[str, str, str], tuple[float, frozenset[str]]] = {}

    @rule(user=users, key=keys, sha256=objects, shown=st.frozensets(st.sampled_from(CREDENTIALS)))
    def prove(self, user: str, key: str, sha256: str, shown: frozenset[str]) -> None:
        self.grants.give(Access(user, key, sha256), tuple(shown), self.now)
        self.proved[user, key, sha256] = self.now, shown

    @rule(seconds=st.sampled_from((0.1, 4.0, SECONDS, 25.0)))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(user=users, key=keys)
    def refused_by_the_origin(self, user: str, key: str) -> None:
        self.grants.refuse(user, key)
        self.proved = {one: proof for one, proof in self.proved.items() if one[:2] != (user, key)}

    @rule(credential=st.sampled_from(CREDENTIALS))
    def credential_is_removed(self, credential: str) -> None:
        self.grants.withdraw([credential])
        self.proved = {one: proof for one, proof in self.proved.items() if credential not in proof[1]}

    @rule(user=users)
    def revoke_of_a_user(self, user: str) -> None:
        self.grants.revoke(lambda grant: grant.access.user == user)
        self.proved = {one: proof for one, proof in self.proved.items() if one[0] != user}

    @rule()
    def write(self) -> None:
        for access, grant in self.grants.take_changes().items():
            self.written.pop(access, None)
            if grant is not None:
                self.written[access] = grant

    @rule()
    def restart_after_writing(self) -> None:
        self.write()
        self.grants = Grants(SECONDS, self.written.values())

    @invariant()
    def nobody_reads_what_he_has_not_proved(self) -> None:
        for user in USERS:
            for key in KEYS:
                for sha256 in OBJECTS:
                    at, _ = self.proved.get((user, key, sha256), (-1e9, frozenset()))
                    assert self.grants.allows(user, key, sha256, self.now) == (self.now < at + SECONDS)

    @invariant()
    def what_is_listed_is_what_counts(self) -> None:
        listed = {tuple(grant.access) for grant in self.grants.valid(self.now)}
        assert listed == {one for one, (at, _) in self.proved.items() if self.now < at + SECONDS}


TestGrants = GrantsBesideATable.TestCase
TestGrants.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


def test_what_is_over_is_forgotten_although_one_user_proves_it_again_and_again() -> None:
    grants = Grants(SECONDS)
    grants.give(Access("ann", KEYS[0], OBJECTS[0]), (), 0.0)
    for number in range(1000):
        grants.give(Access(f"user{number}", KEYS[0], OBJECTS[0]), (), number * 1.0)
        grants.give(Access("ann", KEYS[0], OBJECTS[0]), (), number * 1.0)
    assert len(grants) < 2 * ROUNDS * SECONDS
