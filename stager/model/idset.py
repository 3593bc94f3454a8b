"""A set of ids that is small as long as one id is in it."""

from __future__ import annotations

from collections.abc import Iterator, MutableSet


class IdSet(MutableSet[str]):
    """Ids in the order in which they were added.

    Of a million fetches that wait most are wanted by one job, and a `dict` for that one would take as much
    memory as all else that is known of the fetch: here it is made for the second id.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: str | dict[str, None] | None = None

    def __contains__(self, item: object) -> bool:
        held = self._held
        return item in held if isinstance(held, dict) else held is not None and item == held

    def __iter__(self) -> Iterator[str]:
        held = self._held
        if held is None:
            return iter(())
        return iter(held if isinstance(held, dict) else (held,))

    def __len__(self) -> int:
        held = self._held
        return len(held) if isinstance(held, dict) else int(held is not None)

    def __repr__(self) -> str:
        return f"IdSet({list(self)})"

    def add(self, value: str) -> None:
        """Put it in; where it is in already, it stays."""
        held = self._held
        if held is None:
            self._held = value
        elif isinstance(held, dict):
            held[value] = None
        elif held != value:
            self._held = {held: None, value: None}

    def discard(self, value: str) -> None:
        """Take it out, if it is in."""
        held = self._held
        if isinstance(held, dict):
            held.pop(value, None)
        elif held == value:
            self._held = None

    def clear(self) -> None:
        """Take all out."""
        self._held = None
