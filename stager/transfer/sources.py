"""The URLs of one file, in the order in which they are tried, and what proves that they have the same bytes."""

from __future__ import annotations

from collections.abc import Iterable

from stager.model.digests import Digest
from stager.model.keys import key_digest
from stager.model.urls import Url


class Sources:
    """Where one file may be had.

    Args:
        urls: at least one, the first to be tried first.
        given: the digest that the caller says it has, or None.
    """

    __slots__ = ("_given", "_learnt", "_named", "_teacher", "_tried", "_urls")

    def __init__(self, urls: Iterable[Url], given: Digest | None) -> None:
        self._urls = list(urls)
        self._tried = 0  # before the present one
        self._given = given
        self._learnt: Digest | None = None
        self._teacher = ""  # `key_digest` of the one that said it
        self._named: set[Url] = set()  # by an origin, not by the caller

    @property
    def current(self) -> Url:
        """The one that is read now."""
        return self._urls[self._tried]

    @property
    def left(self) -> list[str]:
        """Those that were not tried yet."""
        return [url.text for url in self._urls[self._tried + 1 :]]

    @property
    def are_several(self) -> bool:
        """Whether there is a choice."""
        return len(self._urls) > 1

    @property
    def proof(self) -> Digest | None:
        """A digest of the whole that nobody can make other bytes for: with it, it does not matter who sends them."""
        return self._given if self._given is not None and self._given.is_strong else self._learnt

    @property
    def wanted(self) -> Digest | None:
        """What every source has to deliver: what the caller says, else what the first one said."""
        return self._given or self._learnt

    @property
    def may_move(self) -> bool:
        """Whether another one could go on from what is in place."""
        return self.proof is not None and self._tried + 1 < len(self._urls)

    def learn(self, digest: Digest | None, by: str = "") -> None:
        """A source says that the bytes have this digest; it binds the others, unless the caller gave one.

        `by` is the `key_digest` of the one that said so; empty: the present one.
        """
        if self._learnt is None and self._given is None and digest is not None and digest.is_strong:
            self._learnt, self._teacher = digest, by or key_digest(self.current.text)

    def relearn(self, digest: Digest | None, *, changed: bool) -> None:
        """The present source sends the whole anew: what it said before of other bytes binds nobody any more.

        Args:
            digest: what it says now, or None.
            changed: its validators are others than before.
        """
        if self._learnt is None or (not changed and digest in {None, self._learnt}):
            return
        if self._teacher == key_digest(self.current.text):
            self._learnt = None
            self._urls[self._tried + 1 :] = [
                url for url in self._urls[self._tried + 1 :] if url not in self._named
            ]

    def add(self, urls: Iterable[Url]) -> None:
        """More of them, for the end; only a proof makes them as good as those that the caller gave."""
        if self.proof is not None:
            more = dict.fromkeys(url for url in urls if url not in self._urls)
            self._urls.extend(more)
            self._named.update(more)

    def has(self, digest: str) -> bool:
        """Whether the text of one of them has this `key_digest`."""
        return any(key_digest(url.text) == digest for url in self._urls)

    def bring_forward(self, digest: str) -> bool:
        """Begin with the one whose text has this `key_digest`; False if there is none."""
        for at, url in enumerate(self._urls):
            if key_digest(url.text) == digest:
                self._urls.insert(0, self._urls.pop(at))
                return True
        return False

    def turn(self, *, later: bool) -> bool:
        """Go to the next one, and to the present one once more at the end if `later`; False if there is none."""
        if self._tried + 1 >= len(self._urls):
            return False
        if later:
            self._urls.append(self.current)
        self._tried += 1
        return True
