"""``stager fetch``: files by URL, with no server at all."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from stager.cli.exit_codes import Exit
from stager.cli.options import AllowedNetworks, AsJson, CacheDir
from stager.errors import InputError
from stager.model.list_form import ListFormat

if TYPE_CHECKING:
    from stager.model.fetches import FetchRequest

Urls = Annotated[list[str] | None, typer.Argument(metavar="[URL...]", help="What to fetch (http, https).")]
Sha256 = Annotated[
    str | None, typer.Option("--sha256", metavar="HEX", help="Digest that the file must have (one URL only).")
]
Digest = Annotated[
    str | None,
    typer.Option(
        "--digest", metavar="DIGEST", help="The same in any form: sha512:HEX, sha256-BASE64, md5:HEX."
    ),
]
Mirror = Annotated[
    list[str] | None,
    typer.Option("--mirror", metavar="URL", help="Another URL of the file (one only). May be repeated."),
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
    digest: Digest = None,
    mirror: Mirror = None,
    as_json: AsJson = False,
    cache_dir: CacheDir = None,
    refresh: Refresh = False,
    allowed_networks: AllowedNetworks = None,
) -> Exit:
    """Fetch files into the cache and print their paths.

    A file that is there and fresh is not fetched again; a transfer that was interrupted goes on where
    it ended. Paths are printed in the order of the URLs, JSON lines as files are done. A file may have
    several URLs: the next is tried when one fails, or is slow.
    """
    from stager.cli.fetch_lists import asked_by_lists, asked_by_urls

    if not urls and not lists:
        raise InputError("nothing to fetch", remedy="give a URL, or a list with --from")
    for option, value in {"--sha256": sha256, "--digest": digest, "--mirror": mirror}.items():
        if value and lists:
            raise InputError(f"{option} was given with a list", remedy="write it into the list")
    asked = asked_by_urls(urls or (), refresh=refresh, sha256=sha256, digest=digest, mirrors=mirror or ())
    asked += asked_by_lists(lists or (), form, refresh=refresh)

    from stager.cli.answers import Answers
    from stager.cli.progress import display
    from stager.service.batch import Moved
    from stager.settings import load_settings
    from stager.wiring import build_cache, fetch_all

    settings = load_settings(cache_dir=cache_dir, allowed_networks=allowed_networks)
    cache = build_cache(settings)
    places: dict[FetchRequest, list[int]] = {}  # a file may have been asked for twice
    for place, one in enumerate(asked):
        places.setdefault(one.request, []).append(place)
    distinct = list(places)
    with display(distinct) as shown:
        answers = Answers(asked, shown, as_json=as_json)
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
    if answers.wants_credential:
        return Exit.CREDENTIAL
    return Exit.FAILED if answers.failed else Exit.OK


_KEPT = "what was transferred is kept, and the same command goes on from there"
