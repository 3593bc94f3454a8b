"""A bounded dictionary for what was used recently."""

from __future__ import annotations

from typing import Generic, TypeVar

V = TypeVar("V")


class Recent(Generic[V]):
    """Keeps at most `limit` keys, and among them the limit/2 that were set last.

    Two generations: new ones go to the young, and when that is full it becomes the old one and the old
    one is dropped. Every step is one operation on one dict, so threads need no lock: the worst that
    they can do to each other is to forget.
    """

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._young: dict[str, V] = {}
        self._old: dict[str, V] = {}

    def get(self, key: str) -> V | None:
        """What was set, if it is still known."""
        found = self._young.get(key)
        return self._old.get(key) if found is None else found

    def set(self, key: str, value: V) -> None:
        """Remember `value`."""
        if len(self._young) >= self._half:
            if self._half == 0:
                return
            self._old, self._young = self._young, {}
        self._young[key] = value

    def pop(self, key: str) -> V | None:
        """Forget the key; what was known of it."""
        young, old = self._young.pop(key, None), self._old.pop(key, None)
        return old if young is None else young

    def __len__(self) -> int:
        return len(self._young) + len(self._old)
