"""What origins want to see before they give files: given once, kept sealed, never shown."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stager.cli import output
from stager.cli.exit_codes import Exit
from stager.cli.options import AsJson
from stager.errors import InputError

if TYPE_CHECKING:
    from stager.model.credentials import CredentialView

Host = Annotated[
    str, typer.Argument(metavar="HOST", help="Where it may go: HOST, *.DOMAIN, or either with :PORT.")
]
Word = Annotated[str, typer.Argument(metavar="ID|HOST", help="Which one; by its host if it is the only one.")]
Prefix = Annotated[str, typer.Option("--prefix", metavar="PATH", help="Only for this path and below.")]
User = Annotated[str | None, typer.Option("--user", metavar="U", help="Name at the origin.")]
KindOf = Annotated[
    str | None,
    typer.Option(
        "--kind",
        metavar="KIND",
        help="basic, bearer, header, form, oauth2-client, oauth2-refresh, certificate, s3, ssh;"
        " by default basic with --user or --netrc, else bearer.",
    ),
]
Owner = Annotated[
    str | None,
    typer.Option("--owner", metavar="NAME", help="Whose fetches use it; by default who runs the command."),
]
Site = Annotated[bool, typer.Option("--site", help="Everybody's fetches use it.")]
Expires = Annotated[
    str | None, typer.Option("--expires", metavar="TIME", help="It ends after so long, such as 90d.")
]
AllowHttp = Annotated[
    bool, typer.Option("--allow-http", help="It may go unencrypted; whoever is on the way can read it.")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="What else belongs to the kind and is no secret, such as token_url.",
    ),
]
Stdin = Annotated[
    bool, typer.Option("--stdin", help="Read the secret from stdin: as it is, or all parts as a JSON object.")
]
FromFile = Annotated[
    Path | None,
    typer.Option("--from-file", metavar="FILE", help="Read the secret from a file: a token, a key."),
]
Netrc = Annotated[
    Path | None,
    typer.Option("--netrc", metavar="FILE", help="Take user and password of HOST from a netrc file."),
]
Certificate = Annotated[
    Path | None,
    typer.Option("--certificate", metavar="FILE", help="Client certificate with its chain (PEM)."),
]
OnlyHost = Annotated[
    str, typer.Argument(metavar="[HOST]", help="Only of this host or pattern.", show_default=False)
]


def add(
    host: Host,
    *,
    prefix: Prefix = "/",
    user: User = None,
    kind: KindOf = None,
    owner: Owner = None,
    site: Site = False,
    expires: Expires = None,
    allow_http: AllowHttp = False,
    more: Set = None,
    stdin: Stdin = False,
    from_file: FromFile = None,
    netrc: Netrc = None,
    certificate: Certificate = None,
    as_json: AsJson = False,
) -> None:
    """Give a credential, once. The secret is asked for, or read; it is never an argument.

    One of the same host, path, owner and kind is replaced. Jobs that wait for it go on by themselves.
    """
    from stager.cli.credential_input import Source, gather, kind_of
    from stager.cli.credential_source import credential_source, my_name
    from stager.model.credential_scope import Scope
    from stager.model.credentials import NewCredential

    if site and owner:
        raise InputError(
            "--site and --owner were given", cause="it is one's or everybody's", remedy="give one"
        )
    scope = Scope(host, prefix, "" if site else owner or my_name(), allow_http)
    source = Source(stdin=stdin, file=from_file, netrc=netrc)
    chosen = kind_of(kind, user, source)
    parts = gather(
        chosen,
        scope.host,
        source,
        user=user,
        more=more or (),
        certificate=certificate,
        allow_http=allow_http,
    )
    new = NewCredential(scope, chosen, parts, _end(expires))
    with credential_source() as credentials:
        _tell(credentials.add(new), as_json=as_json)


def rotate(
    word: Word,
    *,
    user: User = None,
    expires: Expires = None,
    more: Set = None,
    stdin: Stdin = False,
    from_file: FromFile = None,
    netrc: Netrc = None,
    certificate: Certificate = None,
    as_json: AsJson = False,
) -> None:
    """Replace the secret of a credential; its scope and what is no secret stay."""
    from stager.cli.credential_input import Source, gather
    from stager.cli.credential_source import credential_source, named

    source = Source(stdin=stdin, file=from_file, netrc=netrc)
    with credential_source() as credentials:
        old = named(credentials.list(), word)
        parts = gather(
            old.kind, old.host, source, user=user, more=more or (), certificate=certificate, known=old.user
        )
        _tell(credentials.rotate(old.id, parts, _end(expires)), as_json=as_json)


def ls(host: OnlyHost = "", owner: Owner = None, as_json: AsJson = False) -> None:
    """List credentials: for what, whose, of which kind, when used, until when. Never a secret."""
    from stager.cli.credential_source import credential_source

    with credential_source() as credentials:
        found = credentials.list(host, owner)
    if as_json:
        for one in found:
            output.json_line(asdict(one))
        return
    output.table(
        ("id", "host", "path", "owner", "kind", "user", "state", "last used", "expires"),
        (
            (
                one.id, one.host, one.prefix, one.owner or "everybody", str(one.kind), one.user or "-",
                str(one.state), output.moment(one.used_at) if one.used_at else "never",
                output.moment(one.expires_at) if one.expires_at else "-",
            )
            for one in found
        ),
    )  # fmt: skip


def rm(word: Word, as_json: AsJson = False) -> None:
    """Remove a credential, and what was obtained with it."""
    from stager.cli.credential_source import credential_source

    with credential_source() as credentials:
        _tell(credentials.remove(word), as_json=as_json)


def test_(
    url: Annotated[str, typer.Argument(metavar="URL", help="A file that it is to open.")],
    owner: Owner = None,
    as_json: AsJson = False,
) -> Exit:
    """Ask for a file with the credential that is for it; nothing is kept. Run it where fetches run."""
    from stager.cli.login import login_name
    from stager.errors import CredentialError
    from stager.model.fetches import FetchRequest
    from stager.settings import load_settings
    from stager.wiring.credential_trial import try_url

    request = FetchRequest(url, owner=owner or login_name())
    try:
        shown = try_url(load_settings(), request)
    except CredentialError as error:
        if not as_json:
            raise
        output.json_line({"ok": False, "credential": None, "error": error.to_dict()})
        return Exit.CREDENTIAL
    if as_json:
        output.json_line({"ok": True, "credential": None if shown is None else shown.id, "error": None})
    elif shown is None:
        output.line("opens without a credential")
    else:
        output.line(f"opens with {shown.kind} {shown.id} for {shown.scope.host}")
    return Exit.OK


def rotate_keys(as_json: AsJson = False) -> Exit:
    """Seal all credentials for a new key and drop the old one, while fetches go on. Run it where the key is."""
    from stager.credentials.rotation import rotate_keys as rotated
    from stager.settings import load_settings
    from stager.wiring.credentials import build_store, key_files

    settings = load_settings()
    count, lost = rotated(build_store(settings), key_files(settings))
    if as_json:
        output.json_line({"sealed": count, "lost": lost})
    else:
        output.line(f"{count} credentials are sealed for a new key")
    for one in lost:
        output.note(f"credential {one} can't be opened: give it again with `stager credentials rotate {one}`")
    return Exit.FAILED if lost else Exit.OK


def _end(expires: str | None) -> float | None:
    from stager.model.durations import parse_duration

    return None if expires is None else time.time() + parse_duration(expires)


def _tell(one: CredentialView, *, as_json: bool) -> None:
    if as_json:
        output.json_line(asdict(one))
    else:
        output.line(one.id)


COMMANDS = (add, ls, rm, rotate, test_, rotate_keys)
