"""Options that several commands have, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

CacheDir = Annotated[
    Path | None,
    typer.Option("--cache", metavar="DIR", help="Root of the file cache, instead of the configured one."),
]
AllowedNetworks = Annotated[
    str | None,
    typer.Option(
        "--allowed-networks",
        metavar="NETWORKS",
        help="Fetches may reach these although they are not public, such as 127.0.0.0/8; with commas.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line, for programs.")]
