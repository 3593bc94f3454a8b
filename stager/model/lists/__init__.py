"""Lists of files to fetch, in the forms that other programs write; text in, files out, no I/O."""

from __future__ import annotations

from collections.abc import Callable

from stager.model.list_form import ListFormat
from stager.model.lists.aria2 import parse_aria2
from stager.model.lists.bagit import looks_like_bagit, parse_bagit
from stager.model.lists.columns import delimiter_of, parse_columns
from stager.model.lists.listed import ListedFile, ParsedList, refused
from stager.model.lists.metalink import parse_metalink
from stager.model.lists.objects import parse_objects
from stager.model.lists.plain import parse_plain

__all__ = ["ListFormat", "ListedFile", "ParsedList", "parse_list"]


_ENDINGS = {
    ".meta4": ListFormat.METALINK,
    ".metalink": ListFormat.METALINK,
    ".csv": ListFormat.CSV,
    ".tsv": ListFormat.CSV,
    ".json": ListFormat.JSON,
    ".jsonl": ListFormat.JSON,
    ".ndjson": ListFormat.JSON,
    ".aria2": ListFormat.ARIA2,
}
_BAGIT_NAME = "fetch.txt"


def _nothing(_name: str) -> bytes | None:
    return None


def parse_list(
    data: bytes,
    name: str,
    form: ListFormat | None = None,
    beside: Callable[[str], bytes | None] = _nothing,
) -> ParsedList:
    """The files of a list.

    Args:
        data: the list.
        name: its file name; errors name it, and it tells the form if `form` does not.
        form: its form; None: as name and content show.
        beside: what is in the file of that name in the same directory; None: there is none.

    Raises:
        InputError: it can't be read; the error names list and line.
    """
    form = form or detect(data, name)
    if form is ListFormat.METALINK:
        return parse_metalink(data, name)
    text = _text(data, name)
    match form:
        case ListFormat.ARIA2:
            return parse_aria2(text, name)
        case ListFormat.BAGIT:
            return parse_bagit(text, name, lambda other: _text_or_none(beside(other), other))
        case ListFormat.CSV:
            return parse_columns(text, name)
        case ListFormat.JSON:
            return parse_objects(text, name)
        case _:
            return parse_plain(text, name)


def detect(data: bytes, name: str) -> ListFormat:
    """The form of a list, by its name if that says it, else by its content."""
    base = name.rpartition("/")[2].lower()
    ending = next((form for ending, form in _ENDINGS.items() if base.endswith(ending)), None)
    if ending is not None or base == _BAGIT_NAME:
        return ending or ListFormat.BAGIT
    text = data.decode("utf-8", "replace").removeprefix("\ufeff")
    if text.lstrip()[:1] in {"<", "{", "["}:
        return ListFormat.METALINK if text.lstrip()[0] == "<" else ListFormat.JSON
    lines = [line.rstrip("\r") for line in text.split("\n") if line.strip() and not line.startswith("#")]
    if lines and delimiter_of(lines[0]):
        return ListFormat.CSV
    if looks_like_bagit(lines):
        return ListFormat.BAGIT
    if any(line[0] in " \t" and "=" in line and "://" not in line.partition("=")[0] for line in lines) or any(
        "\t" in line.strip() for line in lines
    ):
        return ListFormat.ARIA2
    return ListFormat.PLAIN


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise refused(f"{name}:{line}", "it is not UTF-8 text") from None


def _text_or_none(data: bytes | None, name: str) -> str | None:
    return None if data is None else _text(data, name)
