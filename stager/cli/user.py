"""Users of the server: who may do what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from stager.cli import output
from stager.cli.options import AsJson
from stager.model.principals import Role

if TYPE_CHECKING:
    from stager.model.accounts import User

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the user.")]
RoleOf = Annotated[
    Role,
    typer.Option("--role", help="reader looks; user has jobs of his own; operator runs the site; admin all."),
]


def add(name: Name, role: RoleOf = Role.USER, as_json: AsJson = False) -> None:
    """Add a user. `stager token create --user NAME` gives him what he shows."""
    from stager.cli.connect import connected

    with connected() as client:
        _tell(client.accounts.add_user(name, role), as_json=as_json)


def ls(as_json: AsJson = False) -> None:
    """List users; who is no administrator sees himself."""
    from stager.cli.connect import connected

    with connected() as client:
        found = client.accounts.users()
    if as_json:
        for one in found:
            output.json_line(asdict(one))
        return
    output.table(
        ("user", "role", "state", "since"),
        (
            (
                one.name,
                str(one.role),
                "disabled" if one.disabled else "enabled",
                output.moment(one.created_at),
            )
            for one in found
        ),
    )


def role(
    name: Name,
    role: Annotated[Role, typer.Argument(metavar="ROLE", help="reader, user, operator or admin.")],
    as_json: AsJson = False,
) -> None:
    """Give a user another role, at once."""
    from stager.cli.connect import connected

    with connected() as client:
        _tell(client.accounts.change_user(name, role=role), as_json=as_json)


def disable(name: Name, as_json: AsJson = False) -> None:
    """Stop a user: none of his tokens counts, at once, until he is enabled again."""
    from stager.cli.connect import connected

    with connected() as client:
        _tell(client.accounts.change_user(name, disabled=True), as_json=as_json)


def enable(name: Name, as_json: AsJson = False) -> None:
    """Let a user in again who was disabled."""
    from stager.cli.connect import connected

    with connected() as client:
        _tell(client.accounts.change_user(name, disabled=False), as_json=as_json)


def rm(name: Name, as_json: AsJson = False) -> None:
    """Remove a user and his tokens, at once. His jobs and files stay."""
    from stager.cli.connect import connected

    with connected() as client:
        _tell(client.accounts.remove_user(name), as_json=as_json)


def _tell(user: User, *, as_json: bool) -> None:
    if as_json:
        output.json_line(asdict(user))
    else:
        output.line(user.name)


COMMANDS: tuple[Callable[..., int | None], ...] = (add, ls, role, disable, enable, rm)
