"""A node's own cache, filled from the share or the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from stager.cli import output
from stager.cli.options import AsJson
from stager.errors import InputError, SettingsError

Words = Annotated[
    list[str],
    typer.Argument(metavar="URL|KEY|SHA256...", help="What the server has: by URL, by key, or by SHA-256."),
]


def get(words: Words, as_json: AsJson = False) -> None:
    """Have files in this node's own cache, and print their paths.

    What is there is not brought again; several processes of a node that ask for one file wait for one transfer, and
    one that was interrupted is gone on with. Settings: node_cache_dir, node_sources, server.
    """
    from contextlib import ExitStack

    from stager.cli.connect import client_of
    from stager.settings import load_settings
    from stager.wiring.near import build_near

    settings = load_settings()
    if not settings.node_cache_dir or not settings.node_sources:
        raise SettingsError(
            "this node has no cache of its own that could be filled",
            cause="node_cache_dir or node_sources is not set",
            remedy="set both, such as node_cache_dir = /scratch/stager and node_sources = server",
        )
    with ExitStack() as made, client_of(settings) as client:
        near = build_near(settings, made)
        for word in words:
            file = client.cache.show(word).file
            if file.restricted:
                raise InputError(
                    f"{file.shown} is not brought to this node",
                    cause="it is restricted",
                    remedy="let a job name it as an input",
                )
            path = near.bring(file.object, file.size, lambda: False)
            if as_json:
                output.json_line({"path": str(path), "sha256": file.object, "size": file.size})
            else:
                output.line(str(path))
        near.tidy()


COMMANDS: tuple[Callable[..., int | None], ...] = (get,)
