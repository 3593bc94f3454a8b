"""What every error of the program has."""

from __future__ import annotations

from typing import Any, ClassVar, Self, TypeVar


class StagerError(Exception):
    """Base of every error that a user may see.

    Args:
        what: the thing and what happened to it, without a final full stop.
        cause: why, in words (empty when `what` says it all).
        remedy: what the reader can do now (empty when nothing can be done).
        details: plain values (JSON types) that a program may want, such as ``url`` or ``status``.
    """

    code: ClassVar[str] = "error"
    """Stable name: problem type of the API, ``code`` in ``--json``."""
    transient: ClassVar[bool] = False
    """Whether the same call may succeed later without anybody changing anything."""

    def __init__(self, what: str, *, cause: str = "", remedy: str = "", **details: Any) -> None:
        super().__init__(what)
        self.what = what
        self.cause = cause
        self.remedy = remedy
        self.details = details

    def __str__(self) -> str:
        text = f"{self.what}: {self.cause}" if self.cause else self.what
        return f"{text}; {self.remedy}" if self.remedy else text

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuilt, (type(self), self.what, self.cause, self.remedy, self.details)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StagerError) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.code, self.what, self.cause))

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON; `error_from_dict` is the inverse."""
        return {
            "code": self.code,
            "what": self.what,
            "cause": self.cause,
            "remedy": self.remedy,
            "transient": self.transient,
            "details": self.details,
        }

    def with_cause(self, cause: str) -> Self:
        """The same error with another cause."""
        return rebuilt(type(self), self.what, cause, self.remedy, self.details)


_Kind = TypeVar("_Kind", bound=StagerError)


def rebuilt(kind: type[_Kind], what: str, cause: str, remedy: str, details: dict[str, Any]) -> _Kind:
    """An error of this kind with these attributes."""
    error = kind(what, cause=cause, remedy=remedy)
    error.details = dict(details)  # not as keywords: a foreign record may use the names of ours
    return error
