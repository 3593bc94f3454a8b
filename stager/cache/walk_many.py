"""Reading a large tree with several processes: most of the work is opening and reading small files."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import islice
from multiprocessing.connection import Connection, wait

from stager.cache.failures import cache_error
from stager.cache.walk import Part, TreeReader
from stager.errors import CacheError
from stager.model.catalogue import FileRow

MANY = 50_000
"""Files from which on starting processes pays."""
PROCESSES = 4
"""More of them only wait for each other's disk, and for whoever takes their rows."""


def read_entries(
    reader: TreeReader, parts: Sequence[Part], processes: int | None = None, *, checked: bool = True
) -> Iterator[tuple[float, list[FileRow]]]:
    """The files of all parts, a piece at a time, each with the share of the parts that is done.

    Args:
        reader: of the cache.
        parts: of its entries.
        processes: that read at once; None: as many as pay.
        checked: see `TreeReader.entries`.

    Raises:
        OSError: the file system failed.
        CacheError: it failed for another process.
    """
    if processes is None:
        processes = min(PROCESSES, len(os.sched_getaffinity(0)))
    left = iter(parts)
    done = met = 0
    for part in islice(left, None if processes <= 1 else 1):
        for rows in reader.entries(part, checked=checked):
            met += len(rows)
            yield done / len(parts), rows
        done += 1
    rest = list(left)
    if met * len(rest) < MANY:
        processes = 1
    spread = _spread if processes > 1 else _alone
    for count, rows in spread(reader, rest, processes, checked=checked):
        yield (done + count) / len(parts), rows


def _alone(
    reader: TreeReader, parts: Sequence[Part], _: int, *, checked: bool
) -> Iterator[tuple[int, list[FileRow]]]:
    for number, part in enumerate(parts):
        for rows in reader.entries(part, checked=checked):
            yield number, rows


def _spread(
    reader: TreeReader, parts: Sequence[Part], processes: int, *, checked: bool
) -> Iterator[tuple[int, list[FileRow]]]:
    # Not by a fork, which would take the locks of this process's threads with it.
    context = multiprocessing.get_context("spawn")
    left = iter(parts)
    ended = 0
    with ExitStack() as made:
        readers: list[Connection] = []
        for _ in range(processes):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(reader.root, reader.tree.id, theirs, checked), daemon=True
            )
            process.start()
            theirs.close()
            made.callback(process.join)
            made.callback(ours.close)  # before the join: it ends the process
            ours.send(next(left, None))
            readers.append(ours)
        while readers:
            for ready in wait(readers):
                assert isinstance(ready, Connection)
                try:
                    told = ready.recv()
                except EOFError:
                    raise cache_error(
                        OSError(None, "a process that read it was killed"), reader.root, "read"
                    ) from None
                if isinstance(told, (OSError, CacheError)):
                    raise told
                if told is not None:
                    yield ended, told
                    continue
                ended += 1
                part = next(left, None)
                ready.send(part)
                if part is None:
                    readers.remove(ready)


def _serve(root: str, cache_id: str, asked: Connection, checked: bool) -> None:
    """The other process: reads the parts that it is sent; ends when there are no more, or nobody to tell."""
    gc.disable()  # rows are freed by their counts; looking for cycles among them takes as long as reading them
    with asked, suppress(EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        try:
            reader = TreeReader(root, cache_id)
        except CacheError as error:
            asked.send(error)
            return
        while (part := asked.recv()) is not None:
            try:
                for rows in reader.entries(part, checked=checked):
                    asked.send(rows)
            except (BrokenPipeError, ConnectionResetError):
                return
            except OSError as error:
                asked.send(OSError(error.errno, error.strerror, error.filename))
                return
            asked.send(None)
