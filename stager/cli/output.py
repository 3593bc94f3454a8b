"""How commands speak: data on stdout, everything else on stderr, an error in one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from stager.model.shown import size

__all__ = ["json_line", "json_text", "line", "moment", "note", "one_line", "size", "table"]


def line(text: str) -> None:
    """One line of data on stdout, now: whoever reads the pipe may wait for it."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def json_line(value: Any) -> None:
    """One JSON value on one line of stdout."""
    line(json_text(value))


def json_text(value: Any) -> str:
    """A JSON value in one line."""
    return json.dumps(value, separators=(",", ":"))


def note(text: str) -> None:
    """One line for people, on stderr."""
    sys.stderr.write(f"stager: {one_line(text)}\n")  # in one piece: other threads write log lines there
    sys.stderr.flush()


def one_line(text: str) -> str:
    """`text` without line breaks and control characters, so that foreign text can't draw on the terminal."""
    return "".join(c if c.isprintable() else " " for c in text).strip()


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """A table on stdout; the columns named in `right` are right-aligned.

    In a pipe it is plain text, tab-separated and without a header, for ``cut`` and ``awk``.
    """
    if not sys.stdout.isatty():
        for row in rows:
            line("\t".join(one_line(cell) for cell in row))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        shown.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(one_line(cell)) for cell in row))
    Console().print(shown)


def moment(seconds: float | None) -> str:
    """A time (seconds since 1970 UTC) for people, in their zone; ``-`` for None."""
    if seconds is None:
        return "-"
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
