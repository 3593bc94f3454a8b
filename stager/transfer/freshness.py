"""How long a copy may be used without asking the origin (RFC 9111, 4.2)."""

from __future__ import annotations

from stager.transfer.fields import Headers, parse_date, parse_directives, parse_seconds


def sharing(headers: Headers) -> str:
    """What the origin says about giving the bytes to others: ``no-store``, ``private``, or nothing."""
    control = headers.get("cache-control")
    if control is None:
        return ""
    directives = parse_directives(control)
    return next((word for word in ("no-store", "private") if word in directives), "")


def fresh_until(headers: Headers, now: float, *, shortest: float, longest: float) -> float:
    """Until when, on the clock of `now`, the answer with these `headers` is fresh.

    The origin's word (Cache-Control, Expires) is taken as it is. Where it says nothing, a tenth of
    the time since the last change is a fair guess, kept within `shortest` and `longest` seconds.
    """
    age = parse_seconds(headers.get("age")) or 0
    said = _stated_lifetime(headers, now)
    if said is not None:
        return now + max(0.0, said - age)
    modified = parse_date(headers.get("last-modified", ""))
    guess = 0.0
    if modified is not None:
        guess = ((parse_date(headers.get("date", "")) or now) - modified) / 10
    return now + max(0.0, min(max(guess, shortest), max(longest, shortest)) - age)


def _stated_lifetime(headers: Headers, now: float) -> float | None:
    control = headers.get("cache-control")
    if control is not None:
        directives = parse_directives(control)
        if "no-store" in directives or "no-cache" in directives:
            return 0.0
        for name in ("s-maxage", "max-age"):  # this cache is shared
            if name in directives:
                return float(parse_seconds(directives[name]) or 0)
    elif "no-cache" in headers.get("pragma", "").lower():
        return 0.0
    expires = headers.get("expires")
    if expires is None:
        return None
    at = parse_date(expires)
    if at is None:
        return 0.0  # an invalid date, especially 0, means: already over
    return at - (parse_date(headers.get("date", "")) or now)
