"""Where a credential may go, and for whom."""

from __future__ import annotations

import re
from dataclasses import dataclass

from stager.errors import InputError
from stager.model.jobs import check_owner
from stager.model.urls import DEFAULT_PORTS, Url, parse_url

PLAIN_SCHEMES = frozenset({"http", "ftp"})
"""Whoever is on the way reads what goes over them."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a credential may go, and for whom.

    Attributes:
        host: ``data.example.org``, ``*.example.org`` (any host below it), or either with ``:port``; without one,
            the port that a scheme has by default.
        prefix: of the path, whole segments; ``/`` is all of it.
        owner: whose fetches use it; empty: everybody's.
        allow_http: it may also go where everybody on the way can read it.

    Raises:
        InputError: a pattern, path or name that can't be one.
    """

    host: str
    prefix: str = "/"
    owner: str = ""
    allow_http: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "host", check_host_pattern(self.host))
        object.__setattr__(self, "prefix", _check_prefix(self.prefix))
        check_owner(self.owner)

    def covers(self, url: Url, owner: str) -> bool:
        """Whether it is for this URL and owner; not whether it may go over its scheme (see `may_travel`)."""
        if self.owner not in {"", owner}:
            return False
        name, port = _split(self.host)
        if port != url.port and not (port is None and DEFAULT_PORTS.get(url.scheme, 0) == url.port):
            return False
        if name.startswith("*."):
            if not url.host.endswith(name[1:]):
                return False
        elif url.host != name:
            return False
        path = url.target.partition("?")[0]
        return self.prefix in {"/", path} or path.startswith(self.prefix + "/")

    def may_travel(self, url: Url) -> bool:
        """Whether it may go over the scheme of `url`."""
        return self.allow_http or url.scheme not in PLAIN_SCHEMES

    @property
    def rank(self) -> tuple[bool, bool, int, int]:
        """Grows as the scope narrows: a user's before the site's, a host before a pattern, then the longer ones."""
        return bool(self.owner), not self.host.startswith("*."), len(self.host), len(self.prefix)

    @property
    def same_place(self) -> tuple[str, str, str]:
        """Two credentials of one kind that agree in this replace each other."""
        return self.host, self.prefix, self.owner


def check_host_pattern(text: str) -> str:
    """The pattern in its one form: lower case, IDNA.

    Raises:
        InputError: it is none, or it covers more than the hosts below one name of two labels.
    """
    remedy = "write HOST, *.DOMAIN, or either with :PORT"
    if "/" in text or "@" in text or "?" in text:
        raise InputError(f"{_shown(text)} is no host", cause="it is a part of a URL", remedy=remedy)
    wild = text.startswith("*.")
    rest = text[2:] if wild else text
    if "*" in rest:
        cause = "only the first label may be *, for all hosts below the rest"
        raise InputError(f"{_shown(text)} is no pattern of hosts", cause=cause, remedy=remedy)
    try:
        url = parse_url(f"https://{rest}/")
    except InputError as error:
        raise InputError(f"{_shown(text)} is no host", cause=error.cause, remedy=remedy) from None
    if wild and (url.host.count(".") < 1 or url.host.replace(".", "").isdigit() or "[" in url.host):
        raise InputError(
            f"{_shown(text)} covers too much",
            cause="the part after *. needs two labels, and can't be an address",
            remedy=remedy,
        )
    name = f"*.{url.host}" if wild else url.host
    given = re.search(r":([0-9]+)$", rest)
    return f"{name}:{int(given[1])}" if given else name


def _check_prefix(text: str) -> str:
    if not text.startswith("/") or "?" in text or "#" in text:
        raise InputError(f"{text!r} is no prefix of a path", remedy="write one like /data")
    path = parse_url(f"https://host{text}").target
    return path.rstrip("/") or "/"


def _split(pattern: str) -> tuple[str, int | None]:
    name, colon, port = pattern.rpartition(":")
    return (name, int(port)) if colon and port.isdigit() and not pattern.endswith("]") else (pattern, None)


def _shown(text: str) -> str:
    return repr(text.rpartition("@")[2][:80])
