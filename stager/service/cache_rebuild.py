"""The whole catalogue from the tree alone; and the same, slowly, all the time."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from stager.cache.failures import cache_error
from stager.cache.layout import ENTRIES, OBJECTS, RESTRICTED
from stager.cache.walk import Seen, TreeReader
from stager.cache.walk_many import read_entries
from stager.clock import Clock
from stager.model.cache_views import Rebuilt, Walked
from stager.model.catalogue import CachedFile, FileRow, Kind, row_of
from stager.state.catalogue import Catalogue
from stager.state.spool import Spool
from stager.steps import reached

TELL_SECONDS = 0.2
"""Between two reports of how far it is."""
_LAST = "f" * 64
ENTRIES_SHARE = 0.7
"""What of the whole is done when all entries are read."""


def rebuild(
    reader: TreeReader, catalogue: Catalogue, clock: Clock, processes: int | None = None
) -> Generator[Walked, None, Rebuilt]:
    """Read the whole tree into the catalogue; yields how far it is.

    Killed or closed at any point the catalogue is as it was, or lacks nothing but the last corrections, which
    the next walk makes.

    Raises:
        CacheError: the tree can't be read.
        StateError: the catalogue can't be written.
    """
    began = time.monotonic()
    told = began
    files = 0
    walk = catalogue.begin_walk()
    objects: Spool[list[str]] = Spool()
    try:
        with catalogue.rebuilding() as rebuilt:
            while True:
                layouts = reader.layouts
                checked = len(layouts) > 1 or not layouts[0].widths  # else objects are listed in order
                for share, rows in read_entries(reader, reader.parts(ENTRIES), processes, checked=checked):
                    rebuilt.entries(rows)
                    files += len(rows)
                    if time.monotonic() - told > TELL_SECONDS:
                        told = time.monotonic()
                        yield Walked(files, share * ENTRIES_SHARE)
                if reader.layouts == layouts:  # else a migration began: some were perhaps moved past us
                    break
            reached("rebuild.read")
            with ThreadPoolExecutor(1) as beside:  # the database needs this program for nothing
                merging = beside.submit(catalogue.merge, rebuilt, walk)
                if not checked:
                    _list_objects(reader, objects)
                merging.result()
            reached("rebuild.merged")
        yield Walked(files, 0.9)
        lost = 0
        found = _unnamed(reader, catalogue) if checked else _compared(reader, catalogue, objects.items())
        for unknown, missing in found:
            catalogue.walked(reader.unnamed((one, None) for one in unknown), walk)
            lost += _drop_lost(reader, catalogue, missing)
            if time.monotonic() - told > TELL_SECONDS:
                told = time.monotonic()
                yield Walked(files, 0.95)
        for _ in meet_again(reader, catalogue, walk):
            pass
    except OSError as error:
        raise cache_error(error, error.filename or reader.root, "read") from error
    finally:
        objects.close()
    reader.tree.check()  # of a cache that has gone not all was met
    gone = catalogue.end_walk(walk, clock.time())
    return Rebuilt(files - lost, gone, time.monotonic() - began)


def _unnamed(reader: TreeReader, catalogue: Catalogue) -> Iterator[tuple[list[Seen], set[str]]]:
    """The objects that no row has."""
    for folder in (OBJECTS, RESTRICTED):
        for part in reader.parts(folder):
            for names in reader.object_names(part):
                unknown = catalogue.unknown(names)
                yield [Seen(name, folder == RESTRICTED) for name in unknown], set()


def _list_objects(reader: TreeReader, listed: Spool[list[str]]) -> None:
    for part in reader.parts(OBJECTS):
        for names in reader.object_names(part):
            listed.put(names)


def _compared(
    reader: TreeReader, catalogue: Catalogue, objects: Iterable[list[str]]
) -> Iterator[tuple[list[Seen], set[str]]]:
    """The same, and the objects of rows that were not met; both lists are in the order of digests, and read side by side."""
    after = ""
    for names in objects:
        known = catalogue.objects_between(after, names[-1])
        after = names[-1]
        unknown = [name for name in names if name not in known]
        known.difference_update(names)
        yield [Seen(name, restricted=False) for name in unknown], known
    yield [], catalogue.objects_between(after, _LAST)
    for part in reader.parts(RESTRICTED):
        for names in reader.object_names(part):
            yield [Seen(name, restricted=True) for name in catalogue.unknown(names)], set()


def _drop_lost(reader: TreeReader, catalogue: Catalogue, objects: Iterable[str]) -> int:
    """Drop the rows of those of these objects that are really gone; how many rows that were."""
    rows = [file for sha256 in objects for file in catalogue.of_object(sha256)]
    there = {row[0].hex() for row in rows_now(reader, rows)}
    gone = [file.digest for file in rows if file.digest not in there]
    catalogue.drop(gone)
    return len(gone)


def meet_again(reader: TreeReader, catalogue: Catalogue, walk: int) -> Iterator[None]:
    """Look once more for each file that the walk has not met: it may have been moved or replaced meanwhile.

    What is left of the object of one that is gone is unnamed from now on (unless another key has it).

    Raises:
        OSError: the file system failed.
        CacheError, StateError: see `rebuild`.
    """
    after = 0
    while unmet := catalogue.unmet(walk, after=after):
        after = unmet[-1][0]
        files = [file for _, file in unmet]
        rows = rows_now(reader, files)
        there = {row[0].hex() for row in rows}
        gone = {file.object: file for file in files if file.digest not in there}
        left = reader.unnamed((Seen(file.object, file.restricted), None) for file in gone.values())
        for row in left:
            former = gone[row[2].hex()]
            rows.append(row_of(former.unnamed(), former.digest))
        catalogue.walked(rows, walk)
        yield


def rows_now(reader: TreeReader, files: Iterable[CachedFile]) -> list[FileRow]:
    """Those of these files that are there, as they are now.

    Raises:
        OSError: the file system failed.
    """
    named, unnamed = [], {}
    for file in files:
        if file.kind is Kind.UNNAMED:
            unnamed[file.object] = file
        else:
            named.append(file.digest)
    there = reader.unnamed((Seen(file.object, file.restricted), None) for file in unnamed.values())
    return [*reader.rows(named).values(), *(row_of(unnamed[row[2].hex()]) for row in there)]


class SlowWalk:
    """Reads the tree again and again, a piece at a time, so that what others put or removed is seen.

    Args:
        reader: of the cache.
        catalogue: takes in what is met.
        clock: for the time at which a walk ended.
    """

    def __init__(self, reader: TreeReader, catalogue: Catalogue, clock: Clock) -> None:
        self._reader = reader
        self._catalogue = catalogue
        self._clock = clock
        self._pieces: Iterator[None] | None = None

    def step(self, seconds: float = 0.0) -> bool:
        """Look at the next pieces for so long, and at one at least; whether the last one was among them.

        Raises:
            CacheError, StateError: the next step begins from the beginning.
        """
        pieces = self._pieces or self._walk()
        self._pieces = None
        end = time.monotonic() + seconds
        try:
            over = next(pieces, self) is self
            while not over and time.monotonic() < end:
                over = next(pieces, self) is self
        except OSError as error:
            raise cache_error(error, error.filename or self._reader.root, "look through") from error
        if not over:
            self._pieces = pieces
        return over

    def _walk(self) -> Iterator[None]:
        walk = self._catalogue.begin_walk()
        while True:
            layouts = self._reader.layouts
            for part in self._reader.parts(ENTRIES, 1):
                for rows in self._reader.entries(part):
                    self._catalogue.walked(rows, walk)
                    yield
            if self._reader.layouts == layouts:
                break
        for folder in (OBJECTS, RESTRICTED):
            for part in self._reader.parts(folder, 1):
                for seen in self._reader.objects(part):
                    self._catalogue.walked(self._unnamed(seen), walk)
                    yield
        yield from meet_again(self._reader, self._catalogue, walk)
        self._reader.tree.check()  # of a cache that has gone not all was met
        self._catalogue.end_walk(walk, self._clock.time())

    def _unnamed(self, seen: Sequence[Seen]) -> list[FileRow]:
        by_name = {one.sha256: one for one in seen}
        unknown = self._catalogue.unknown(list(by_name))
        return self._reader.unnamed((by_name[name], None) for name in unknown)
