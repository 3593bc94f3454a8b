"""Pins: what an administrator wants to stay, why, and for how long."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from stager.cache.pin_files import PinFiles
from stager.cache.store import FileCache
from stager.clock import Clock
from stager.errors import ConflictError, InputError, NotFoundError, ObjectLostError
from stager.model.jobs import check_owner
from stager.model.keys import parse_sha256
from stager.model.pins import STAGE, USER, Pin, PinView, check_reason, is_pin_id
from stager.model.urls import parse_url

LONGEST_SECONDS = 3_153_600_000.0
"""A hundred years; what is to stay longer stays for ever."""
_TRIES = 4
"""The key's content may change, or be evicted, while it is pinned."""


class PinService:
    """Pins of one cache. All is in the tree: it holds without any database, and on every host.

    Args:
        cache: whose objects are pinned.
        clock: the time.
    """

    def __init__(self, cache: FileCache, clock: Clock) -> None:
        self._cache = cache
        self._clock = clock
        self._files = PinFiles(cache.tree)

    def pin(self, word: str, seconds: float | None = None, *, reason: str = "", owner: str = "") -> PinView:
        """Let a file stay for so long (None: for ever), whatever needs room. Pinning again prolongs.

        What stays is the content that the file has now.

        Args:
            word: key, URL or SHA-256.
            seconds: from now.
            reason: for people.
            owner: who wants it.

        Raises:
            NotFoundError: it is not in the cache.
            InputError: a time, reason or owner that makes no sense.
            CacheError: the file system failed.
        """
        if seconds is not None and not 0 < seconds <= LONGEST_SECONDS:
            raise InputError(
                f"{seconds:g} seconds are no time for a pin",
                cause=f"more than 0 and at most {LONGEST_SECONDS:.0f} are",
                remedy="give no time to pin it for ever",
            )
        now = self._clock.time()
        until = None if seconds is None else now + seconds
        holder = USER + check_owner(owner)
        return self.hold(word, holder, check_reason(reason), until)

    def hold(self, word: str, holder: str, reason: str, until: float | None) -> PinView:
        """Pin for any holder. See `pin`."""
        for _ in range(_TRIES):
            key, sha256, restricted = self._find(word)
            pin = Pin(sha256, holder, key, reason, self._clock.time(), until)
            if self._try(pin, restricted=restricted):
                found = [held for held in self._files.of(sha256) if held.id == pin.id]
                return PinView.of(found[0] if found else pin)
        raise _not_there(word)

    def hold_object(self, key: str, sha256: str, holder: str, reason: str, until: float | None) -> None:
        """Pin the object that was fetched for that key, for any holder.

        Raises:
            NotFoundError: it is not there any more, or nothing is there under the key.
            CacheError: the file system failed.
        """
        pin = Pin(sha256, holder, key, reason, self._clock.time(), until)
        if not self._try(pin, restricted=False) and not self._try_restricted(pin):
            raise _not_there(key)

    def _try_restricted(self, pin: Pin) -> bool:
        entry = self._cache.lookup(pin.key)
        needs_grant = entry is not None and entry.restricted and entry.object == pin.object
        return needs_grant and self._try(pin, restricted=True)

    def _try(self, pin: Pin, *, restricted: bool) -> bool:
        """Pin it; False if the object, or its key, was evicted just now."""
        try:
            self._files.pin(pin, restricted=restricted)
        except ObjectLostError:
            return False
        entry = self._cache.lookup(pin.key) if pin.key else None
        if entry is not None and entry.restricted and not restricted and entry.object == pin.object:
            return self._try(pin, restricted=True)  # besides the public object with the same bytes
        if not pin.key or entry is not None:
            return True
        self._files.unpin(pin.object, pin.id)
        return False

    def unpin(self, word: str, owner: str | None = None) -> list[PinView]:
        """Take pins away: one by its id, or all that people have of a file; they are returned.

        Args:
            word: id of a pin; or key, URL or SHA-256 of a file.
            owner: whose pins; None: everybody's.

        Raises:
            NotFoundError: there is none.
            ConflictError: only stage requests hold it.
            CacheError: the file system failed.
        """
        found = [pin for pin in self._matching(word) if owner is None or pin.holder == USER + owner]
        ours = [pin for pin in found if pin.holder.startswith(USER)]
        if not ours and found:
            request = found[0].holder.removeprefix(STAGE)
            raise ConflictError(
                f"{_shown(word)} is pinned by stage request {request}",
                cause="a stage request's pins end with it",
                remedy=f"`stager unstage {request}`",
            )
        if not ours:
            raise NotFoundError(f"{_shown(word)} is not pinned", remedy="`stager cache pins` lists what is")
        return [PinView.of(pin) for pin in ours if self._files.unpin(pin.object, pin.id)]

    def release(self, sha256: str, pin: str) -> bool:
        """Take the pin with that id away, whoever's it is; whether there was one."""
        return self._files.unpin(sha256, pin)

    def pins(self, word: str | None = None, owner: str | None = None) -> list[PinView]:
        """All pins (of that owner) that count now, or those of one file; the one that ends first is the first.

        Raises:
            CacheError: the file system failed.
        """
        found: Iterable[Pin] = self._files if word is None else self._matching(word)
        mine = (pin for pin in found if owner is None or pin.holder == USER + owner)
        return sorted((PinView.of(pin) for pin in mine), key=_by_end)

    # -- inside ----------------------------------------------------------------------------------

    def _find(self, word: str) -> tuple[str, str, bool]:
        """Key, object, and whether it is restricted."""
        key = _canonical(word)
        entry = self._cache.lookup(key)
        if entry is not None:
            return key, entry.object, entry.restricted
        with suppress(InputError):
            sha256 = parse_sha256(word)
            if self._cache.has_object(sha256):
                return "", sha256, False
        raise _not_there(word)

    def _matching(self, word: str) -> list[Pin]:
        if is_pin_id(word):
            found = [pin for pin in self._files if pin.id == word]
            if found:
                return found
        with suppress(InputError):
            return self._files.of(parse_sha256(word))
        key = _canonical(word)
        entry = self._cache.lookup(key)
        near = [] if entry is None else self._files.of(entry.object)
        return [pin for pin in near if pin.key == key] or [pin for pin in self._files if pin.key == key]


def _by_end(pin: PinView) -> tuple[bool, float, str, str]:
    return pin.until is None, pin.until or 0.0, pin.object, pin.id


def _canonical(word: str) -> str:
    with suppress(InputError):
        return parse_url(word).text
    return word


def _shown(word: str) -> str:
    with suppress(InputError):
        return parse_url(word).redacted
    return word


def _not_there(word: str) -> NotFoundError:
    return NotFoundError(
        f"{_shown(word)} is not in the cache",
        cause="only what is there can be pinned",
        remedy="fetch it first, or stage it: `stager stage URL --keep 7d`",
    )
