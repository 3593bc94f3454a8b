"""``stager fetch``: files by URL, with no server at all."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from stager.cli.exit_codes import Exit
from stager.cli.options import AllowedNetworks, AsJson, CacheDir
from stager.errors import InputError
from stager.model.list_form import ListFormat

Urls = Annotated[list[str] | None, typer.Argument(metavar="[URL...]", help="What to fetch (http, https).")]
Sha256 = Annotated[
    str | None, typer.Option("--sha256", metavar="HEX", help="Digest that the file must have (one URL only).")
]
Refresh = Annotated[bool, typer.Option("--refresh", help="Ask the origin even if the copy is still fresh.")]
From = Annotated[
    list[str] | None,
    typer.Option("--from", metavar="FILE", help="Fetch what a list names too; - is stdin. May be repeated."),
]
Form = Annotated[
    ListFormat | None,
    typer.Option("--list-format", help="Of the lists; by default as name and content show."),
]


def fetch(
    urls: Urls = None,
    *,
    lists: From = None,
    form: Form = None,
    sha256: Sha256 = None,
    as_json: AsJson = False,
    cache_dir: CacheDir = None,
    refresh: Refresh = False,
    allowed_networks: AllowedNetworks = None,
) -> Exit:
    """Fetch files into the cache and print their paths.

    A file that is there and fresh is not fetched again; a transfer that was interrupted goes on where
    it ended. Paths are printed in the order of the URLs, JSON lines as files are done. A list may name
    several URLs of one file: the next is tried when one fails for good.
    """
    from stager.cli.fetch_lists import asked_by_lists, asked_by_urls

    if not urls and not lists:
        raise InputError("nothing to fetch", remedy="give a URL, or a list with --from")
    if sha256 is not None and lists:
        raise InputError("--sha256 was given with a list", remedy="write digests into the list")
    asked = asked_by_urls(urls or (), sha256, refresh=refresh)
    asked += asked_by_lists(lists or (), form, refresh=refresh)

    from stager.cli.answers import Answers
    from stager.cli.progress import display
    from stager.service.batch import Moved
    from stager.service.mirrors import Mirrors, Wanted
    from stager.settings import load_settings
    from stager.wiring import build_cache, fetch_all

    settings = load_settings(cache_dir=cache_dir, allowed_networks=allowed_networks)
    cache = build_cache(settings)
    places: dict[Wanted, list[int]] = {}  # a file may have been asked for twice
    for place, one in enumerate(asked):
        places.setdefault(one.wanted, []).append(place)
    distinct = list(places)
    with display([wanted.requests[0] for wanted in distinct]) as shown:
        mirrors = Mirrors(
            distinct,
            lambda requests: fetch_all(settings, cache, requests, progress=shown.moves, tick=shown.tick),
        )
        answers = Answers(asked, shown, as_json=as_json)
        try:
            with closing(mirrors.reports()) as reports:
                for report in reports:
                    shown.hear(report)
                    if not isinstance(report, Moved):
                        failures = mirrors.failures(report.number)
                        answers.hear(report, places[distinct[report.number]], failures)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_KEPT) from None
    if answers.wants_credential:
        return Exit.CREDENTIAL
    return Exit.FAILED if answers.failed else Exit.OK


_KEPT = "what was transferred is kept, and the same command goes on from there"
