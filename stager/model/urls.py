"""URLs: what is accepted, the canonical text that keys are made of, and a form that is safe to show."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

from stager.errors import InputError

SCHEMES = ("http", "https")
"""Schemes that a fetch can read."""
DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_LENGTH = 8192
"""Characters; longer ones are refused by most origins anyway."""

_HOST = re.compile(r"^(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?|\[[0-9A-Fa-f:.]+\])$")
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
_PERCENT = re.compile(r"%([0-9A-Fa-f]{2})")
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_SECRET_PARAMETER = re.compile(
    r"(?i)^(?:x-amz-.*|x-goog-.*|signature|expires|sig|token|access_token|key|api_?key|password|awsaccesskeyid|policy|key-pair-id)$"
)


@dataclass(frozen=True, slots=True)
class Url:
    """A checked URL.

    `text` is canonical: lower-case scheme and host, no default port, no fragment, dot segments
    resolved, percent-escapes in upper case and only where needed. Two texts that differ only in
    these are one URL and share one cache entry.
    """

    text: str
    scheme: str
    host: str
    port: int
    target: str
    """Path and query, as sent on the request line."""

    @property
    def origin(self) -> str:
        """Scheme, host and port: what limits and credentials are bound to."""
        default = DEFAULT_PORTS.get(self.scheme)
        return f"{self.scheme}://{self.host}" + ("" if self.port == default else f":{self.port}")

    @property
    def name(self) -> str:
        """Last segment of the path, decoded; empty when the path ends in a slash."""
        from urllib.parse import unquote

        return unquote(self.target.partition("?")[0].rpartition("/")[2])

    @property
    def redacted(self) -> str:
        """The URL with the values of parameters that look like secrets replaced by ``***``."""
        path, mark, query = self.target.partition("?")
        if not mark:
            return self.text
        shown = []
        for pair in query.split("&"):
            name, equals, _ = pair.partition("=")
            shown.append(f"{name}=***" if equals and _SECRET_PARAMETER.match(name) else pair)
        return f"{self.origin}{path}?{'&'.join(shown)}"


@lru_cache(maxsize=65_536)  # many jobs name the same few URLs; parsing costs ten times a look-up
def parse_url(text: str) -> Url:
    """Check `text` and bring it into canonical form.

    Raises:
        InputError: not a URL, a scheme that no driver reads, or a user name or password in it.
    """
    if len(text) > MAX_LENGTH:
        raise InputError(
            f"URL of {len(text)} characters", cause=f"longer than {MAX_LENGTH}", remedy="shorten it"
        )
    if _UNSAFE.search(text):
        raise InputError(
            f"malformed URL {text!r}",
            cause="it contains a space, a control character or a backslash",
            remedy="escape it (%20 for a space)",
        )
    parts, port = _split(text)
    scheme = parts.scheme.lower()
    if scheme not in SCHEMES:
        raise InputError(
            f"unknown scheme in URL {text!r}" if scheme else f"malformed URL {text!r}",
            cause=f"{scheme!r} is not one of {', '.join(SCHEMES)}" if scheme else "it has no scheme",
            remedy="give a URL like https://host/path",
        )
    if "@" in parts.netloc:
        shown = f"{scheme}://***@{parts.netloc.rpartition('@')[2]}{parts.path}"
        raise InputError(
            f"URL {shown!r} contains a user name or password",
            cause="it would end up in logs and job files",
            remedy="remove it from the URL",
        )
    host = (parts.hostname or "").lower()
    bare = f"[{host}]" if ":" in host else host
    if not bare:
        raise InputError(
            f"malformed URL {text!r}", cause="it has no host", remedy="give a URL like https://host/path"
        )
    bare = _ascii_host(bare, text)
    if not _HOST.match(bare):
        raise InputError(
            f"malformed URL {text!r}", cause=f"{bare!r} is not a host name", remedy="check the host"
        )
    if bare[0] != "[":
        bare = bare.rstrip(".")
    path = _without_dots(_escaped(parts.path, "/:@!$&'()*+,;=") or "/")
    query = _escaped(parts.query, "/?:@!$&'()*+,;=[]|^`{}\"<>")
    target = f"{path}?{query}" if query else path
    number = port or DEFAULT_PORTS[scheme]
    netloc = bare if number == DEFAULT_PORTS[scheme] else f"{bare}:{number}"
    return Url(
        text=urlunsplit((scheme, netloc, path, query, "")),
        scheme=scheme,
        host=bare,
        port=number,
        target=target,
    )


def _split(text: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InputError(
            f"malformed URL {text!r}", cause=str(error), remedy="give a URL like https://host/path"
        ) from None
    if port == 0:
        raise InputError(
            f"malformed URL {text!r}",
            cause="port 0 can't be connected to",
            remedy="give a port from 1 to 65535",
        )
    return parts, port


def _ascii_host(host: str, text: str) -> str:
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise InputError(
            f"malformed URL {text!r}", cause=f"host {host!r}: {error}", remedy="check the host"
        ) from None


def _escaped(text: str, keep: str) -> str:
    if text.isascii() and "%" not in text and not any(c in text for c in '"<>^`{|}'):
        return text
    text = _BARE_PERCENT.sub("%25", text)

    def canonical(match: re.Match[str]) -> str:
        char = chr(int(match.group(1), 16))
        return char if char in _UNRESERVED else match.group(0).upper()

    return _PERCENT.sub(canonical, quote(text, safe=keep + "%"))


def _without_dots(path: str) -> str:
    """RFC 3986, 5.2.4."""
    if "/." not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")
    for index, segment in enumerate(segments):
        last = index == len(segments) - 1
        if segment == ".":
            if last:
                kept.append("")
        elif segment == "..":
            if len(kept) > 1:
                kept.pop()
            if last:
                kept.append("")
        else:
            kept.append(segment)
    return "/".join(kept) or "/"
