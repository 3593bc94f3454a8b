"""Values of HTTP fields, parsed without I/O; what can't be understood is as if it were absent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

Headers = Mapping[str, str]
"""Fields of a response: lower-case names; repeated ones joined by a comma, those of Set-Cookie by a line break."""

MAX_RETRY_AFTER = 86_400.0
"""Seconds; an origin that asks for more is asked once a day."""

_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"
_TIME = r"([0-9]{2}):([0-9]{2}):([0-9]{2})"
_IMF = re.compile(rf"[A-Z][a-z]{{2}}, ([0-9]{{2}}) ([A-Z][a-z]{{2}}) ([0-9]{{4}}) {_TIME} (?:GMT|UTC)")
_RFC850 = re.compile(rf"[A-Z][a-z]+day, ([0-9]{{2}})-([A-Z][a-z]{{2}})-([0-9]{{2}}) {_TIME} GMT")
_ASCTIME = re.compile(rf"[A-Z][a-z]{{2}} ([A-Z][a-z]{{2}}) ([ 0-9][0-9]) {_TIME} ([0-9]{{4}})")
_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_CONTENT_RANGE = re.compile(r"bytes (?:([0-9]{1,18})-([0-9]{1,18})|\*)/(?:([0-9]{1,18})|\*)", re.IGNORECASE)
_DIRECTIVE = re.compile(r'([!#$%&\'*+.^_`|~0-9A-Za-z-]+)(?:\s*=\s*(?:"([^"]*)"|([^\s,;"]+)))?')

_PARAMETER = re.compile(r';\s*([a-zA-Z*]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))')


@lru_cache(maxsize=1024)  # Date is the same for a second, Last-Modified often for a whole directory
def parse_date(text: str) -> float | None:
    """Seconds since 1970 UTC, from any of the three forms of RFC 9110, 5.6.7."""
    if match := _IMF.fullmatch(text):
        day, month, year, hour, minute, second = match.groups()
    elif match := _RFC850.fullmatch(text):
        day, month, year, hour, minute, second = match.groups()
        year = f"20{year}" if int(year) < 70 else f"19{year}"  # noqa: PLR2004 - the POSIX rule
    elif match := _ASCTIME.fullmatch(text):
        month, day, hour, minute, second, year = match.groups()
    else:
        return None
    index, rest = divmod(_MONTHS.find(month), 3)
    if rest or index < 0:
        return None
    try:
        return datetime(
            int(year), index + 1, int(day), int(hour), int(minute), min(int(second), 59), tzinfo=UTC
        ).timestamp()
    except ValueError:
        return None


def parse_etag(text: str | None) -> str | None:
    """The entity tag, opaque, as it was sent; None when it is not one."""
    return text if text and _ETAG.fullmatch(text) else None


class ContentRange(NamedTuple):
    """``bytes first-last/total``; `first` and `last` are None in ``*/total``, `total` in ``/*``."""

    first: int | None
    last: int | None
    total: int | None


def parse_content_range(text: str | None) -> ContentRange | None:
    """The range, if it is one of bytes and makes sense."""
    match = _CONTENT_RANGE.fullmatch(text) if text else None
    if match is None:
        return None
    first, last, total = (None if part is None else int(part) for part in match.groups())
    if first is None and total is None:
        return None
    if first is not None and last is not None and (last < first or (total is not None and last >= total)):
        return None
    return ContentRange(first, last, total)


def parse_directives(text: str) -> dict[str, str]:
    """Directives of Cache-Control with lower-case names; the first of two wins."""
    found: dict[str, str] = {}
    for name, quoted, plain in _DIRECTIVE.findall(text):
        found.setdefault(name.lower(), quoted or plain)
    return found


def proposed_name(text: str | None) -> str:
    """The file name of a Content-Disposition (RFC 6266): its last part, since it is advice and no path; or empty."""
    if not text:
        return ""
    given = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(text)}
    name = re.sub(r"\\(.)", r"\1", given.get("filename", ""))
    charset, _, coded = given.get("filename*", "").partition("'")
    if charset.lower() in {"utf-8", "iso-8859-1"}:
        name = unquote(coded.partition("'")[2], charset, "replace") or name
    name = name.replace("\\", "/").rpartition("/")[2].strip(" ")
    usable = name not in {"", ".", ".."} and name.isprintable() and len(name.encode("utf-8", "replace")) < 256  # noqa: PLR2004 - bytes
    return name if usable and "\ufffd" not in name else ""


def parse_seconds(text: str | None) -> int | None:
    """A non-negative number of seconds; larger than a century counts as a century."""
    if text is None or not text.isascii() or not text.isdigit():
        return None
    return int(text) if len(text) < 10 else 3_155_760_000  # noqa: PLR2004 - digits


def parse_retry_after(text: str | None, now: float) -> float | None:
    """Seconds from `now` that the origin asks us to wait, capped; from seconds or a date."""
    if text is None:
        return None
    seconds: float | None = parse_seconds(text)
    if seconds is None:
        date = parse_date(text)
        if date is None:
            return None
        seconds = date - now
    return min(max(0.0, float(seconds)), MAX_RETRY_AFTER)


def opaque_tag(etag: str) -> str:
    """For the weak comparison of RFC 9110, 8.8.3.2."""
    return (parse_etag(etag) or etag).removeprefix("W/")


def as_sent(location: str) -> str:
    """A Location as browsers read it: UTF-8 where it is, spaces escaped."""
    with suppress(UnicodeError):  # else it is taken byte by byte
        location = location.encode("latin-1").decode("utf-8")
    return location.strip().replace(" ", "%20")
