"""Tokens: what users show to the server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

import typer

from stager.cli import output
from stager.cli.options import AsJson

User = Annotated[
    str, typer.Option("--user", metavar="NAME", help="Whose; by default one's own.", show_default=False)
]
Scopes = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        metavar="SCOPE",
        help="What it is for, such as jobs, cache:read or read; again for more. By default all that its user may.",
        show_default=False,
    ),
]
Expires = Annotated[
    str | None,
    typer.Option("--expires", metavar="TIME", help="How long it counts: 12h, 90d.", show_default=False),
]


def create(
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What it is called.")] = "",
    user: User = "",
    scopes: Scopes = None,
    expires: Expires = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print its secret, this once: nobody can ask for it again."""
    from stager.cli.connect import connected
    from stager.model.durations import parse_duration

    seconds = None if expires is None else parse_duration(expires)
    with connected() as client:
        made = client.accounts.create_token(user, name, scopes=scopes, seconds=seconds)
    if as_json:
        output.json_line({**asdict(made.token), "secret": made.secret})
        return
    output.line(made.secret)
    output.note(f"token {made.token.id} of {made.token.user}: keep it in a file, and name that in token_file")


def ls(
    user: Annotated[
        str | None, typer.Option("--user", metavar="NAME", help="Only of this user.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List tokens: whose, what for, last used when, until when. Never a secret."""
    from stager.cli.connect import connected

    with connected() as client:
        found = client.accounts.tokens(user)
    if as_json:
        for one in found:
            output.json_line(asdict(one))
        return
    output.table(
        ("token", "user", "name", "scopes", "last used", "expires"),
        (
            (
                one.id, one.user, one.name or "-", "all" if one.scopes is None else " ".join(one.scopes),
                output.moment(one.last_used_at) if one.last_used_at else "never", output.moment(one.expires_at),
            )
            for one in found
        ),
    )  # fmt: skip


def revoke(
    word: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id or its name.")], as_json: AsJson = False
) -> None:
    """End a token, at once."""
    from stager.cli.connect import connected

    with connected() as client:
        ended = client.accounts.revoke_token(word)
    if as_json:
        output.json_line(asdict(ended))
    else:
        output.line(ended.id)


COMMANDS: tuple[Callable[..., int | None], ...] = (create, ls, revoke)
