"""Values as the page writes them."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime

from jinja2 import Environment
from markupsafe import Markup, escape

from stager.model.shown import ran, reason, size, span

NOTHING = "-"
"""Shown for what is not known or has not happened."""
_LAST = 253_402_300_799.0  # of the year 9999: calendars end there


def moment(seconds: float | None) -> Markup:
    """A time (seconds since 1970 UTC): in UTC, until the script writes it in the browser's zone."""
    if seconds is None or not 0 <= seconds <= _LAST:
        return escape(NOTHING)
    at = datetime.fromtimestamp(seconds, UTC)
    text = f"{at:%Y-%m-%d %H:%M:%S}"
    return Markup('<time datetime="{}Z" title="{} UTC">{} UTC</time>').format(
        f"{at:%Y-%m-%dT%H:%M:%S}", text, text
    )


def since(seconds: float | None, now: float) -> Markup:
    """How long ago a time was, with the time itself at hand."""
    if seconds is None or not 0 <= seconds <= _LAST:
        return escape(NOTHING)
    at = datetime.fromtimestamp(seconds, UTC)
    return Markup('<time datetime="{}Z" title="{} UTC" data-ago>{} ago</time>').format(
        f"{at:%Y-%m-%dT%H:%M:%S}", f"{at:%Y-%m-%d %H:%M:%S}", brief(now - seconds)
    )


def brief(seconds: float | None) -> str:
    """A length of time; whole seconds are enough to read."""
    if seconds is None:
        return NOTHING
    return f"{max(0.0, seconds):.0f} s" if seconds < 60 else span(seconds)  # noqa: PLR2004 - a minute


def rate(speed: float | None) -> str:
    """Bytes per second."""
    return NOTHING if speed is None else f"{size(int(speed))}/s"


def number(count: int) -> str:
    """A count, its thousands apart."""
    return f"{count:,}"


def percent(share: float | None) -> str:
    """A share of one."""
    return NOTHING if share is None else f"{100 * share:.0f} %"


def breakable(text: str) -> Markup:
    """A URL or a path that may be broken after its slashes."""
    return Markup("/<wbr>").join(escape(part) for part in str(text).split("/"))


def last_part(url: str) -> str:
    """The name of a file at the end of its URL; the URL itself if it has none."""
    path = url.partition("?")[0].rstrip("/")
    return path.rpartition("/")[2] or url


def ticks(text: str) -> Markup:
    """Words in which what is to be typed stands between backquotes."""
    parts = str(text).split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 else escape(part)
        for index, part in enumerate(parts)
    )


def short(value: float) -> str:
    """A number without zeros behind its point."""
    return f"{round(value, 1):g}"


def install(environment: Environment) -> None:
    """Let templates use all of them."""
    environment.filters |= {
        "size": size, "span": brief, "exact": span, "moment": moment, "since": since, "rate": rate, "number": number,
        "percent": percent, "breakable": breakable, "reason": reason, "ran": ran, "shell": shlex.join,
        "last_part": last_part, "ticks": ticks, "short": short,
    }  # fmt: skip
    environment.globals["NOTHING"] = NOTHING
