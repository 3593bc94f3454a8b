"""Other places of the same bytes that an origin names: ``Link: <URL>; rel=duplicate`` (RFC 6249)."""

from __future__ import annotations

import re
from urllib.parse import urljoin

from stager.errors import InputError
from stager.model.urls import Url, parse_web_url

MOST = 16
"""Links of one answer that are looked at; each would cost a connection."""
_LOWEST = 999_999

LONGEST = 8192
"""Characters of the field that are looked at; an origin that sends more may mean to keep us busy."""
_LINK = re.compile(r'<([^<>"]*)>((?:\s*;\s*[^\s=;,"]+(?:\s*=(?:\s*(?:"[^"]*"|[^\s;,"]+))?)?)*)\s*(?:,|$)')
_PARAMETER = re.compile(r';\s*([^\s=;,"]+)(?:\s*=\s*(?:"([^"]*)"|([^\s;,"]*)))?')


def duplicates(text: str, base: Url) -> list[Url]:
    """The places, the one of the highest priority (``pri=1``) first; what is no URL that can be read is left out.

    Args:
        text: value of the field.
        base: what relative links are relative to.
    """
    found: list[tuple[int, int, Url]] = []
    for number, link in enumerate(_LINK.finditer(text[:LONGEST])):
        if number >= MOST:
            break
        given = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(link[2])}
        if "duplicate" not in given.get("rel", "").lower().split():
            continue
        priority = given.get("pri", "")
        rank = int(priority) if priority.isascii() and priority.isdigit() and len(priority) < 7 else _LOWEST  # noqa: PLR2004 - digits
        try:
            found.append((rank, number, parse_web_url(urljoin(base.text, link[1].strip()))))
        except (InputError, ValueError):
            continue  # of no use, and no reason to fail
    return [url for _, _, url in sorted(found, key=lambda one: one[:2])]
