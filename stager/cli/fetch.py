"""``stager fetch``: files by URL, with no server at all."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stager.cli import output
from stager.cli.exit_codes import Exit
from stager.cli.options import AsJson, CacheDir
from stager.errors import InputError
from stager.farm.crew import Brought
from stager.model.fetches import FetchRequest
from stager.model.urls import parse_url
from stager.service.batch import Missed, Moved

if TYPE_CHECKING:
    from stager.cli.progress import Display

Urls = Annotated[list[str], typer.Argument(metavar="URL...", help="What to fetch (http, https).")]
Sha256 = Annotated[
    str | None, typer.Option("--sha256", metavar="HEX", help="Digest that the file must have (one URL only).")
]
Refresh = Annotated[bool, typer.Option("--refresh", help="Ask the origin even if the copy is still fresh.")]


def fetch(
    urls: Urls,
    sha256: Sha256 = None,
    as_json: AsJson = False,
    cache_dir: CacheDir = None,
    refresh: Refresh = False,
) -> Exit:
    """Fetch files into the cache and print their paths.

    A file that is there and fresh is not fetched again; a transfer that was interrupted goes on where
    it ended. Paths are printed in the order of the URLs, JSON lines as files are done.
    """
    requests = _requests(urls, sha256, refresh=refresh)

    from stager.cli.progress import display
    from stager.settings import load_settings
    from stager.wiring import build_cache, fetch_all

    settings = load_settings(cache_dir=cache_dir)
    cache = build_cache(settings)
    places: dict[FetchRequest, list[int]] = {}  # a URL may have been given twice
    for place, request in enumerate(requests):
        places.setdefault(request, []).append(place)
    distinct = list(places)
    with display(distinct) as shown:
        answers = _Answers(urls, shown, as_json=as_json)
        try:
            with closing(
                fetch_all(settings, cache, distinct, progress=shown.moves, tick=shown.tick)
            ) as reports:
                for report in reports:
                    shown.hear(report)
                    if not isinstance(report, Moved):
                        answers.hear(report, places[distinct[report.number]])
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_KEPT) from None
    return Exit.FAILED if answers.failed else Exit.OK


_KEPT = "what was transferred is kept, and the same command goes on from there"


class _Answers:
    """Says what came of each URL: paths in the order given, JSON lines as they come."""

    def __init__(self, urls: list[str], shown: Display, *, as_json: bool) -> None:
        self._urls = urls
        self._shown = shown
        self._as_json = as_json
        self._early: dict[int, str] = {}
        self._next = 0
        self.failed = False

    def hear(self, report: Brought | Missed, places: list[int]) -> None:
        if isinstance(report, Missed):
            self.failed = True
            self._shown.note(str(report.error))
        for place in places:
            if self._as_json:
                self._shown.line(output.json_text(_facts(self._urls[place], report)))
            else:
                self._early[place] = "" if isinstance(report, Missed) else report.path
        while self._next in self._early:
            path = self._early.pop(self._next)
            self._next += 1
            if path:
                self._shown.line(path)


def _facts(url: str, report: Brought | Missed) -> dict[str, Any]:
    if isinstance(report, Missed):
        return {"url": _shown(url), "error": report.error.to_dict()}
    return {
        "url": _shown(url),
        "path": report.path,
        "sha256": report.sha256,
        "size": report.size,
        "cached": report.cached,
        "seconds": round(report.seconds, 6),
    }


def _shown(url: str) -> str:
    """The URL as it was given, unless it holds what looks like a secret."""
    checked = parse_url(url)
    return url if checked.redacted == checked.text else checked.redacted


def _requests(urls: list[str], sha256: str | None, *, refresh: bool) -> list[FetchRequest]:
    requests = [FetchRequest(url, sha256=sha256, refresh=refresh) for url in urls]
    if sha256 is not None and len({request.url for request in requests}) > 1:
        raise InputError(
            "--sha256 was given with several URLs",
            cause="it is the digest of one file",
            remedy="fetch them one by one",
        )
    return requests
