"""Options that several commands have, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

CacheDir = Annotated[
    Path | None,
    typer.Option("--cache", metavar="DIR", help="Root of the file cache, instead of the configured one."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line, for programs.")]
