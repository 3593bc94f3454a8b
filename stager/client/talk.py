"""How a call is written once and held over either driver: a conversation that yields what is to be done.

No I/O. A method of a group is a generator: it yields a `Request` and is sent the answer's JSON, or `Open` and then
`Read` for an answer that comes bit by bit, or `Pause`; what it returns is what the caller gets. An error of the
driver is thrown into it. `Emit` hands something to a caller who listens meanwhile.

The decorators `answered` and `listened` make such a method the one that callers see: on a group of `Client` it
returns what the conversation comes to, on one of `AsyncClient` something to await or to iterate over.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, overload
from urllib.parse import quote, urlencode

ANSWER_SECONDS = 90.0
"""Longest silence of the server; longer than it waits for its own database."""

P = ParamSpec("P")
T = TypeVar("T")
E = TypeVar("E")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Request:
    """Step: ask, and take the whole answer; sent back is its JSON.

    Attributes:
        method: of HTTP.
        path: below ``/v1/``, its words quoted (`part`).
        params: of the query; None is left out.
        json: the body.
        data: another body: its bytes, a block at a time.
        headers: besides the usual ones.
        patience: longest silence of the server, in seconds.
        kind: of the JSON; anything else is no answer of ours.
    """

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    data: Iterable[bytes] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    patience: float = ANSWER_SECONDS
    kind: type = dict

    @property
    def target(self) -> str:
        """Path and query."""
        given = {name: value for name, value in self.params.items() if value is not None}
        query = urlencode(given, doseq=True)
        return f"/v1/{self.path}?{query}" if query else f"/v1/{self.path}"


@dataclass(frozen=True, slots=True)
class Open:
    """Step: ask, and leave the body where it is; sent back are the answer's headers, their names in small letters."""

    request: Request


@dataclass(frozen=True, slots=True)
class Read:
    """Step: the next bytes of what was opened last; none at its end."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Step: wait so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Emit(Generic[E]):
    """Step: give this to whoever listens."""

    item: E


Step = Request | Open | Read | Pause
Talk = Generator[Step, Any, T]
"""A conversation that comes to a T."""
Telling = Generator[Step | Emit[E], Any, R]
"""One that emits Es on its way to an R."""


class Blocking:
    """Kind of group whose calls return when they are answered."""


class Awaited:
    """Kind of group whose calls are awaited."""


M = TypeVar("M", Blocking, Awaited)


class Driver(Protocol):
    """Holds conversations with the server at `url`; one that is gone is waited for so many seconds, where that helps."""

    url: str
    outage_seconds: float

    def talk(self, talk: Talk[Any]) -> Any:
        """What the conversation comes to (or the coroutine that gives it)."""
        ...

    def listen(self, talk: Telling[Any, Any]) -> Any:
        """A generator of what it emits (or an asynchronous one)."""
        ...


class Group(Generic[M]):
    """Calls that belong together.

    Args:
        driver: holds their conversations.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver


class answered(Generic[P, T]):  # noqa: N801 - a decorator
    """A method that comes to one value."""

    def __init__(self, talk: Callable[Concatenate[Any, P], Talk[T]]) -> None:
        self._talk = talk
        functools.update_wrapper(self, talk)  # type: ignore[arg-type]  # for `help`

    @overload
    def __get__(self, group: None, owner: type) -> Self: ...
    @overload
    def __get__(self, group: Group[Blocking], owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, group: Group[Awaited], owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, group: Group[Any] | None, owner: type) -> Any:
        """The call, of that group."""
        if group is None:
            return self

        @functools.wraps(self._talk)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return group._driver.talk(self._talk(group, *args, **kwargs))  # noqa: SLF001 - its other half

        return call


class listened(Generic[P, E, R]):  # noqa: N801 - a decorator
    """A method that tells as it goes: a generator, which returns what it came to.

    On a group of `AsyncClient` it is an asynchronous generator. Those can't return anything, so what it came to, if
    that is something, is the last that it gives.
    """

    def __init__(self, talk: Callable[Concatenate[Any, P], Telling[E, R]]) -> None:
        self._talk = talk
        functools.update_wrapper(self, talk)  # type: ignore[arg-type]  # for `help`

    @overload
    def __get__(self, group: None, owner: type) -> Self: ...
    @overload
    def __get__(self, group: Group[Blocking], owner: type) -> Callable[P, Generator[E, None, R]]: ...
    @overload
    def __get__(
        self: listened[P, E, None], group: Group[Awaited], owner: type
    ) -> Callable[P, AsyncGenerator[E, None]]: ...
    @overload
    def __get__(self, group: Group[Awaited], owner: type) -> Callable[P, AsyncGenerator[E | R, None]]: ...
    def __get__(self, group: Group[Any] | None, owner: type) -> Any:
        """The call, of that group."""
        if group is None:
            return self

        @functools.wraps(self._talk)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return group._driver.listen(self._talk(group, *args, **kwargs))  # noqa: SLF001

        return call


def part(word: str) -> str:
    """A word as one segment of a path."""
    return quote(word, safe="")
