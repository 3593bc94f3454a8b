"""URLs: what is accepted, the canonical text that keys are made of, and a form that is safe to show."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import SplitResult, quote, unquote, urlsplit

from stager.errors import InputError

WEB = ("http", "https")
ON_DEMAND = ("gs", "smb", "webdav")
"""Schemes that a site reads only if it says so."""
GENERIC = (
    "abfs", "adl", "az", "box", "dbfs", "dropbox", "gdrive", "github", "hdfs", "hf", "lakefs", "oci", "oss", "root", "ssh",
    "tos", "wandb", "webhdfs",
)  # fmt: skip
"""Those that fsspec knows besides, read only if the site says so, and as the site itself. None of them reads this host."""
SCHEMES = (*WEB, "file", "ftp", "sftp", "s3", *ON_DEMAND)
"""Schemes that a fetch can read without more."""
DEFAULT_PORTS = {
    "http": 80, "https": 443, "ftp": 21, "sftp": 22, "smb": 445, "webdav": 443, "hdfs": 8020, "root": 1094, "ssh": 22,
    "webhdfs": 9870,
}  # fmt: skip
"""Of the schemes whose host has ports; in the others it is a bucket, or none."""
MAX_LENGTH = 8192
"""Characters; longer ones are refused by most origins anyway."""

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_NUMBERS = re.compile(r"(?:(?:0x[0-9a-f]*|0[0-7]*|[1-9][0-9]*)(?:\.(?!$)|$)){1,4}")
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\\ud800-\udfff]")
_PERCENT = re.compile(r"%([0-9A-Fa-f]{2})")
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PLAIN = re.compile(r"(https?://[^/?#\\]+)(/[A-Za-z0-9_~!$&'()*+,;=:@/.-]+)")
"""A URL whose path is canonical as it is, as long as no segment starts with a dot."""
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_SECRET_PARAMETER = re.compile(
    r"(?i)x-(?:amz|goog)-.*|expires|policy|key-pair-id|awsaccesskeyid|sig|key|auth|authorization|sid|pwd|pass"
    r"|.*(?:token|secret|signature|passw|passphrase|credential|api[-_]?key|session[-_]?id|jwt).*"
)
_PAIRS = re.compile(r"([^&;=]*)=([^&;]*)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_VERSIONS = {"s3": re.compile(r"versionId=[^&=]+")}
"""The one query that a scheme beside http has a meaning for."""
_BEFORE_HOST = re.compile(r"//.*@", re.DOTALL)
_SHOWN_LENGTH = 200


def looks_secret(name: str) -> bool:
    """Whether a parameter of that name is likely to hold a secret."""
    return _SECRET_PARAMETER.fullmatch(name.strip()) is not None


def _redacted_query(query: str) -> str:
    def shown(pair: re.Match[str]) -> str:
        return f"{pair.group(1)}=***" if looks_secret(unquote(pair.group(1))) else pair.group(0)

    return _PAIRS.sub(shown, query)


def refused_url(text: str) -> str:
    """A refused text, quoted for a message; rather too little of it than a secret."""
    text = _BEFORE_HOST.sub("//***@", text.partition("#")[0])
    path, mark, query = text.partition("?")
    text = path + mark + _redacted_query(query)
    return repr(text if len(text) <= _SHOWN_LENGTH else text[:_SHOWN_LENGTH] + "...")


@dataclass(frozen=True, slots=True)
class Url:
    """A checked URL.

    `text` is canonical: lower-case scheme and host, no default port, no fragment, dot segments
    resolved, percent-escapes in upper case and only where needed, an IPv4 address as four decimal
    numbers. Two texts that differ only in these are one URL and share one cache entry.
    """

    text: str
    scheme: str
    host: str
    port: int
    """0 where the scheme has none."""
    target: str
    """Path and query, as sent on the request line."""
    origin: str
    """Scheme, host and port: what limits and credentials are bound to."""

    @property
    def name(self) -> str:
        """Last segment of the path, decoded; empty when the path ends in a slash."""
        return unquote(self.target.partition("?")[0].rpartition("/")[2])

    @property
    def place(self) -> str:
        """Host, and the port unless it is the scheme's own."""
        return self.origin.partition("//")[2]

    @property
    def is_signed(self) -> bool:
        """Whether the query holds what looks like a secret: access then depends on that, and not on who asks."""
        return self.redacted != self.text

    @property
    def path(self) -> str:
        """The path, decoded; bytes that are not UTF-8 as `os.fsdecode` has them."""
        return unquote(self.target.partition("?")[0], errors="surrogateescape")

    @property
    def query(self) -> str:
        """What follows the question mark; as sent."""
        return self.target.partition("?")[2]

    @property
    def is_number(self) -> bool:
        """Whether the host is an address and not a name."""
        return self.host.endswith("]") or self.host.rpartition(".")[2].isdigit()

    @property
    def redacted(self) -> str:
        """The URL with the values of parameters that look like secrets replaced by ``***``."""
        path, mark, query = self.target.partition("?")
        if not query:
            return self.text
        return f"{self.origin}{path}{mark}{_redacted_query(query)}"


def origin_of(url: str) -> str:
    """Scheme, host and port of a canonical URL; costs a tenth of parsing it anew."""
    return url[: url.index("/", url.index("//") + 2)]


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
    plain = _PLAIN.fullmatch(text)
    if plain and "/." not in text:  # nearly all are; five times quicker, which counts for 100,000 of them
        with suppress(InputError):  # told below, of the whole text
            base = parse_url(plain[1] + "/")
            return Url(base.origin + plain[2], base.scheme, base.host, base.port, plain[2], base.origin)
    if _UNSAFE.search(text):
        raise InputError(
            f"malformed URL {refused_url(text)}",
            cause="it contains a space, a backslash, a control character or invalid Unicode",
            remedy="escape it (%20 for a space)",
        )
    parts, port = _split(text)
    scheme = parts.scheme.lower()
    if scheme not in SCHEMES and scheme not in GENERIC:
        raise InputError(
            f"unknown scheme in URL {refused_url(text)}" if scheme else f"malformed URL {refused_url(text)}",
            cause=f"{scheme!r} is not one of {', '.join(SCHEMES)}" if scheme else "it has no scheme",
            remedy="give a URL like https://host/path",
        )
    if "@" in parts.netloc:
        raise InputError(
            f"URL {refused_url(text)} contains a user name or password",
            cause="it would end up in logs and job files",
            remedy="remove it from the URL, and give it once with `stager credentials add HOST`",
        )
    host = "" if scheme == "file" else _canonical_host(parts, text)
    path = _without_dots(_escaped(parts.path, "/:@!$&'()*+,;=") or "/")
    query = _escaped(parts.query, "/?:@!$&'()*+,;=[]|^`{}\"<>")
    if scheme not in WEB:
        _check_names_a_file(scheme, parts, path, query, text)
    target = f"{path}?{query}" if query else path
    usual = DEFAULT_PORTS.get(scheme, 0)
    number = port or usual
    origin = f"{scheme}://{host}" if number == usual else f"{scheme}://{host}:{number}"
    return Url(text=origin + target, scheme=scheme, host=host, port=number, target=target, origin=origin)


def parse_web_url(text: str) -> Url:
    """The same, where only http and https make sense: a redirect's target, the address of a server.

    Raises:
        InputError: see `parse_url`, or another scheme.
    """
    url = parse_url(text)
    if url.scheme not in WEB:
        raise InputError(
            f"scheme {url.scheme} in URL {refused_url(text)}",
            cause=f"only {' and '.join(WEB)} make sense there",
            remedy="give a URL like https://host/path",
        )
    return url


def _check_names_a_file(scheme: str, parts: SplitResult, path: str, query: str, text: str) -> None:
    """What the schemes beside http have no meaning for is refused, rather than ignored."""
    cause = remedy = ""
    if scheme == "file" and (parts.netloc.lower() not in {"", "localhost"} or not parts.path.startswith("/")):
        cause, remedy = "a file is on the host that fetches it, at an absolute path", "write file:///path"
    elif scheme not in DEFAULT_PORTS and parts.port is not None:
        cause, remedy = f"{scheme} has no ports", "leave the port out"
    elif query and not (scheme in _VERSIONS and _VERSIONS[scheme].fullmatch(query)):
        cause, remedy = f"{scheme} has no such query", "write a question mark in a name as %3F"
    elif _CONTROL.search(unquote(path)):
        cause, remedy = "there is a control character in its path", "rename the file"
    elif scheme != "file" and "\ufffd" in unquote(path):
        cause, remedy = "its path is not UTF-8", "escape the bytes of its UTF-8 form"
    if cause:
        raise InputError(f"malformed URL {refused_url(text)}", cause=cause, remedy=remedy)


def _split(text: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:  # its text may repeat a password that was taken for a port
        raise InputError(
            f"malformed URL {refused_url(text)}",
            cause="its host or port can't be read",
            remedy="give a URL like https://host/path",
        ) from None
    if port == 0:
        raise InputError(
            f"malformed URL {refused_url(text)}",
            cause="port 0 can't be connected to",
            remedy="give a port from 1 to 65535",
        )
    return parts, port


def _canonical_host(parts: SplitResult, text: str) -> str:
    host = parts.hostname
    if not host:
        raise InputError(
            f"malformed URL {refused_url(text)}",
            cause="it has no host",
            remedy="give a URL like https://host/path",
        )
    try:
        if "[" in parts.netloc:
            if "%" in host:
                raise ValueError("a zone means something on one machine only")  # noqa: TRY301 - worded below
            return f"[{IPv6Address(host).compressed}]"
        name = host if host.isascii() else host.encode("idna").decode("ascii")
        name = name.lower().removesuffix(".")
        if parts.scheme.lower() in DEFAULT_PORTS and _NUMBER.fullmatch(name.rpartition(".")[2]):
            return str(_ipv4(name))
    except ValueError as error:
        raise InputError(
            f"malformed URL {refused_url(text)}", cause=f"host {host!r}: {error}", remedy="check the host"
        ) from None
    if not _HOST.fullmatch(name):
        raise InputError(
            f"malformed URL {refused_url(text)}",
            cause=f"{host!r} is not a host name",
            remedy="check the host",
        )
    return name


def _ipv4(name: str) -> IPv4Address:
    """The address that `name`, whose last part is a number, is to the system's resolver: ``0x7f.1`` is 127.0.0.1.

    Raises:
        ValueError: it is none, and no name either.
    """
    parts = map(_number, name.split(".")) if _NUMBERS.fullmatch(name) else [1 << 32]
    *first, last = parts
    if last >= 1 << 32 - 8 * len(first) or any(number > 255 for number in first):  # noqa: PLR2004 - as addresses are
        raise ValueError("it ends in a number and is no IPv4 address")
    return IPv4Address(sum(number << 24 - 8 * place for place, number in enumerate(first)) + last)


def _number(text: str) -> int:
    if text.startswith("0x"):
        return int(text[2:] or "0", 16)
    return int(text, 8 if len(text) > 1 and text[0] == "0" else 10)


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
