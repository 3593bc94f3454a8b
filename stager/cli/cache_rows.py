"""Rows of `stager cache ls` as they are shown; for the quick way to them too, so it imports next to nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from stager.cli import output

COLUMNS = ("size", "last access", "age", "hits", "owner", "host", "key")
FACTS = (
    "key", "sha256", "size", "stored_at", "last_access", "hits", "owner", "host", "kind",
    "fresh_until", "keep_until", "restricted",
)  # fmt: skip
"""What programs are told of a file, in this order."""
OLD_SECONDS = 3600.0
"""A catalogue that nobody keeps up is said to be as old as it is, after so long."""
_AGES = ((86_400.0 * 365, "y"), (86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def form_of(*, as_json: bool, as_csv: bool) -> str:
    """How rows are written: ``json``, ``csv`` or ``table``."""
    return "json" if as_json else "csv" if as_csv else "table"


def show_rows(rows: Iterable[Mapping[str, Any]], total: int, form: str) -> None:
    """Write rows as a snapshot has them; a note says how many more there are."""
    count = 0
    now = time.time()

    def counted() -> Iterable[Mapping[str, Any]]:
        nonlocal count
        for row in rows:
            count += 1
            yield row

    if form == "table":
        output.table(COLUMNS, (_cells(row, now) for row in counted()), right=("size", "age", "hits"))
    elif form == "json":
        text = "".join(output.json_text(facts(row)) + "\n" for row in counted())
        sys.stdout.write(text)
    else:
        import csv

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(FACTS)
        writer.writerows(facts(row).values() for row in counted())
    sys.stdout.flush()
    if total > count:
        output.note(f"{total - count} more; --limit {total} lists all")


def facts(row: Mapping[str, Any]) -> dict[str, Any]:
    """What programs are told of a file."""
    shown = {name: row.get(name) for name in FACTS}
    return shown | {"key": shown_key(row["key"]), "sha256": row["object"]}


def shown_key(key: str) -> str:
    """The key without the secrets of a URL."""
    if "?" not in key:  # those are in its query
        return key
    from stager.errors import InputError
    from stager.model.urls import parse_url

    try:
        return parse_url(key).redacted
    except InputError:
        return key


def note_age(walked_at: float, state: str) -> None:
    """Say that the catalogue is old, if it is, and no server keeps it up."""
    seconds = time.time() - walked_at
    if seconds <= OLD_SECONDS:
        return
    from pathlib import Path

    from stager.server.whereabouts import announced_url

    if announced_url(Path(state)) is None:
        output.note(
            f"as it was {span(seconds)} ago: no server keeps this list up; --walk reads the cache itself"
        )


def span(seconds: float) -> str:
    """A length of time for people, in one unit."""
    for length, unit in _AGES:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return "0 s"


def _cells(row: Mapping[str, Any], now: float) -> tuple[str, ...]:
    return (
        output.size(row["size"]),
        output.moment(row["last_access"]),
        span(now - row["stored_at"]),
        str(row["hits"]),
        row["owner"] or "-",
        row["host"] or "-",
        shown_key(row["key"]),
    )
