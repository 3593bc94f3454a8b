"""Where a secret comes from: asked for hidden, or read from stdin, a file or netrc; never from an argument."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stager.credentials.memory import keep_memory_private
from stager.errors import InputError
from stager.model.credentials import MAX_SECRET_BYTES, PARTS, SECRET_PARTS, Kind, check_parts

_KEYS = frozenset({Kind.CERTIFICATE, Kind.SSH})


@dataclass(frozen=True)
class Source:
    """Which of the ways was asked for; none: somebody is asked.

    Raises:
        InputError: several.
    """

    stdin: bool = False
    file: Path | None = None
    netrc: Path | None = None

    def __post_init__(self) -> None:
        if sum((self.stdin, self.file is not None, self.netrc is not None)) > 1:
            raise InputError(
                "the secret is to come from several places",
                remedy="give one of --stdin, --from-file, --netrc",
            )


def kind_of(word: str | None, user: str | None, source: Source) -> Kind:
    """The kind that was named, or the one that what was given suggests.

    Raises:
        InputError: no such kind.
    """
    if word is None:
        return Kind.BASIC if user is not None or source.netrc is not None else Kind.BEARER
    try:
        return Kind(word)
    except ValueError:
        raise InputError(f"no kind {word!r}", remedy=f"the kinds are {', '.join(Kind)}") from None


def gather(
    kind: Kind,
    host: str,
    source: Source,
    *,
    user: str | None = None,
    more: Sequence[str] = (),
    certificate: Path | None = None,
    known: str = "",
    allow_http: bool = False,
) -> dict[str, str]:
    """The parts of a credential, the secret ones among them.

    Raises:
        InputError: something can't be read, or a secret was given as an argument.
    """
    keep_memory_private()
    parts = _public(more)
    if user is not None:
        names = PARTS[kind].names
        parts[next((n for n in ("user", "client_id", "access_key") if n in names), "user")] = user
    if certificate is not None:
        parts["certificate"] = _text(certificate)
    secret = PARTS[kind].secret
    if source.netrc is not None:
        return parts | _of_netrc(source.netrc, host)
    if source.file is not None:
        return parts | {secret: _of_file(source.file, private=kind in _KEYS)}
    if source.stdin:
        return parts | _of_stdin(secret, keep_lines=kind in _KEYS)
    if "device_url" in parts:
        return parts | {secret: _granted(parts, allow_http=allow_http)}
    if kind in _KEYS:
        raise InputError(
            f"a credential of kind {kind} needs its key", remedy="give its file with --from-file"
        )
    name = parts.get("user") or parts.get("client_id") or parts.get("access_key") or known
    whose = f" of {name}" if name else ""
    return parts | {secret: _asked(f"{secret.replace('_', ' ')}{whose} for {host}: ")}


def _public(more: Sequence[str]) -> dict[str, str]:
    parts = {}
    for item in more:
        name, equals, value = item.partition("=")
        if not equals:
            raise InputError("--set was given without a value", remedy="write --set NAME=VALUE")
        if name in SECRET_PARTS:
            raise InputError(
                f"{name} was given as an argument",
                cause="everybody on this machine could read it",
                remedy="let it be asked for, or use --stdin or --from-file",
            )
        parts[name] = value
    return parts


def _granted(parts: dict[str, str], *, allow_http: bool) -> str:
    import time

    from stager.cli import output
    from stager.settings import load_settings
    from stager.wiring.credential_trial import granted

    for name in ("client_id", "token_url"):
        if name not in parts:
            raise InputError(
                f"a device grant needs {name}", remedy="give --user CLIENT_ID --set token_url=URL"
            )
    check_parts(Kind.OAUTH2_REFRESH, parts | {"refresh_token": "to come"}, allow_http=allow_http)
    return granted(
        load_settings(),
        parts,
        time.sleep,
        lambda found: output.note(f"open {found.address} and enter {found.code}; waiting"),
    )


def _asked(prompt: str) -> str:
    from getpass import getpass

    if not sys.stdin.isatty():
        raise InputError(
            "there is nobody to ask for the secret",
            cause="stdin is no terminal",
            remedy="use --stdin, --from-file or --netrc",
        )
    try:
        return getpass(prompt)
    except EOFError:
        raise InputError("no secret was given", remedy="type it, or use --stdin") from None


def _of_stdin(secret: str, *, keep_lines: bool) -> dict[str, str]:
    text = _decoded(sys.stdin.buffer.read(MAX_SECRET_BYTES + 1), "stdin")
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except ValueError:  # whose text would repeat it
            raise InputError("stdin is no JSON object", remedy="check what is written there") from None
        if not all(isinstance(value, str) for value in found.values()):
            raise InputError("a part on stdin is no text", remedy="write all values in quotes")
        return dict(found)
    return {secret: text if keep_lines else _one_line(text, "stdin")}


def _of_file(path: Path, *, private: bool) -> str:
    text = _text(path)
    if not private:
        return _one_line(text, str(path))
    mode = stat.S_IMODE(path.expanduser().stat().st_mode)
    if mode & 0o077:
        raise InputError(
            f"private key {path} is open to others",
            cause=f"its mode is {mode:o}",
            remedy=f"`chmod 600 {path}`; if others may have read it, use another key",
        )
    return text


def _of_netrc(path: Path, host: str) -> dict[str, str]:
    import netrc

    name = host.rpartition(":")[0] or host
    try:
        found = netrc.netrc(os.path.expanduser(path)).hosts.get(name)  # noqa: PTH111 - text is what it takes
    except OSError as error:
        raise InputError(f"{path} can't be read", cause=error.strerror or str(error)) from None
    except (netrc.NetrcParseError, UnicodeError):  # whose text may repeat a password
        raise InputError(f"{path} is no netrc file", remedy="check its lines") from None
    if found is None:
        raise InputError(f"{path} has no entry for {name}", remedy="name the host as it is written there")
    login, _, password = found
    return {"user": login, "password": password or ""}


def _text(path: Path) -> str:
    try:
        with path.expanduser().open("rb") as file:
            return _decoded(file.read(MAX_SECRET_BYTES + 1), str(path))
    except OSError as error:
        raise InputError(
            f"{path} can't be read",
            cause=error.strerror or str(error),
            remedy="check its name and permissions",
        ) from None


def _decoded(data: bytes, where: str) -> str:
    if len(data) > MAX_SECRET_BYTES:
        raise InputError(f"{where} is too long", cause=f"{MAX_SECRET_BYTES} bytes are allowed")
    try:
        return data.decode()
    except UnicodeError:
        raise InputError(f"{where} is not UTF-8", remedy="check what is in it") from None


def _one_line(text: str, where: str) -> str:
    lines = text.strip("\r\n").splitlines()
    if len(lines) != 1:
        raise InputError(
            f"{where} has {len(lines)} lines", cause="the secret is one", remedy="leave only the secret there"
        )
    return lines[0]
