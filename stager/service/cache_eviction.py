"""Eviction: what commands purge, what the limits ask for, room for what is to be fetched."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from stager.cache.eviction import Evictor
from stager.cache.failures import cache_error
from stager.cache.gone import Gone, note_gone
from stager.cache.store import FileCache
from stager.cache.trash import Trash
from stager.clock import Clock
from stager.model.catalogue import DAY, CachedFile, Kind, Selection, Sort
from stager.model.eviction import Example, Limits, LimitsView, Purge, Purged, Purging, Why, chooses, shown
from stager.model.keys import key_digest
from stager.service.eviction_run import Choice, EvictionRun
from stager.service.outside import File, Outside
from stager.service.results import EVICTED
from stager.state.catalogue import Catalogue

INODES = 2
"""That a file of the cache takes at least: its object and its entry."""
AT_ONCE = 1000
"""Rows read from the catalogue together."""
Holders = Callable[[Sequence[str]], Mapping[str, Sequence[str]]]
"""Objects → who holds each, in words."""


def _nothing() -> tuple[()]:
    return ()


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of a file system: in use by anybody, free for this user; and its inodes, 0 where it does not count them."""

    used: int
    free: int
    inodes: int = 0
    free_inodes: int = 0

    @property
    def total(self) -> int:
        """What can be in use."""
        return self.used + self.free


class EvictionService:
    """Evicts from one cache, longest unused first; several may do so at once, here and on other hosts.

    Args:
        cache: the cache.
        catalogue: what is in it: a look at the tree would cost as much as the cache is large.
        evictor: of its tree.
        trash: where objects go first on a network file system.
        limits: as set.
        clock: the time.
        holders: who holds objects, for people.
        is_pinned: whether an object is pinned.
        linked: objects that jobs hold by symbolic links, where there are no hard ones.
        inside: the files that jobs and pins hold.
        grace_seconds: how long what was evicted stays in the trash; 0: nothing goes there.
    """

    def __init__(
        self,
        cache: FileCache,
        catalogue: Catalogue,
        evictor: Evictor,
        trash: Trash,
        limits: Limits,
        clock: Clock,
        *,
        holders: Holders,
        is_pinned: Callable[[str], bool],
        linked: Callable[[], Collection[str]] = _nothing,
        inside: Callable[[], Collection[File]] = _nothing,
        grace_seconds: float = 0.0,
    ) -> None:
        self._cache = cache
        self._catalogue = catalogue
        self._evictor = evictor
        self._trash = trash
        self._limits = limits
        self._clock = clock
        self._holders = holders
        self._is_pinned = is_pinned
        self._linked = linked
        self._outside = Outside(inside, clock)
        self._grace_seconds = grace_seconds
        self.needed: Callable[[], Collection[str]] = _nothing
        """Objects that jobs need which have not begun; a server knows."""
        self.freed: Callable[[], None] = lambda: None
        """Told when a purge has freed something."""
        self.evicted: list[Callable[[Purged], None]] = []
        """Told what an eviction came to."""
        self.kept: Callable[[LimitsView], LimitsView] = lambda view: view
        """Adds what a keeper knows."""

    # -- looking ---------------------------------------------------------------------------------

    def limits(self) -> LimitsView:
        """The limits, and where the cache stands.

        Raises:
            CacheError: the file system does not say.
            StateError: the catalogue can't be read.
        """
        room = self._room()
        size = self._catalogue.size()[1]
        return self.kept(
            LimitsView(
                self._limits,
                size,
                room.used,
                room.total,
                room.free,
                inodes=room.inodes,
                free_inodes=room.free_inodes,
            )
        )

    # -- what people ask for ---------------------------------------------------------------------

    def purge(self, purge: Purge) -> Generator[Purging, None, Purged]:
        """Evict what is chosen, or with `Purge.dry_run` say what would go; tells now and then how far it is.

        Stopped in between, it has evicted what it told of.

        Raises:
            StateError: the catalogue can't be used.
            CacheError: the cache can't be used.
        """
        run = self._run(force=purge.force, dry_run=purge.dry_run, at_once=purge.to_free is not None)
        emptied = 0
        if purge.to_free is not None and not purge.dry_run:
            emptied = self._empty_trash()
        goal = self._goal(purge)
        unknown: list[str] = []
        for choice in self._choices(purge, goal, unknown):
            left = None if goal is None else goal - run.freed
            if left is None or left > 0:
                yield from run.take(choice if choice.goal is None else replace(choice, goal=left))
        if not purge.dry_run and run.freed + emptied:
            self.freed()
        purged = self._result(run, goal or 0, emptied, dry_run=purge.dry_run)
        return replace(purged, left=self._with_holders(run.left), unknown=tuple(map(shown, unknown)))

    def _goal(self, purge: Purge) -> int | None:
        """Bytes that are to go; None: whatever is chosen."""
        goals = []
        if purge.to_size is not None:
            goals.append(self._catalogue.size()[1] - purge.to_size)
        if purge.to_free is not None:
            goals.append(purge.to_free - self._room().free)
        return max(0, *goals) if goals else None

    def _choices(self, purge: Purge, goal: int | None, unknown: list[str]) -> Iterator[Choice]:
        now = self._clock.time()
        if purge.results_older_than is not None:
            expired = Selection(
                purge.host, purge.owner, stored_before=now - purge.results_older_than, kind=Kind.RESULT
            )
            yield self._choice(Why.EXPIRED, expired, Sort.AGE, named=purge.names)
        if not purge.chooses or goal == 0:
            return
        selection = purge.selection(now)
        if purge.urls:
            found = [row for row in self._named(purge.urls, unknown) if chooses(selection, row)]
            keys = {row.digest for row in found}
            batches = [sorted(found, key=lambda row: row.last_access)]
            yield Choice(Why.CHOSEN, batches, lambda row: row.digest in keys, goal, named=True)
            return
        why = Why.CHOSEN if purge.names else Why.UNUSED if purge.older_than is not None else Why.ROOM
        if why is Why.ROOM:
            yield from self._for_room(goal or 0)
        else:
            yield self._choice(why, selection, goal=goal, named=purge.names)

    def _named(self, keys: Iterable[str], unknown: list[str]) -> list[CachedFile]:
        """Files of these keys; one that the catalogue does not know of yet is read off the tree."""
        found = []
        for key in keys:
            row = self._catalogue.file(key_digest(key))
            entry = self._cache.lookup(key) if row is None else None
            if entry is not None:
                used = self._cache.last_access(key) or entry.stored_at
                row = CachedFile.of(entry, key_digest(key), used)
            if row is None:
                unknown.append(key)
            else:
                found.append(row)
        return found

    # -- what the limits ask for -----------------------------------------------------------------

    def enforce(self) -> Generator[Purging, None, Purged]:
        """Evict what is past its age, beyond a quota, or too much for the cache or its file system.

        Costs as much as is evicted, and a look at what stays though it is the longest unused.
        """
        if self._grace_seconds:
            self._trash.empty(self._grace_seconds)
        limits, now = self._limits, self._clock.time()
        run = self._run()
        if limits.result_days:
            before = now - limits.result_days * DAY
            expired = Selection(stored_before=before, kind=Kind.RESULT)
            yield from run.take(self._choice(Why.EXPIRED, expired, Sort.AGE))
        if limits.input_days:
            since = now - limits.input_days * DAY
            for kind in (Kind.INPUT, Kind.UNNAMED):
                yield from run.take(self._choice(Why.UNUSED, Selection(unused_since=since, kind=kind)))
        for choice in self._quotas():
            yield from run.take(choice)
        room = self._room()
        goal = max(
            limits.too_large(self._catalogue.size()[1]),
            limits.too_full(room.used, room.total),
            self._holding(limits.too_few(room.free_inodes, room.inodes)),
        )
        freed = run.freed
        emptied = self._empty_trash() if limits.too_full(room.used, room.total) else 0
        for choice in self._for_room(max(0, goal - emptied)):
            yield from run.take(replace(choice, goal=max(0, goal - emptied - (run.freed - freed))))
        return self._result(run, goal and goal + freed, emptied)

    def make_room(self, size: int, *, regardless: bool = False) -> Purged:
        """Let `size` bytes be free for fetches, if it can be: the trash goes first, then the longest unused.

        Args:
            size: bytes that are wanted beside those that are to be kept free.
            regardless: the file system refused although it says that there is room (a quota): evict so much.
        """
        room = self._room()
        missing = size + self._limits.min_free_bytes - room.free
        names = self._holding(self._limits.too_few(room.free_inodes, room.inodes))
        goal = max(0, missing, size if regardless else 0, names)
        run = self._run(at_once=True)
        emptied = self._empty_trash() if goal else 0
        for choice in (*self._quotas(), *self._for_room(goal)):
            left = goal - emptied - run.freed
            if left <= 0:
                break
            for _ in run.take(replace(choice, goal=min(left, choice.goal or left))):
                pass
        return self._result(run, goal, emptied)

    def _quotas(self) -> Iterator[Choice]:
        """For each owner who has too much, who has most of it first."""
        shares = ((share, self._limits.quota(share.name)) for share in self._catalogue.owners())
        greedy = [(share.bytes - quota, share.name) for share, quota in shares if 0 < quota < share.bytes]
        for excess, owner in sorted(greedy, reverse=True):
            yield self._choice(Why.QUOTA, Selection(owner=owner), goal=excess)

    def _for_room(self, goal: int) -> Iterator[Choice]:
        if goal > 0:
            yield self._choice(Why.UNNAMED, Selection(kind=Kind.UNNAMED), goal=goal)
            yield self._choice(Why.ROOM, Selection(), goal=goal)

    # -- parts -----------------------------------------------------------------------------------

    def _choice(
        self,
        why: Why,
        selection: Selection,
        sort: Sort = Sort.ACCESS,
        *,
        goal: int | None = None,
        named: bool = False,
    ) -> Choice:
        batches = self._catalogue.matching(selection, sort, at_once=AT_ONCE)
        return Choice(why, batches, partial(chooses, selection), goal, named)

    def _run(self, *, force: bool = False, dry_run: bool = False, at_once: bool = False) -> EvictionRun:
        return EvictionRun(
            self._catalogue,
            self._evictor,
            self._limits,
            self._clock,
            needed=self.needed,
            linked=self._linked,
            is_pinned=self._is_pinned,
            outside=self._outside,
            went_away=self._went_away,
            force=force,
            dry_run=dry_run,
            at_once=at_once,
        )

    def _result(self, run: EvictionRun, goal: int, emptied: int, *, dry_run: bool = False) -> Purged:
        room = self._room()
        purged = Purged(
            dry_run=dry_run,
            gone=run.gone,
            stayed=run.stayed,
            bytes=run.freed,
            trash_bytes=emptied,
            missing=max(0, goal - emptied - run.freed),
            went=tuple(run.went),
            left=tuple(run.left),
            size=self._catalogue.size()[1],
            free=room.free,
            missing_inodes=self._limits.too_few(room.free_inodes, room.inodes),
        )
        if not dry_run:
            for tell in self.evicted:
                tell(purged)
        return purged

    def _with_holders(self, left: Sequence[Example]) -> tuple[Example, ...]:
        held = [one.object for one in left if one.reason in {"held", "pinned"}]
        found = self._holders(held) if held else {}
        return tuple(replace(one, holders=tuple(found.get(one.object, ()))) for one in left)

    def _went_away(self, row: CachedFile, why: Why) -> None:
        if row.kind is Kind.RESULT:  # who asks for it is told
            note_gone(self._cache.tree, row.key, Gone(self._clock.time(), EVICTED[why]))

    def _empty_trash(self) -> int:
        try:
            return self._trash.empty()[1]
        except OSError as error:
            raise cache_error(error, error.filename or self._cache.root, "empty the trash of") from error

    def _room(self) -> Room:
        try:
            found = os.statvfs(self._cache.root)
        except OSError as error:
            raise cache_error(error, self._cache.root, "look at") from error
        return Room(
            (found.f_blocks - found.f_bfree) * found.f_frsize,
            found.f_bavail * found.f_frsize,
            found.f_files,
            found.f_favail,
        )

    def _holding(self, inodes: int) -> int:
        """Bytes of the longest unused files that take so many inodes."""
        files = -(-inodes // INODES)
        size = 0
        for rows in self._catalogue.matching(Selection(), at_once=AT_ONCE) if files else ():
            size += sum(max(1, row.size) for row in rows[:files])
            files -= len(rows)
            if files <= 0:
                break
        return size
