"""Whether a page came where data was expected: that of a login, which many portals answer with status 200.

A page alone is no reason to refuse it: somebody may want just that page. It is taken for a login

* when a redirect led to it whose target is called like a login, and the URL that was asked for is not;
* when it has a field for a password, and what was asked for is no page: the URL ends in the suffix of a data
  format, the last copy was no page, or the page does not have the digest that was asked for.

A site names the hosts whose pages are always data (setting ``html_hosts``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from stager.model.urls import Url
from stager.transfer.fields import Headers
from stager.transfer.refusals import login_page
from stager.transfer.route import Route

LOOK_BYTES = 262_144
"""So much of a page is looked at; portals put the form below long scripts."""

_PAGE_TYPES = ("text/html", "application/xhtml+xml")
_NO_DATA = frozenset(
    ("", "html", "htm", "xhtml", "shtml", "php", "asp", "aspx", "jsp", "jspx", "cgi", "pl", "py", "do", "action", "cfm")
)  # fmt: skip
"""Suffixes that say nothing, or that it is a page."""
_SUFFIX = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,9}|[0-9]?[A-Za-z]{1,9}[0-9]?|7z")
_LOGIN_HOSTS = frozenset(
    ("login", "signin", "sso", "idp", "auth", "adfs", "wayf", "accounts", "shibboleth", "keycloak")
)
"""Labels of host names."""
_LOGIN_SEGMENT = re.compile(
    r"(?:log[-_]?[io]n|sign[-_]?[io]n|sso|idp|saml2?|oauth2?|oidc|openid-connect|adfs|cas|wayf|shibboleth\.sso|authn?"
    r"|authenticate|authorize)(?:\.[a-z]{2,5})?",
    re.IGNORECASE,
)
_PASSWORD = re.compile(rb"<input\b[^>]{0,1000}\btype\s*=\s*[\"']?password\b", re.IGNORECASE)


def is_page(content_type: str) -> bool:
    """Whether that type is of a page."""
    return content_type.partition(";")[0].strip().lower() in _PAGE_TYPES


def speaks_for_data(url: Url) -> bool:
    """Whether the URL ends in the suffix of a data format."""
    _, dot, suffix = url.name.rpartition(".")
    return bool(dot) and suffix.lower() not in _NO_DATA and _SUFFIX.fullmatch(suffix) is not None


def is_called_login(url: Url) -> bool:
    """Whether host or path say that one logs in there."""
    if not _LOGIN_HOSTS.isdisjoint(url.host.split(".")[:-2]):
        return True
    return any(_LOGIN_SEGMENT.fullmatch(part) for part in url.target.partition("?")[0].split("/"))


def has_login_form(head: bytes) -> bool:
    """Whether the page that begins so has a field for a password."""
    return _PASSWORD.search(head) is not None


class PageWatch:
    """Looks for logins among the answers of one try.

    Args:
        hosts: whose pages are data, as patterns.
        known_type: content type of the last copy, or empty.
    """

    __slots__ = ("_hosts", "_known_type", "has_form")

    def __init__(self, hosts: Sequence[str], known_type: str) -> None:
        self._hosts = hosts
        self._known_type = known_type
        self.has_form = False
        """What came last is a page with a field for a password."""

    def check(self, route: Route, headers: Headers) -> None:
        """Refuse a page that is a login by its URL alone.

        Raises:
            CredentialRequiredError: it is one.
        """
        called_so = route.is_moved and is_called_login(route.at) and not is_called_login(route.url)
        if called_so and self._is_suspect(route, headers):
            raise login_page(route.url, route.at)

    def looks(self, route: Route, headers: Headers, *, proven: bool) -> bool:
        """Whether the beginning of the page is wanted: data was expected, or a digest will say (`proven`)."""
        return self._is_suspect(route, headers) and (proven or self._expects_data(route.url))

    def read(self, route: Route, head: bytes, *, proven: bool) -> None:
        """Take note of a page that begins so; whether it is right is left to the digest, if there is one.

        Raises:
            CredentialRequiredError: it is a login, and data was expected.
        """
        self.has_form = has_login_form(head)
        if self.has_form and not proven and self._expects_data(route.url):
            raise login_page(route.url, route.at)

    def _is_suspect(self, route: Route, headers: Headers) -> bool:
        kind = headers.get("content-type")
        if kind is None or not is_page(kind):
            return False
        return not any(fnmatchcase(route.at.host, host.lower()) for host in self._hosts)

    def _expects_data(self, url: Url) -> bool:
        return speaks_for_data(url) or bool(self._known_type and not is_page(self._known_type))
