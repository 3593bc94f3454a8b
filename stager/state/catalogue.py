"""The catalogue: what is in the cache, so that nobody has to read a million files to list them.

It knows nothing that the tree does not know better, but for hits and the times of verification: it may be
thrown away at any time, and is read off the tree again. Several threads may use it; one process writes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    Connection,
    Select,
    and_,
    bindparam,
    delete,
    func,
    literal_column,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from stager.errors import StateError
from stager.model.catalogue import CachedFile, FileRow, Selection, Share, Sort, Totals, row_of
from stager.state.bulk import ManyRows
from stager.state.catalogue_engine import open_catalogue
from stager.state.catalogue_page import page
from stager.state.catalogue_put import put_in
from stager.state.catalogue_rebuild import Rebuild
from stager.state.catalogue_rows import (
    COLUMNS,
    PUT_IN,
    cached_file,
    chosen,
    file_of_values,
    named_meanwhile,
    ordered,
    upsert,
)
from stager.state.catalogue_schema import IS_ALIAS, facts, files, owners
from stager.state.catalogue_totals import count, count_anew, drop_counted, has_aliases

T = TypeVar("T")
ROWS_AT_ONCE = 500
"""Digests in one query; below the limit of every database's parameters."""
DROPPED_AT_ONCE = 4000
"""Likewise, in one change: others wait meanwhile, for hundredths of a second."""

_ACCESSED = ManyRows(
    files.update()
    .where(and_(files.c.digest == bindparam("row"), files.c.last_access < bindparam("at")))
    .values(last_access=bindparam("at"), hits=files.c.hits + literal_column("1"))
)
_VERIFIED = ManyRows(
    files.update().where(files.c.object == bindparam("row")).values(verified_at=bindparam("at"))
)


class Catalogue:
    """The rows of one cache.

    Args:
        url: SQLAlchemy URL of its database.
        root: of the cache; a catalogue of another one is emptied.

    Raises:
        StateError: the database can't be used.
    """

    def __init__(self, url: str, root: Path) -> None:
        self._engine, self.is_new = open_catalogue(url, root)
        self._writing = threading.Lock()
        self._rebuilds: list[Rebuild] = []
        with self._reading() as connection:
            self._walk = int(_fact(connection, "walk") or 0)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    # -- what happens in the cache ---------------------------------------------------------------

    def put(self, found: Iterable[CachedFile]) -> None:
        """Take these in; see `put_rows`."""
        self.put_rows(row_of(file) for file in found)

    def put_rows(self, found: Iterable[FileRow]) -> None:
        """Take these in; what was known of them before and still holds (hits, a later access) stays.

        An object that a key had before, and that no row has any more, is unnamed from now on.

        Raises:
            StateError: none of them was taken in, or only the first ones.
        """
        for some in _parts(found):
            with self._changing() as connection:
                put_in(connection, some, self._walk)
            for rebuild in self._rebuilds:
                rebuild.dropped.difference_update(row[0] for row in some)

    def drop(self, digests: Iterable[str]) -> None:
        """These keys are gone (or, of an unnamed object, the object is)."""
        for some in _parts(digests, DROPPED_AT_ONCE):
            gone = [bytes.fromhex(digest) for digest in some]
            for rebuild in self._rebuilds:
                rebuild.dropped.update(gone)
            with self._changing() as connection:
                drop_counted(connection, gone)

    def accessed(self, when: Mapping[str, float]) -> None:
        """These keys (by their digests) were used at these times; each counts as one hit."""
        rows = [{"row": bytes.fromhex(digest), "at": at} for digest, at in when.items()]
        with self._changing() as connection:
            _ACCESSED.execute(connection, rows)

    def verified(self, objects: Iterable[str], at: float) -> None:
        """The bytes of these objects were read, and right."""
        rows = [{"row": bytes.fromhex(sha256), "at": at} for sha256 in objects]
        with self._changing() as connection:
            _VERIFIED.execute(connection, rows)

    # -- reading the tree ------------------------------------------------------------------------

    def begin_walk(self) -> int:
        """The tree is going to be read from the beginning; the number of this walk."""
        with self._changing() as connection:
            self._walk += 1
            _set_fact(connection, "walk", str(self._walk))
        return self._walk

    def walked(self, found: Sequence[FileRow], walk: int) -> None:
        """That walk met these. Which row counts for its owner is seen to at its end."""
        with self._changing() as connection:
            upsert(connection.dialect.name).execute_plain(connection, PUT_IN, [(*row, walk) for row in found])

    @contextmanager
    def rebuilding(self) -> Iterator[Rebuild]:
        """For a walk that reads everything in one go: its rows are put in together."""
        with _complaining("written"), Rebuild(self._engine) as rebuild:
            self._rebuilds.append(rebuild)
            try:
                yield rebuild
            finally:
                self._rebuilds.remove(rebuild)

    def merge(self, rebuild: Rebuild, walk: int) -> None:
        """Put in what was read: all of it, or nothing."""
        with _complaining("written"), self._writing:
            rebuild.merge(walk)

    def unknown(self, objects: Sequence[str]) -> list[str]:
        """Those that no row has."""
        unknown = []
        with self._reading() as connection:
            for some in _parts(objects):
                wanted = [bytes.fromhex(sha256) for sha256 in some]
                query = select(files.c.object).where(files.c.object.in_(wanted))
                known = {bytes(found) for found in connection.execute(query).scalars()}
                unknown += [name for name, found in zip(some, wanted, strict=True) if found not in known]
        return unknown

    def objects_between(self, first: str, last: str) -> set[str]:
        """The objects with rows whose digests come after `first`, up to `last`."""
        found = and_(files.c.object > bytes.fromhex(first), files.c.object <= bytes.fromhex(last))
        with self._reading() as connection:
            cursor = connection.execute(select(files.c.object).where(found)).cursor
            return {bytes(sha256).hex() for (sha256,) in cursor.fetchall()}  # the driver's own

    def unmet(self, walk: int, *, after: int = 0, limit: int = ROWS_AT_ONCE) -> list[tuple[int, CachedFile]]:
        """The next rows (by number) that this walk, and none since, has met: they are perhaps no more."""
        query = select(*COLUMNS, files.c.id).where(files.c.walk < walk, files.c.id > after)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(files.c.id).limit(limit)).mappings().all()
        return [(row["id"], cached_file(row)) for row in rows]

    def end_walk(self, walk: int, now: float) -> int:
        """That walk met all there is: what neither it nor anybody since did meet is gone; how many rows that were."""
        with self._changing() as connection:
            gone = connection.execute(delete(files).where(files.c.walk < walk)).rowcount
            connection.execute(named_meanwhile())
            count_anew(connection)
            _set_fact(connection, "walked_at", repr(now))
        return gone

    @property
    def walked_at(self) -> float | None:
        """When the tree was last read to its end; None: never, so that rows may be missing."""
        with self._reading() as connection:
            found = _fact(connection, "walked_at")
        return None if found is None else float(found)

    # -- what people and the keeper ask ----------------------------------------------------------

    def ls(
        self, selection: Selection, sort: Sort = Sort.SIZE, *, limit: int | None = 100, offset: int = 0
    ) -> list[CachedFile]:
        """At most `limit` files, in that order, from the `offset`-th on."""
        query = ordered(chosen(select(*COLUMNS), selection), sort).limit(limit).offset(offset)
        return self._files(query)

    def page(
        self,
        selection: Selection,
        sort: Sort,
        *,
        limit: int,
        after: int | None = None,
        reverse: bool = False,
    ) -> tuple[list[CachedFile], int | None]:
        """See `stager.state.catalogue_page.page`."""
        with self._reading() as connection:
            return page(connection, selection, sort, limit=limit, after=after, reverse=reverse)

    def matching(
        self, selection: Selection, sort: Sort = Sort.ACCESS, *, at_once: int = 1000
    ) -> Iterator[list[CachedFile]]:
        """All files of the selection in that order, some at a time; rows may be dropped meanwhile."""
        last: tuple[Any, int] | None = None
        column = {Sort.ACCESS: files.c.last_access, Sort.SIZE: files.c.size, Sort.AGE: files.c.stored_at}[
            sort
        ]
        place_of = COLUMNS.index(column)
        while True:
            query = chosen(select(*COLUMNS, files.c.id), selection)
            downwards = sort is Sort.SIZE
            if last is not None:
                place, after = tuple_(column, files.c.id), tuple_(*last)
                query = query.where(place < after if downwards else place > after)
            query = ordered(query, sort).limit(at_once)
            with self._reading() as connection:
                rows = connection.execute(query).cursor.fetchall()  # the driver's own: it is half the time
            if not rows:
                return
            last = rows[-1][place_of], rows[-1][-1]
            yield list(map(file_of_values, rows))

    def of_object(self, sha256: str) -> list[CachedFile]:
        """All files that have this object."""
        return self._files(select(*COLUMNS).where(files.c.object == bytes.fromhex(sha256)))

    def several(self, objects: Iterable[str]) -> dict[str, list[CachedFile]]:
        """Of these objects those that more than one file has, with all their files."""
        found: dict[str, list[CachedFile]] = {}
        with self._reading() as connection:
            if not has_aliases(connection):
                return found
        for some in _parts(objects):
            wanted = [bytes.fromhex(sha256) for sha256 in some]
            alias = select(files.c.object).where(files.c.object.in_(wanted), IS_ALIAS)
            for file in self._files(select(*COLUMNS).where(files.c.object.in_(alias))):
                found.setdefault(file.object, []).append(file)
        return found

    def file(self, digest: str) -> CachedFile | None:
        """The file of the key with that digest."""
        found = self._files(select(*COLUMNS).where(files.c.digest == bytes.fromhex(digest)))
        return found[0] if found else None

    def beginning(self, letters: str, limit: int = 10) -> list[CachedFile]:
        """Files whose object's digest begins with these hexadecimal digits (an even number of them)."""
        low = bytes.fromhex(letters)
        high = low + b"\xff" * (32 - len(low))
        return self._files(select(*COLUMNS).where(files.c.object.between(low, high)).limit(limit))

    def unverified(self, before: float, *, after: str = "", limit: int = 1000) -> list[CachedFile]:
        """One file for each of the next `limit` objects (by digest, from `after` on) not verified since then."""
        query = (
            select(*COLUMNS)
            .where(files.c.object > bytes.fromhex(after), files.c.verified_at < before, ~files.c.alias)
            .order_by(files.c.object)
            .limit(limit)
        )
        return self._files(query)

    def count(self, selection: Selection) -> int:
        """How many files the selection has."""
        with self._reading() as connection:
            query = chosen(select(func.count()).select_from(files), selection)
            return int(connection.execute(query).scalar_one())

    def verified_at(self, digest: str) -> float | None:
        """When the bytes of that file were last read and found right; None: never."""
        query = select(files.c.verified_at).where(files.c.digest == bytes.fromhex(digest))
        with self._reading() as connection:
            return connection.execute(query).scalar() or None

    def versions(self, digest: str) -> list[CachedFile]:
        """Objects that this key had before and that no entry names, newest first."""
        query = select(*COLUMNS).where(files.c.former == bytes.fromhex(digest))
        return self._files(query.order_by(files.c.stored_at.desc()))

    def size(self) -> tuple[int, int]:
        """Number of objects and bytes; costs the same however many there are."""
        with self._reading() as connection:
            found = connection.execute(select(func.sum(owners.c.files), func.sum(owners.c.bytes))).one()
        return int(found[0] or 0), int(found[1] or 0)

    def owners(self) -> list[Share]:
        """What each owner's files take, the greediest first; costs as much as there are owners."""
        query = select(owners).where(owners.c.files > 0).order_by(owners.c.bytes.desc())
        with self._reading() as connection:
            return [
                Share(row["owner"], row["files"], row["bytes"])
                for row in connection.execute(query).mappings()
            ]

    def promised(self, now: float) -> int:
        """Bytes of what was promised to stay and may not go yet."""
        with self._reading() as connection:
            query = select(func.sum(files.c.size)).where(files.c.keep_until > now, ~files.c.alias)
            return int(connection.execute(query).scalar() or 0)

    def totals(self, now: float, selection: Selection = Selection()) -> Totals:  # noqa: B008 - frozen
        """The whole of the selection and its parts; reads every row."""
        with self._reading() as connection:
            return count(connection, now, selection)

    # -- inside ----------------------------------------------------------------------------------

    def _files(self, query: Select[Any]) -> list[CachedFile]:
        with self._reading() as connection:
            return [cached_file(row) for row in connection.execute(query).mappings()]

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _complaining("read"), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        with _complaining("written"), self._writing, self._engine.begin() as connection:
            yield connection


@contextmanager
def _complaining(what: str) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise StateError(
            f"the catalogue can't be {what}",
            cause=cause,
            remedy="check the disk of state_dir; if it is damaged, delete catalogue.db: it is read off the cache again",
        ) from error


def _parts(items: Iterable[T], at_once: int = ROWS_AT_ONCE) -> Iterator[list[T]]:
    rest = iter(items)
    while some := list(islice(rest, at_once)):
        yield some


def _fact(connection: Connection, name: str) -> str | None:
    found: str | None = connection.execute(select(facts.c.value).where(facts.c.name == name)).scalar()
    return found


def _set_fact(connection: Connection, name: str, value: str) -> None:
    if not connection.execute(update(facts).where(facts.c.name == name).values(value=value)).rowcount:
        connection.execute(facts.insert().values(name=name, value=value))
