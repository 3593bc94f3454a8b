"""Calls that make something: with an ``Idempotency-Key`` they may be repeated, and make it once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Request
from pydantic import TypeAdapter

from stager.model.answered import Answered, Call
from stager.server.who import May
from stager.service.repeats import Repeats

T = TypeVar("T")
Note = Callable[[Any], Answered]
"""Makes of an answer what is kept with what it answers, in one transaction."""


@dataclass(frozen=True, slots=True)
class Once:
    """Makes what is asked for, once.

    Attributes:
        repeats: knows what was asked before; None: nobody does.
        call: which call it is; None: it has no key, and each one counts.
    """

    repeats: Repeats | None
    call: Call | None

    def __call__(self, kind: type[T], make: Callable[[Note | None], T]) -> T:
        """The answer: what `make` makes now, or made when the same was asked before.

        `make` is given what notes its answer; if it does not use it, the answer is kept afterwards, and whoever
        repeats a call that was cut off in between makes it once more: right for what makes no second thing of it.
        """
        if self.repeats is None or self.call is None:
            return make(None)
        repeats, call, adapter = self.repeats, self.call, _adapter(kind)  # type: ignore[arg-type]  # classes are hashable
        noted = []

        def note(answer: Any) -> Answered:
            noted.append(answer)
            return repeats.answered(call, adapter.dump_json(answer).decode())

        with repeats.taken_up(call) as before:
            if before is not None:
                found: T = adapter.validate_json(before)
                return found
            answer = make(note)
            if not noted:
                repeats.keep(note(answer))
            return answer


@lru_cache(maxsize=50)
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


async def _once(
    request: Request,
    may: May,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="Anything random, such as a UUID: the same request with the same key is carried out once and"
            " answered the same, for a day."
        ),
    ] = None,
) -> Once:
    repeats: Repeats | None = request.app.state.repeats
    if idempotency_key is None:
        return Once(repeats, None)
    asked = f"{request.method} {request.url.path}\n".encode() + await request.body()
    return Once(repeats, Call.of(may.principal.name, idempotency_key, asked))


MakesOnce = Annotated[Once, Depends(_once)]
"""For every route that makes something: ``once(Kind, lambda note: ...)``."""
