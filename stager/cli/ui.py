"""``stager ui``: the way into the server's page."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Annotated

import typer

from stager.cli import output
from stager.cli.options import AsJson

if TYPE_CHECKING:
    from pathlib import Path

Open = Annotated[bool, typer.Option("--open", help="Open it in your browser.")]
FILE = "login.html"
"""In the state directory: leads the browser to the link, which would be seen by others as an argument."""


def ui(open_: Open = False, as_json: AsJson = False) -> None:
    """Print a link to the server's page that logs you in; it is good once, and for five minutes."""
    from stager.cli.connect import client_of, server_url
    from stager.settings import load_settings

    settings = load_settings()
    with client_of(settings) as client:
        link = server_url(settings) + client.site.login_link()
    if as_json:
        output.json_line({"url": link})
    elif open_ and _opened(link, settings.state_dir):
        output.note("the page is open in your browser")
    else:
        output.line(link)


def _opened(link: str, directory: Path) -> bool:
    import os
    import webbrowser

    path = directory / FILE
    path.unlink(missing_ok=True)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(
            f'<!doctype html><meta charset="utf-8"><title>Stager</title><meta http-equiv="refresh" content="0;url={escape(link)}">\n'
        )
    return webbrowser.open(path.as_uri())
