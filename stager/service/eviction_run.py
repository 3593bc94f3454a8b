"""One eviction under way: candidates in, victims out, rows dropped, everything counted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from stager.cache.evict_many import MANY, Crew, Told
from stager.cache.eviction import Evicted, Evictor, Fate, Victim
from stager.clock import Clock
from stager.model.catalogue import CachedFile, Kind, unnamed_key
from stager.model.eviction import Example, Limits, Purging, Stay, Tally, Why
from stager.model.keys import key_digest
from stager.service.outside import Outside
from stager.state.catalogue import Catalogue
from stager.steps import reached

FEWEST, MOST = 256, 8192
"""Objects evicted together: few at first, so that little is not too much; many directories are shared by many."""
EXAMPLES = 20
"""Files that are named, of those that went and of those that stay."""
ASK_SECONDS = 5.0
"""How long what jobs need is taken for known."""


_STAYS = {Fate.FAILED: Stay.FAILED, Fate.PROMISED: Stay.PROMISED, Fate.NEWS: Stay.YOUNG}


@dataclass(frozen=True, slots=True)
class Choice:
    """Candidates for one reason.

    Attributes:
        why: the reason.
        batches: files, in the order in which they go.
        covers: whether a file is among them.
        goal: bytes after which it is enough; None: all of them.
        named: a command names them.
    """

    why: Why
    batches: Iterable[Sequence[CachedFile]]
    covers: Callable[[CachedFile], bool]
    goal: int | None = None
    named: bool = False


@dataclass(frozen=True, slots=True)
class _Candidate:
    rows: Sequence[CachedFile]
    victim: Victim
    why: Why
    stale: Sequence[str] = ()
    """Digests of rows that say the object has no name."""

    @property
    def latest(self) -> CachedFile:
        return max(self.rows, key=lambda row: row.last_access)


class EvictionRun:
    """Takes choices, one after the other.

    Args:
        catalogue: of the cache.
        evictor: of its tree.
        limits: what stays.
        clock: the time.
        needed: objects that jobs need which have not begun.
        linked: objects that are held by symbolic links, where there are no hard ones.
        is_pinned: whether an object that is held is so by a pin.
        outside: objects that were found to have another name outside of the cache.
        went_away: told of each file whose key is gone.
        force: see `Purge.force`.
        dry_run: only find out.
        at_once: see `Evictor.evict`.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        evictor: Evictor,
        limits: Limits,
        clock: Clock,
        *,
        needed: Callable[[], Collection[str]],
        linked: Callable[[], Collection[str]],
        is_pinned: Callable[[str], bool],
        outside: Outside,
        went_away: Callable[[CachedFile, Why], None],
        force: bool = False,
        dry_run: bool = False,
        at_once: bool = False,
    ) -> None:
        self._catalogue = catalogue
        self._evictor = evictor
        self._limits = limits
        self._clock = clock
        self._ask_needed, self._ask_linked = needed, linked
        self._is_pinned = is_pinned
        self._outside = outside.begin()
        self._went_away = went_away
        self._force = force
        self._dry_run = dry_run
        self._at_once = at_once
        self._needed: Collection[str] = ()
        self._linked: Collection[str] = ()
        self._asked = float("-inf")
        self._under_way: deque[tuple[Sequence[_Candidate], Callable[[], Told]]] = deque()
        self._dropping: Future[None] | None = None
        self._shared: set[tuple[Why, str]] = set()  # objects of which some keys were forgotten
        self._met: set[str] = set()  # objects that went or stay: no other choice takes them up again
        self._gone: dict[str, list[int]] = {}
        self._stayed: dict[str, list[int]] = {}
        self.went: list[Example] = []
        self.left: list[Example] = []
        self.freed = 0

    @property
    def gone(self) -> tuple[Tally, ...]:
        """What went, by reason."""
        return tuple(Tally(reason, files, size) for reason, (files, size) in self._gone.items())

    @property
    def stayed(self) -> tuple[Tally, ...]:
        """What stays, by reason."""
        return tuple(Tally(reason, files, size) for reason, (files, size) in self._stayed.items())

    def take(self, choice: Choice) -> Iterator[Purging]:
        """Evict what was chosen, until it is enough; says now and then how far it is.

        Raises:
            StateError: the catalogue can't be used.
            CacheError: the cache can't be used.
        """
        if choice.goal is not None and choice.goal <= 0:
            return
        enough = None if choice.goal is None else self.freed + choice.goal
        many = FEWEST
        waiting: list[_Candidate] = []
        self._rows = ThreadPoolExecutor(1, "evict-rows")
        self._crew = Crew(self._evictor)
        try:
            for rows in choice.batches:
                waiting += self._candidates(rows, choice)
                while some := _portion(waiting, self._missing(enough), many):
                    del waiting[: len(some)]
                    self._evict(some)
                    yield self._progress()
                    many = min(many * 2, MOST)
                    if self._is_enough(enough):
                        return
            while waiting and not self._is_enough(enough):
                some = _portion(waiting, self._missing(enough), MOST) or list(waiting)
                del waiting[: len(some)]
                self._evict(some)
                yield self._progress()
            self._land()
            yield self._progress()
        finally:
            try:
                self._land()
                self._settle()
            finally:
                self._rows.shutdown()
                self._crew.close()
                self._met.difference_update(candidate.victim.object for candidate in waiting)

    def _missing(self, enough: int | None) -> int | None:
        """Bytes that are still to go, if all that is under way goes; None: whatever there is."""
        if enough is None:
            return None
        under_way = sum(candidate.victim.size for some, _ in self._under_way for candidate in some)
        return max(0, enough - self.freed - under_way)

    def _is_enough(self, enough: int | None) -> bool:
        if self._missing(enough) != 0:
            return False
        self._land()  # not all of it may have gone
        return self._missing(enough) == 0

    def _progress(self) -> Purging:
        return Purging(sum(files for files, _ in self._gone.values()), self.freed)

    # -- which -----------------------------------------------------------------------------------

    def _candidates(self, rows: Sequence[CachedFile], choice: Choice) -> list[_Candidate]:
        """Of these rows the objects that go; what stays by the rules is noted."""
        self._ask()
        now = self._clock.time()
        several = self._catalogue.several(row.object for row in rows)
        found = []
        for row in rows:
            if row.object in self._met:
                continue
            rows_of = several.get(row.object, [row])
            all_rows = _named(rows_of) if len(rows_of) > 1 else rows_of
            covered = [one for one in all_rows if choice.covers(one)]
            if len(covered) > 1 and any(one.last_access > row.last_access for one in covered):
                continue  # its turn comes with the last use of any of its keys
            whole = len(covered) == len(all_rows)
            if not covered or not (whole or choice.named):
                continue  # used of late under another key
            if whole:
                self._met.add(row.object)
            elif (choice.why, row.object) in self._shared:
                continue
            else:
                self._shared.add((choice.why, row.object))  # another choice may have the other keys
            stay = self._limits.stays(covered, now, named=choice.named, force=self._force)
            if stay is None and whole and row.object in self._needed:
                stay = Stay.NEEDED
            if stay is None and whole and not (choice.named or self._force) and row.object in self._outside:
                stay = Stay.HELD
            if stay is None:
                unnamed = [one for one in rows_of if one.kind is Kind.UNNAMED] if len(rows_of) > 1 else ()
                stale = [one.digest for one in unnamed]
                found.append(_Candidate(covered, _victim(covered, whole=whole), choice.why, stale))
            else:
                self._stays(covered, stay)
        return found

    def _ask(self) -> None:
        now = self._clock.monotonic()
        if now - self._asked >= ASK_SECONDS:
            self._asked = now
            self._needed, self._linked = self._ask_needed(), self._ask_linked()

    # -- out -------------------------------------------------------------------------------------

    def _evict(self, some: Sequence[_Candidate]) -> None:
        """Begin with these, and see to those before; few are over on return."""
        victims = [candidate.victim for candidate in some]
        answer = self._crew.begin(
            victims, held=self._linked, force=self._force, at_once=self._at_once, dry_run=self._dry_run
        )
        self._under_way.append((some, answer))
        self._land(0 if len(some) < MANY else 1)

    def _land(self, left: int = 0) -> None:
        """Wait for what is under way, but for so many of the last, and see to its rows."""
        while len(self._under_way) > left:
            some, answer = self._under_way.popleft()
            self._see_to(some, answer())

    def _see_to(self, some: Sequence[_Candidate], told: Told) -> None:
        drop: list[str] = []
        unnamed: list[CachedFile] = []
        for candidate in some:
            one = told.get(candidate.victim.object)
            if one is None:
                self._went(candidate, candidate.victim.size)
                drop += [row.digest for row in candidate.rows]
                drop += candidate.stale
                if not self._dry_run:
                    for row in candidate.rows:
                        self._went_away(row, candidate.why)
                continue
            self._count(candidate, one)
            gone = set(one.digests)
            if gone and not self._dry_run:
                for row in candidate.rows:
                    if row.digest in gone:
                        self._went_away(row, candidate.why)
            if one.fate is Fate.GONE:
                kept = gone.symmetric_difference(one.victim.digests)
                drop += [row.digest for row in candidate.rows if row.digest not in kept]
                drop += candidate.stale
            else:
                drop += one.digests
                if one.fate is Fate.FORGOTTEN and one.victim.whole:
                    unnamed.append(_without_name(candidate.latest))
        if self._dry_run:
            return
        self._settle()
        if len(drop) < MANY:
            self._drop(drop, unnamed)
        else:
            self._dropping = self._rows.submit(self._drop, drop, unnamed)

    def _drop(self, digests: Sequence[str], unnamed: Sequence[CachedFile]) -> None:
        self._catalogue.drop(digests)
        if unnamed:
            self._catalogue.put(unnamed)
        reached("evict.dropped")

    def _settle(self) -> None:
        """Wait for the rows that are being dropped beside the work in the tree."""
        dropping, self._dropping = self._dropping, None
        if dropping is not None:
            dropping.result()

    def _went(self, candidate: _Candidate, freed: int) -> None:
        self.freed += freed
        tally = self._gone.setdefault(candidate.why.value, [0, 0])
        tally[0] += 1
        tally[1] += candidate.victim.size
        if len(self.went) < EXAMPLES:
            self.went.append(_example(candidate.latest, candidate.why))

    def _count(self, candidate: _Candidate, one: Evicted) -> None:
        if one.fate is Fate.GONE:
            self._went(candidate, one.freed)
        elif one.fate in _STAYS:
            self._stays(candidate.rows, _STAYS[one.fate], str(one.error or ""))
        elif not one.victim.whole:
            self._stays(candidate.rows, Stay.SHARED)
        else:
            forgotten = "its key is forgotten" if one.fate is Fate.FORGOTTEN else ""
            if one.file is not None and one.fate is Fate.HELD:
                self._outside.note(one.victim.object, one.file)
            pinned = self._is_pinned(one.victim.object)
            self._stays(candidate.rows, Stay.PINNED if pinned else Stay.HELD, forgotten)

    def _stays(self, rows: Sequence[CachedFile], why: Stay, detail: str = "") -> None:
        tally = self._stayed.setdefault(why.value, [0, 0])
        tally[0] += 1
        tally[1] += rows[0].size
        if len(self.left) < EXAMPLES:
            latest = max(rows, key=lambda row: row.last_access)
            self.left.append(_example(latest, why, detail))


def _portion(waiting: list[_Candidate], missing: int | None, many: int) -> list[_Candidate]:
    """So many of the first that they bring what is missing, or are many; none when they are too few for either."""
    size = 0
    for number, candidate in enumerate(waiting, 1):
        size += candidate.victim.size
        if number == many or (missing is not None and size >= missing):
            return waiting[:number]
    return []


def _named(rows: Sequence[CachedFile]) -> Sequence[CachedFile]:
    """Without those of an unnamed object that has a name by now."""
    return [row for row in rows if row.kind is not Kind.UNNAMED] or rows


def _victim(rows: Sequence[CachedFile], *, whole: bool) -> Victim:
    if len(rows) == 1:  # as for most
        (row,) = rows
        digests: tuple[str, ...] = () if row.kind is Kind.UNNAMED else (row.digest,)
        return Victim(
            row.object, row.size, digests, whole=whole, restricted=row.restricted, known=row.stored_at
        )
    digests = tuple(row.digest for row in rows if row.kind is not Kind.UNNAMED)
    restricted = any(row.restricted for row in rows)
    known = max(row.stored_at for row in rows)
    return Victim(rows[0].object, rows[0].size, digests, whole=whole, restricted=restricted, known=known)


def _without_name(row: CachedFile) -> CachedFile:
    """The row of what is left when the key is forgotten and somebody holds the bytes."""
    key = unnamed_key(row.object)
    return CachedFile(
        key_digest(key),
        key,
        row.object,
        row.size,
        row.stored_at,
        row.last_access,
        owner=row.owner,
        restricted=row.restricted,
    )


def _example(row: CachedFile, reason: Why | Stay, detail: str = "") -> Example:
    return Example(row.shown, row.object, row.size, row.last_access, reason.value, detail=detail)
