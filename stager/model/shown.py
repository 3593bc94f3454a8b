"""How sizes, times and states are told to people: the same words on the command line and in the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stager.model.views import InputView, JobView

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP = 1024
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86_400.0


def size(count: int) -> str:
    """Bytes for people: ``4.0 KiB``."""
    value = float(count)
    for unit in _UNITS:
        if value < _STEP or unit == _UNITS[-1]:
            break
        value /= _STEP
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def span(seconds: float) -> str:
    """A length of time in its two largest units: ``3 min 20 s``."""
    if seconds < _MINUTE:
        return f"{max(0.0, seconds):.1f} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE:.0f} min {seconds % _MINUTE:.0f} s"
    if seconds < _DAY:
        return f"{seconds // _HOUR:.0f} h {seconds % _HOUR // _MINUTE:.0f} min"
    return f"{seconds // _DAY:.0f} d {seconds % _DAY // _HOUR:.0f} h"


def how_far(item: InputView, now: float) -> str:
    """How far an input of a job is, at the time `now` (seconds since 1970 UTC)."""
    there = size(item.received)
    match item.state:
        case "ready":
            source = "was there" if item.cached else f"{size(item.transferred)} transferred"
            resumed = f", resumed at {size(item.resumed_from)}" if item.resumed_from else ""
            said = f"ready    {there}, {source}{resumed}"
        case "running":
            total = "?" if item.total is None else size(item.total)
            percent = f" ({100 * item.received // item.total} %)" if item.total else ""
            said = f"running  {there} of {total}{percent}"
        case _:
            said = str(item.state)
    if item.tries > 1:
        said += f", try {item.tries}"
    if item.next_try_at is not None:
        said += f", next in {span(max(0.0, item.next_try_at - now))}"
    if item.error and item.state != "ready":
        said += f": {item.error.get('cause') or item.error.get('what')}"
    return said


def state_of(one: JobView) -> str:
    """The state of a job, or that it wants a credential."""
    return "wants a credential" if one.wants_credentials else str(one.state)


def reason(one: JobView) -> str:
    """Why a job failed; empty: it did not."""
    if not one.error:
        return ""
    brief = one.error.get("code") in {"command-failed", "input-failed"}  # the cause alone says it
    parts = (one.error.get("cause"),) if brief else (one.error.get("what"), one.error.get("cause"))
    return ": ".join(part for part in parts if part)


def ran(one: JobView, now: float) -> str:
    """How long the job's command has run, or ran; empty: it never started."""
    return "" if one.started_at is None else span((one.ended_at or now) - one.started_at)
