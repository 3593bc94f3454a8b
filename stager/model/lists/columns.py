"""CSV with a header: columns url, sha256, size, name, in any order; parted by comma, semicolon or tab."""

from __future__ import annotations

import csv

from stager.model.lists.listed import ParsedList, refused

_COLUMNS = {"url": "url", "urls": "url", "uri": "url", "sha256": "sha256", "sha-256": "sha256", "digest": "digest", "size": "size"} | {
    "bytes": "size", "length": "size", "name": "name", "filename": "name", "file": "name",
}  # fmt: skip
"""What a header may say, in lower case → what it means."""


def delimiter_of(header: str) -> str:
    """What parts the columns of a list with that header; empty: it is none of a CSV."""
    for mark in "\t;,":
        if "url" in (_COLUMNS.get(name) for name in _names(header.split(mark))):
            return mark
    return ""


def parse_columns(text: str, name: str) -> ParsedList:
    """The files of the list; several URLs in one cell, parted by blanks, are mirrors.

    Raises:
        InputError: no column of URLs, a row of another length, quotes that don't end, or a bad value.
    """
    found = ParsedList()
    rows = csv.reader(text.split("\n"), delimiter=delimiter_of(text.partition("\n")[0]) or ",", strict=True)
    header: list[str | None] | None = None
    try:
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            place = f"{name}:{rows.line_num}"
            if header is None:
                header = _header(found, place, row)
            elif len(row) != len(header):
                raise refused(place, f"it has {len(row)} columns and the header {len(header)}")
            else:
                _add(
                    found, place, {what: cell.strip() for what, cell in zip(header, row, strict=True) if what}
                )
    except csv.Error as error:
        raise refused(f"{name}:{rows.line_num}", str(error)) from None
    return found


def _header(found: ParsedList, place: str, row: list[str]) -> list[str | None]:
    header = [_COLUMNS.get(name) for name in _names(row)]
    if "url" not in header:
        raise refused(
            place, "no column is named url", "the first line names the columns: url,sha256,size,name"
        )
    for cell, what in zip(row, header, strict=True):
        if what is None:
            found.note(f"column {cell.strip()[:40]!r} is left out")
    return header


def _add(found: ParsedList, place: str, cells: dict[str, str]) -> None:
    found.add(
        place,
        cells["url"].split(),
        digest=cells.get("sha256") or cells.get("digest") or None,
        size=cells.get("size"),
        name=cells.get("name") or None,
    )


def _names(cells: list[str]) -> list[str]:
    return [cell.strip().strip('"').strip().lower() for cell in cells]
