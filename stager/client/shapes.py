"""From JSON to the same dataclasses that the server's services return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def view(kind: type[T], data: Mapping[str, Any]) -> T:
    """A dataclass from its JSON, parts included; what a newer server says besides is left out."""
    hints = _hints(kind)  # type: ignore[arg-type]  # classes are hashable
    return kind(**{name: _value(hints[name], value) for name, value in data.items() if name in hints})


def views(kind: type[T], data: list[Mapping[str, Any]]) -> list[T]:
    """The same for each."""
    return [view(kind, one) for one in data]


@lru_cache(maxsize=100)
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind) if field.init}


def _value(kind: Any, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(kind, UnionType):
        kind = next(one for one in get_args(kind) if one is not type(None))
    if is_dataclass(kind):
        return view(kind, value)  # type: ignore[arg-type]  # a class, not an object of it
    container = get_origin(kind)
    if container in {list, tuple}:
        return container(_value(get_args(kind)[0], item) for item in value)
    return kind(value) if isinstance(kind, type) and issubclass(kind, str) else value
