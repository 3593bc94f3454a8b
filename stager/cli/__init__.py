"""The command line: one file per command.

A command is a function with typer's annotations in the file of its name, listed in `stager.cli.app`.
It imports what it needs when it runs, so that starting costs little. It writes data to stdout with
`stager.cli.output`, returns an exit code (None: OK) and raises what goes wrong: `main` turns every
error into one line on stderr, ``stager: what: cause; remedy``, and into one of
`stager.cli.exit_codes`. A Ctrl-C or SIGTERM arrives as KeyboardInterrupt; a command that keeps
something raises it again with a sentence that says what.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

GC_THRESHOLD = 50_000
"""Allocations between two looks for reference cycles: a start makes many objects and next to no cycles."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: without the program's name; None: those of this process.
    """
    gc.set_threshold(GC_THRESHOLD)
    words = sys.argv[1:] if arguments is None else arguments
    if tuple(words[:2]) == ("cache", "ls"):
        from stager.cli.quick import quick_ls

        done = quick_ls(words[2:])
        if done is not None:
            return done
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")  # looking for them reads every package's metadata

    from stager.cli.app import run

    return int(run(arguments))
