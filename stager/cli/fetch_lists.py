"""What `stager fetch` is to bring: the URLs of the command line, then those of lists."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stager.cli import output
from stager.cli.login import login_name
from stager.errors import InputError
from stager.model.fetches import FetchRequest

if TYPE_CHECKING:
    from stager.model.list_form import ListFormat
    from stager.model.lists import ParsedList

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Asked:
    """A file as it was asked for.

    Attributes:
        urls: as they were given, the first to be tried first.
        request: the same, checked.
        name: that a list gives it; None: no list did.
    """

    urls: tuple[str, ...]
    request: FetchRequest
    name: str | None = None


def asked_by_urls(
    urls: Sequence[str],
    *,
    refresh: bool = False,
    sha256: str | None = None,
    digest: str | None = None,
    mirrors: Sequence[str] = (),
) -> list[Asked]:
    """The files of the command line.

    Raises:
        InputError: a bad URL or digest, or what belongs to one file for several.
    """
    me = login_name()
    requests = [
        FetchRequest(url, sha256=sha256, digest=digest, mirrors=tuple(mirrors), refresh=refresh, owner=me)
        for url in urls
    ]
    of_one = {"--sha256": sha256, "--digest": digest, "--mirror": mirrors}
    for option, value in of_one.items():
        if value and len(set(requests)) > 1:
            raise InputError(
                f"{option} was given with several URLs",
                cause="it belongs to one file",
                remedy="fetch them one by one, or list them with what belongs to each (--from)",
            )
    return [Asked((url, *mirrors), request) for url, request in zip(urls, requests, strict=True)]


def asked_by_lists(lists: Iterable[str], form: ListFormat | None, *, refresh: bool) -> list[Asked]:
    """The files of lists; what of them is left out is told on stderr.

    Raises:
        InputError: a list can't be read, or says what makes no sense; list and line are named.
    """
    me = login_name()
    found = []
    for name in lists:
        parsed = _parsed(name, form)
        for note in parsed.notes:
            output.note(note)
        if not parsed.files:
            output.note(f"{name} lists no file")
        for file in parsed.files:
            request = FetchRequest(
                file.urls[0],
                digest=file.digest,
                mirrors=file.urls[1:],
                size=file.size,
                refresh=refresh,
                owner=me,
            )
            found.append(Asked(file.urls, request, file.name))
    return found


def _parsed(name: str, form: ListFormat | None) -> ParsedList:
    from stager.model.lists import parse_list

    if name == STDIN:
        return parse_list(sys.stdin.buffer.read(), "stdin", form)
    path = Path(name)

    def beside(other: str) -> bytes | None:
        try:
            return (path.parent / other).read_bytes()
        except FileNotFoundError:
            return None

    try:
        return parse_list(path.read_bytes(), name, form, beside)
    except OSError as error:
        raise InputError(f"list {name} can't be read", cause=error.strerror or str(error)) from None
