"""Who may do what: one table of all that can be asked, and how far each role reaches.

The server asks nobody else, and a call that the table does not have is answered to nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from stager.errors import ForbiddenError, InputError
from stager.model.principals import Principal, Role


class Reach(StrEnum):
    """How far a permission reaches."""

    NONE = "-"
    OWN = "own"
    """What is one's own, or is for everybody; all else is not there."""
    ANY = "any"


class Kind(StrEnum):
    """What a call does."""

    READ = "read"
    """It shows what is known of things."""
    BYTES = "bytes"
    """It gives somebody's content."""
    CONTENT = "content"
    """It gives content that may be everybody's: when it was not, the audit log is told."""
    WRITE = "write"
    """It changes something."""
    NOTE = "note"
    """It reports what happens all the time: a change that no log of who did what needs."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may make a call.

    Attributes:
        action: its method and path.
        area: what a token's scopes name it by.
        kind: what it does.
        reach: of each role.
    """

    action: str
    area: str
    kind: Kind
    reach: dict[Role, Reach]

    @property
    def is_audited(self) -> bool:
        """Whether the audit log has it even when nothing was refused."""
        return self.kind in {Kind.WRITE, Kind.BYTES}

    def permit(self, principal: Principal) -> Permit:
        """What the principal may do there.

        Raises:
            ForbiddenError: nothing.
        """
        reach = self.reach[principal.role]
        if reach is Reach.NONE:
            raise ForbiddenError(
                f"{principal.name} may not do that",
                cause=f"role {principal.role} does not include {self.action}",
                remedy="ask an administrator",
            )
        if principal.scopes is not None and principal.scopes.isdisjoint(self._scopes):
            raise ForbiddenError(
                f"the token of {principal.name} is not for that",
                cause=f"its scopes are {', '.join(sorted(principal.scopes))}",
                remedy=f"show one with the scope {self.area}",
            )
        return Permit(principal, reach)

    @property
    def _scopes(self) -> tuple[str, ...]:
        """Each of them is enough."""
        if self.kind in {Kind.READ, Kind.BYTES, Kind.CONTENT}:
            return self.area, f"{self.area}:read", "read"
        return (self.area,)


@dataclass(frozen=True, slots=True)
class Permit:
    """That somebody may make a call, and how far it reaches.

    Attributes:
        principal: who.
        reach: `Reach.OWN` or `Reach.ANY`.
    """

    principal: Principal
    reach: Reach

    @property
    def only(self) -> str | None:
        """Whose things there are for him; None: everybody's."""
        return self.principal.name if self.reach is Reach.OWN else None

    def owner(self, named: str | None) -> str:
        """Whose is what he makes; `named`: by what he says, nothing or None: by who he is.

        Raises:
            ForbiddenError: he says it is another's.
        """
        if not named:
            return self.principal.owner
        if self.only not in {None, named}:
            raise ForbiddenError(
                f"{self.principal.name} may not name {named!r} as owner",
                cause="only operators and administrators may act for others",
                remedy="leave the owner out",
            )
        return named

    def about(self, named: str | None) -> str | None:
        """Whose things he asks for; `named`: by what he says, None: all there are for him."""
        return self.owner(named) if named else named if self.only is None else self.only


_COLUMNS = (Role.READER, Role.USER, Role.OPERATOR, Role.ADMIN)
_TABLE = """
action                                     area           kind     reader  user  operator  admin
GET /v1/whoami                             site           read     any     any   any       any
GET /v1/status                             site           read     any     any   any       any
GET /v1/workers                            site           read     any     any   any       any
GET /v1/origins                            site           read     any     any   any       any

GET /v1/jobs                               jobs           read     any     own   any       any
GET /v1/jobs/{job}                         jobs           read     any     own   any       any
POST /v1/jobs                              jobs           write    -       own   any       any
POST /v1/jobs/{job}/cancel                 jobs           write    -       own   any       any
POST /v1/jobs/{job}/retry                  jobs           write    -       own   any       any
GET /v1/jobs/{job}/logs/{stream}           jobs           bytes    own     own   own       any
GET /v1/jobs/{job}/results                 jobs           read     any     own   any       any
GET /v1/jobs/{job}/results/{name}          jobs           bytes    own     own   own       any
DELETE /v1/jobs/{job}/results              jobs           write    -       own   any       any
DELETE /v1/jobs/{job}/results/{name}       jobs           write    -       own   any       any
GET /v1/preconditions                      preconditions  read     any     any   any       any
PUT /v1/preconditions/{name}               preconditions  write    -       any   any       any
DELETE /v1/preconditions/{name}            preconditions  write    -       any   any       any
GET /v1/events                             events         read     any     own   any       any
POST /v1/runs/{job}/{epoch}                runs           write    -       -     any       any
POST /v1/runs/{job}/{epoch}/claim          runs           write    -       -     any       any
GET /v1/runs/{job}/{epoch}/claim           runs           read     -       -     any       any
GET /v1/runs/{job}/{epoch}/files/{name}    runs           read     -       -     any       any
PUT /v1/runs/{job}/{epoch}/files/{name}    runs           write    -       -     any       any

POST /v1/archiveinfo                       stage          read     any     own   any       any
POST /v1/stage                             stage          write    -       own   any       any
GET /v1/stage                              stage          read     any     own   any       any
GET /v1/stage/{stage}                      stage          read     any     own   any       any
POST /v1/stage/{stage}/cancel              stage          write    -       own   any       any
POST /v1/stage/{stage}/release             stage          write    -       own   any       any
DELETE /v1/stage/{stage}                   stage          write    -       own   any       any

GET /v1/cache/files                        cache          read     any     own   any       any
GET /v1/cache/files/{word}                 cache          read     any     own   any       any
GET /v1/cache/totals                       cache          read     any     own   any       any
GET /v1/cache/content/{key}                cache          content  own     own   own       any
GET /v1/objects/{sha256}                   cache          content  own     own   own       any
PUT /v1/cache/files/{key}                  cache          write    -       own   any       any
POST /v1/cache/remove                      cache          write    -       -     any       any
POST /v1/cache/purge                       cache          write    -       -     any       any
POST /v1/cache/rebuild                     cache          write    -       -     any       any
POST /v1/cache/verify                      cache          write    -       -     any       any
GET /v1/cache/verify                       cache          read     any     any   any       any
GET /v1/cache/limits                       cache          read     any     any   any       any
POST /v1/cache/accesses                    cache          note     -       any   any       any
GET /v1/cache/pins                         cache          read     any     own   any       any
POST /v1/cache/pins                        cache          write    -       own   any       any
DELETE /v1/cache/pins/{word}               cache          write    -       own   any       any

GET /v1/credentials                        credentials    read     -       own   any       any
POST /v1/credentials                       credentials    write    -       own   own       any
PUT /v1/credentials/{word}                 credentials    write    -       own   own       any
DELETE /v1/credentials/{word}              credentials    write    -       own   any       any
GET /v1/grants                             grants         read     own     own   any       any
DELETE /v1/grants                          grants         write    -       own   any       any

POST /v1/logins                            accounts       write    any     any   any       any
GET /v1/users                              accounts       read     own     own   own       any
POST /v1/users                             accounts       write    -       -     -         any
PATCH /v1/users/{name}                     accounts       write    -       -     -         any
DELETE /v1/users/{name}                    accounts       write    -       -     -         any
GET /v1/tokens                             accounts       read     own     own   own       any
POST /v1/tokens                            accounts       write    own     own   own       any
DELETE /v1/tokens/{token}                  accounts       write    own     own   own       any
GET /v1/audit                              audit          read     -       -     -         any
"""


def _rules() -> dict[str, Rule]:
    found = {}
    for line in _TABLE.splitlines()[2:]:
        if line:
            method, path, area, kind, *reach = line.split()
            action = f"{method} {path}"
            found[action] = Rule(
                action, area, Kind(kind), dict(zip(_COLUMNS, map(Reach, reach), strict=True))
            )
    return found


RULES: Final = _rules()
"""By method and path."""


def rule_of(action: str) -> Rule:
    """The rule for a call.

    Raises:
        ForbiddenError: there is none.
    """
    found = RULES.get(action)
    if found is None:
        raise ForbiddenError(
            f"nobody may do {action}",
            cause="no role includes it",
            remedy="this is a fault of the program: report it",
        )
    return found


SCOPES: Final = frozenset(
    {"read", *(scope for rule in RULES.values() for scope in (rule.area, f"{rule.area}:read"))}
)
"""What a token may be for: an area, reading in an area, or reading wherever its user may."""


def check_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """The scopes in alphabetical order, if there are such.

    Raises:
        InputError: there is none like that, or none at all.
    """
    found = tuple(sorted(set(scopes)))
    if not found:
        raise InputError("a token without any scope is of no use", remedy="name some, or leave them out")
    for scope in found:
        if scope not in SCOPES:
            raise InputError(
                f"there is no scope {scope[:80]!r}", remedy=f"one of {', '.join(sorted(SCOPES))}"
            )
    return found
