#!/usr/bin/env python3
"""Writes the pages of docs/reference that are read off the code (all, or those named).

With --check it writes nothing and says which are out of date.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from unittest.mock import patch

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"


def command_line() -> str:
    """All commands and options, and what their status means."""
    import typer
    from typer.cli import get_docs_for_click

    from stager.cli.app import build
    from stager.cli.exit_codes import Exit

    command = typer.main.get_command(build({}))
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="stager"), name="stager")
    text = text.replace("# `stager`", "# Command line", 1)
    codes = "\n".join(
        f"| {Exit[name].value} | {name.lower().replace('_', ' ')} | {meaning} |"
        for name, meaning in docs_of(Exit)
    )
    return f"{text.rstrip()}\n\n## Exit codes\n\n| status | name | meaning |\n|---|---|---|\n{codes}\n"


def docs_of(kind: type) -> list[tuple[str, str]]:
    """Names assigned in a class body with the strings that follow them in the source."""
    import ast
    import inspect

    body = ast.parse(inspect.getsource(kind)).body[0].body  # type: ignore[attr-defined]
    found = []
    for first, second in itertools.pairwise(body):
        if isinstance(second, ast.Expr) and isinstance(first, ast.Assign | ast.AnnAssign):
            target = first.target if isinstance(first, ast.AnnAssign) else first.targets[0]
            found.append((target.id, " ".join(second.value.value.split())))  # type: ignore[attr-defined]
    return found


def settings() -> str:
    """All settings."""
    from stager.settings import Settings
    from stager.settings.access import AccessSettings

    home = {"HOME": "/home/you", "XDG_CACHE_HOME": "", "XDG_STATE_HOME": ""}
    with patch.dict(os.environ, home, clear=True):
        defaults = Settings()
    rows, meanings = [], dict(docs_of(AccessSettings) + docs_of(Settings))
    for name in Settings.model_fields:
        value = getattr(defaults, name)
        shown = str(value).replace("/home/you", "~") if isinstance(value, Path) else str(value)
        rows.append(f"| `{name}` | {f'`{shown}`' if shown else ''} | {meanings[name]} |")
    return "\n".join(
        [
            "# Settings",
            "",
            "Each is taken from the first place that has it: the command line (where the command has such an",
            "option), the environment (`STAGER_` and the name in capitals), the settings file",
            "(`$STAGER_CONFIG`, else `$XDG_CONFIG_HOME/stager/config.toml`, else `~/.config/stager/config.toml`),",
            "the default. An unknown name is an error. Units are in the names; sizes are bytes.",
            "In the environment lists and tables are JSON, such as `STAGER_FILE_ROOTS='[\"/data\"]'`, but those whose",
            "meaning says how they are parted.",
            "",
            "| setting | default | meaning |",
            "|---|---|---|",
            *rows,
            "",
            "`STAGER_TOKEN` gives a client its token, `STAGER_CONFIG` names the settings file; neither is a setting.",
            "",
        ]
    )


def errors() -> str:
    """All errors by their code."""
    from stager import errors as module

    kinds = sorted(module._kinds().values(), key=lambda kind: kind.code)  # noqa: SLF001
    rows = [
        f"| `{kind.code}` | {'transient' if kind.transient else 'permanent'} | {' '.join((kind.__doc__ or '').split())} |"
        for kind in kinds
        if kind is not module.StagerError
    ]
    return "\n".join(
        [
            "# Errors",
            "",
            "The `code` of an error is the same everywhere: in `--json`, in the API (the last part of the problem's",
            "`type`), and in the attribute `code` of the Python exception. A *transient* one may pass if the same is",
            "tried again; fetches do that by themselves.",
            "",
            "| code | | meaning |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def metrics() -> str:
    """All figures that a server shows at /metrics."""
    from stager.metrics import METRICS

    rows = [
        f"| `{one.name}` | {one.kind} | {' '.join(f'`{label}`' for label in one.labels)} | {one.meaning} |"
        for one in METRICS
    ]
    return "\n".join(
        [
            "# Metrics",
            "",
            "What a server shows at `/metrics`, besides the figures of its process (`process_...`), which every",
            "Prometheus client has. Units are in the names. A label has few values; no URL, host, user or job is in one.",
            "The figures of a farm's workers are in it: every try ends in a word to the server.",
            "",
            "| metric | kind | labels | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def roles() -> str:
    """Who may make which call."""
    from stager.model.principals import Role
    from stager.model.roles import RULES, SCOPES

    rows = [
        f"| `{rule.action}` | {rule.area} | {rule.kind} | {' | '.join(str(rule.reach[role]) for role in Role)} |"
        for rule in RULES.values()
    ]
    return "\n".join(
        [
            "# Roles and scopes",
            "",
            "How far each role reaches: `any`: everybody's things; `own`: what is one's own, or is for everybody (any other",
            "is answered with 404); `-`: refused with 403. The server's own token is an administrator's.",
            "",
            "| call | area | kind | " + " | ".join(Role) + " |",
            "|---|---|---|" + "---|" * len(Role),
            *rows,
            "",
            f"Scopes of a token: {', '.join(f'`{scope}`' for scope in sorted(SCOPES))}. An area is for all of its calls,",
            "`AREA:read` for those of kind `read`, `bytes` and `content`, `read` for those of every area. A token without scopes is for",
            "all that its user may.",
            "",
        ]
    )


def events() -> str:
    """All kinds of events."""
    from stager.model.chronicle import KINDS

    rows = [f"| `{kind}` | {meaning} |" for kind, meaning in KINDS.items()]
    return "\n".join(
        [
            "# Events",
            "",
            "What `GET /v1/events` and `stager events` tell; [how to follow them](../how-to/follow-what-happens.md). Each",
            "is a JSON object with its number `id`, its `kind`, the time `at` when it was recorded (seconds since 1970",
            "UTC), and, if it is about one, `user`, `job`, `stage` and `fetch`; the rest is in `details`: `url`, `sha256`,",
            "`size` and `cached` of a file, `exit_code` of a job, the `name` of a precondition, an `error` as of a problem.",
            "",
            "| kind | meaning |",
            "|---|---|",
            *rows,
            "",
            "Two are no events of the server: `hello`, the first message, says from where on events are told; `reset` says",
            "that some were missed which are not kept any more.",
            "",
        ]
    )


PAGES = {
    "command-line.md": command_line,
    "settings.md": settings,
    "errors.md": errors,
    "metrics.md": metrics,
    "roles.md": roles,
    "events.md": events,
}


def main() -> int:
    """See the module."""
    stale = 0
    asked = [name for name in sys.argv[1:] if name in PAGES] or list(PAGES)
    for name in asked:
        make = PAGES[name]
        page, text = REFERENCE / name, make()
        if "--check" in sys.argv:
            if not page.exists() or page.read_text() != text:
                print(f"docs/reference/{name} is out of date: run `make reference`", file=sys.stderr)
                stale += 1
        else:
            page.write_text(text)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
