"""A cookie jar of one try or one session (RFC 6265), without I/O: stricter than a browser, and forgetful."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from stager.model.urls import Url
from stager.transfer.fields import Headers, parse_date, parse_seconds

MOST_COOKIES = 64
"""In one jar; more are ignored."""
MOST_BYTES = 4096
"""Of one cookie."""


@dataclass(frozen=True, slots=True)
class Cookie:
    """One that an origin set.

    Attributes:
        name, value: as it was set.
        host: where it was set, or the domain that it was set for.
        port: of the origin: another port is another server.
        path: it goes to this path and what is below.
        secure: it goes over https only.
        wide: it also goes to hosts below `host`.
        expires_at: seconds since 1970 UTC; None: with the session.
    """

    name: str
    value: str
    host: str
    port: int
    path: str = "/"
    secure: bool = False
    wide: bool = False
    expires_at: float | None = None

    def goes_to(self, url: Url, now: float) -> bool:
        """Whether it belongs into a request for `url`."""
        if self.expires_at is not None and self.expires_at <= now:
            return False
        if url.host != self.host and not (self.wide and url.host.endswith(f".{self.host}")):
            return False
        if url.port != self.port or (self.secure and url.scheme != "https"):
            return False
        path = url.target.partition("?")[0]
        below = self.path if self.path.endswith("/") else f"{self.path}/"
        return path == self.path or path.startswith(below)


class Jar:
    """Cookies by name, place and path.

    Args:
        cookies: what is in it at first, as `to_list` gave it.
    """

    def __init__(self, cookies: Iterable[Mapping[str, Any]] = ()) -> None:
        self._cookies: dict[tuple[str, str, int, str], Cookie] = {}
        for one in cookies:
            self._put(Cookie(**one))

    def take(self, url: Url, headers: Headers, now: float) -> bool:
        """Take in what the answer to a request for `url` set; whether that changed anything."""
        before = dict(self._cookies)
        for line in headers.get("set-cookie", "").split("\n"):
            cookie = _parsed(line, url, now)
            if cookie is not None:
                self._put(cookie)
        return before != self._cookies

    def header(self, url: Url, now: float) -> str:
        """The value of the Cookie field for `url`; empty: there is none."""
        found = [cookie for cookie in self._cookies.values() if cookie.goes_to(url, now)]
        found.sort(key=lambda cookie: -len(cookie.path))
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in found)

    def to_list(self) -> list[dict[str, Any]]:
        """JSON form."""
        return [asdict(cookie) for cookie in self._cookies.values()]

    @property
    def expires_at(self) -> float | None:
        """When the first one goes whose end is known."""
        known = [cookie.expires_at for cookie in self._cookies.values() if cookie.expires_at is not None]
        return min(known, default=None)

    def _put(self, cookie: Cookie) -> None:
        name = (cookie.name, cookie.host, cookie.port, cookie.path)
        if name in self._cookies or len(self._cookies) < MOST_COOKIES:
            self._cookies[name] = cookie


def _parsed(line: str, url: Url, now: float) -> Cookie | None:
    pair, *rest = line.split(";")
    name, equals, value = pair.strip().partition("=")
    if not equals or not name or len(pair) > MOST_BYTES or not pair.isascii():
        return None
    attributes: dict[str, str] = {}
    for part in rest:
        key, _, given = part.strip().partition("=")
        attributes[key.lower()] = given.strip()
    host, wide = url.host, False
    domain = attributes.get("domain", "").lstrip(".").lower()
    if domain and domain != url.host:
        if "." not in domain or not url.host.endswith(f".{domain}"):
            return None  # not theirs
        host, wide = domain, True
    elif domain:
        wide = not host.replace(".", "").isdigit()
    path = attributes.get("path", "")
    if not path.startswith("/"):
        path = url.target.partition("?")[0].rpartition("/")[0] or "/"
    return Cookie(
        name.strip(), value.strip(), host, url.port, path, "secure" in attributes, wide, _end(attributes, now)
    )


def _end(attributes: Mapping[str, str], now: float) -> float | None:
    age = attributes.get("max-age")
    if age is not None:
        seconds = parse_seconds(age)
        return now if seconds is None else now + seconds
    return parse_date(attributes["expires"].replace("-", " ")) if "expires" in attributes else None
