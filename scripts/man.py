#!/usr/bin/env python3
"""Writes manual pages, one for each command, into a directory (default: build/man).

make man && install -m 0644 build/man/*.1 /usr/local/share/man/man1/
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from stager import __version__
from stager.cli.app import build
from stager.cli.exit_codes import Exit


def text(words: str) -> str:
    """In roff: nothing of it is taken for a request or an escape."""
    lines = words.replace("\\", "\\e").replace("-", "\\-").splitlines()
    return "\n".join("\\&" + line if line[:1] in {".", "'"} else line for line in lines)


def page(name: str, command: Any, context: Any) -> str:
    """The page of one command."""
    about = (command.help or "").strip()
    first, _, rest = about.partition("\n")
    title = name.replace(" ", "-")
    parts = [
        f'.TH "{title.upper()}" 1 "" "stager {__version__}" "Stager"',
        ".SH NAME",
        f"{text(title)} \\- {text(first.rstrip('.') or 'stager')}",
        ".SH SYNOPSIS",
        f".B {text(name)}",
        text(" ".join(command.collect_usage_pieces(context))),
    ]
    if rest.strip():
        parts += [".SH DESCRIPTION", *(text(part) + "\n.PP" for part in rest.strip().split("\n\n"))]
    options = [found for one in command.get_params(context) if (found := one.get_help_record(context))]
    if options:
        parts.append(".SH OPTIONS")
        parts += [f".TP\n.B {text(words)}\n{text(meaning)}" for words, meaning in options]
    below = sorted(getattr(command, "commands", {}).items())
    if below:
        parts.append(".SH COMMANDS")
        shown = [(word, one) for word, one in below if not one.hidden]
        parts += [
            f".TP\n.BR {text(title)}\\-{text(word)} (1)\n{text(one.get_short_help_str(100))}"
            for word, one in shown
        ]
    parts.append(".SH EXIT STATUS")
    parts += [f".TP\n.B {code.value}\n{text(code.name.lower().replace('_', ' '))}" for code in Exit]
    return "\n".join(parts) + "\n"


def pages(name: str, command: Any, parent: Any = None) -> Iterator[tuple[str, str]]:
    """File name and content, of a command and all below it."""
    context = typer.Context(command, info_name=name.rpartition(" ")[2], parent=parent)
    yield f"{name.replace(' ', '-')}.1", page(name, command, context)
    for word, one in getattr(command, "commands", {}).items():
        if not one.hidden:
            yield from pages(f"{name} {word}", one, context)


def main() -> int:
    """See the module."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "build/man")
    target.mkdir(parents=True, exist_ok=True)
    for name, content in pages("stager", typer.main.get_command(build({}))):
        (target / name).write_text(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
