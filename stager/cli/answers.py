"""What `stager fetch` says about each URL."""

from __future__ import annotations

from typing import Any

from stager.cli import output
from stager.cli.progress import Display
from stager.farm.crew import Brought
from stager.model.urls import parse_url
from stager.service.batch import Missed


class Answers:
    """Says what came of each URL: paths in the order given, JSON lines as they come.

    Args:
        urls: as they were given.
        shown: where to say it.
        as_json: JSON lines.
    """

    def __init__(self, urls: list[str], shown: Display, *, as_json: bool) -> None:
        self._urls = urls
        self._shown = shown
        self._as_json = as_json
        self._early: dict[int, str] = {}
        self._next = 0
        self.failed = False

    def hear(self, report: Brought | Missed, places: list[int]) -> None:
        """Say what came of the URLs at `places` of the list that was given."""
        if isinstance(report, Missed):
            self.failed = True
            self._shown.note(str(report.error))
        for place in places:
            if self._as_json:
                self._shown.line(output.json_text(_facts(self._urls[place], report)))
            else:
                self._early[place] = "" if isinstance(report, Missed) else report.path
        while self._next in self._early:
            path = self._early.pop(self._next)
            self._next += 1
            if path:
                self._shown.line(path)


def _facts(url: str, report: Brought | Missed) -> dict[str, Any]:
    if isinstance(report, Missed):
        return {"url": _shown(url), "error": report.error.to_dict()}
    return {
        "url": _shown(url),
        "path": report.path,
        "sha256": report.sha256,
        "size": report.size,
        "cached": report.cached,
        "seconds": round(report.seconds, 6),
    }


def _shown(url: str) -> str:
    """The URL as it was given, unless it holds what looks like a secret."""
    checked = parse_url(url)
    return url if checked.redacted == checked.text else checked.redacted
