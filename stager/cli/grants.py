"""Who has proved that he may read which restricted file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from stager.cli import output
from stager.cli.options import AsJson

if TYPE_CHECKING:
    from stager.model.grants import GrantView

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[GRANT|URL...]", help="Which; all of --user without.", show_default=False),
]
User = Annotated[
    str | None, typer.Option("--user", metavar="NAME", help="Only those of this user.", show_default=False)
]


def ls(user: User = None, as_json: AsJson = False) -> None:
    """List grants: who may read which file that came for a credential, and until when that is remembered."""
    from stager.cli.connect import connected

    with connected() as client:
        found = client.grants.list(user)
    _tell(found, as_json=as_json)
    if not found and not as_json:
        output.note("nobody has a grant")


def revoke(words: Words = None, user: User = None, as_json: AsJson = False) -> None:
    """End grants. Before the next job of that user starts, the origin is asked again."""
    from stager.cli.connect import connected

    with connected() as client:
        ended = client.grants.revoke(words or [], user=user)
    _tell(ended, as_json=as_json)
    if not ended and not as_json:
        output.note(f"{user} has no grant")


def _tell(found: Sequence[GrantView], *, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        for one in found:
            output.json_line(asdict(one))
        return
    output.table(
        ("grant", "user", "until", "sha256", "url"),
        ((one.id, one.user or "-", output.moment(one.expires_at), one.object[:12], one.key) for one in found),
    )


COMMANDS: tuple[Callable[..., int | None], ...] = (ls, revoke)
