"""``stager fetch``: files by URL, with no server at all."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from stager.cli.exit_codes import Exit
from stager.cli.options import AsJson, CacheDir
from stager.errors import InputError

if TYPE_CHECKING:
    from stager.model.fetches import FetchRequest

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

    from stager.cli.answers import Answers
    from stager.cli.progress import display
    from stager.service.batch import Moved
    from stager.settings import load_settings
    from stager.wiring import build_cache, fetch_all

    settings = load_settings(cache_dir=cache_dir)
    cache = build_cache(settings)
    places: dict[FetchRequest, list[int]] = {}  # a URL may have been given twice
    for place, request in enumerate(requests):
        places.setdefault(request, []).append(place)
    distinct = list(places)
    with display(distinct) as shown:
        answers = Answers(urls, shown, as_json=as_json)
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


def _requests(urls: list[str], sha256: str | None, *, refresh: bool) -> list[FetchRequest]:
    from stager.model.fetches import FetchRequest

    requests = [FetchRequest(url, sha256=sha256, refresh=refresh) for url in urls]
    if sha256 is not None and len({request.url for request in requests}) > 1:
        raise InputError(
            "--sha256 was given with several URLs",
            cause="it is the digest of one file",
            remedy="fetch them one by one",
        )
    return requests
