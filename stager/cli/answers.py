"""What `stager fetch` says about each file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stager.cli import output
from stager.cli.fetch_lists import Asked
from stager.cli.progress import Display
from stager.errors import CredentialError, StagerError, error_from_dict
from stager.farm.crew import Brought
from stager.model.urls import parse_url
from stager.service.batch import Missed


class Answers:
    """Says what came of each file: paths in the order given, JSON lines as they come.

    Args:
        asked: the files, as they were given.
        shown: where to say it.
        as_json: JSON lines.
    """

    def __init__(self, asked: Sequence[Asked], shown: Display, *, as_json: bool) -> None:
        self._asked = asked
        self._shown = shown
        self._as_json = as_json
        self._early: dict[int, str] = {}
        self._next = 0
        self.failed = False
        self.wants_credential = False

    def hear(self, report: Brought | Missed, places: list[int]) -> None:
        """Say what came of the file at `places` of the list that was given."""
        tried = _tried(report)
        if isinstance(report, Missed):
            self.failed = True
            errors = [report.error, *(error for _, error in tried)]
            self.wants_credential |= any(isinstance(error, CredentialError) for error in errors)
            self._shown.note(str(report.error))
        else:
            for _, error in tried:
                self._shown.note(str(error))
            if tried:
                self._shown.note(f"it came from {report.source} instead")
        for place in places:
            if self._as_json:
                self._shown.line(output.json_text(_facts(self._asked[place], report)))
            else:
                self._early[place] = "" if isinstance(report, Missed) else report.path
        while self._next in self._early:
            path = self._early.pop(self._next)
            self._next += 1
            if path:
                self._shown.line(path)


def _tried(report: Brought | Missed) -> list[tuple[str, StagerError]]:
    """The URLs that did not deliver, besides the one that the report is about, each with its error."""
    found = report.error.details.get("tried", ()) if isinstance(report, Missed) else report.tried
    return [(str(one.get("url")), error_from_dict(one["error"])) for one in found]


def _facts(asked: Asked, report: Brought | Missed) -> dict[str, Any]:
    """About the URL that delivered, or the one whose error counts; `tried` are the others that were asked."""
    given = {parse_url(url).redacted: _shown(url) for url in asked.urls}
    tried = [{"url": given.get(url, url), "error": error.to_dict()} for url, error in _tried(report)]
    more: dict[str, Any] = {"name": asked.name} if asked.name is not None else {}
    more |= {"tried": tried} if tried else {}
    about = _shown(asked.urls[0])
    if isinstance(report, Missed):
        url = str(report.error.details.get("url", ""))
        return {"url": given.get(url, about), "error": report.error.to_dict(), **more}
    return {
        "url": given.get(report.source, about),
        "path": report.path,
        "sha256": report.sha256,
        "size": report.size,
        "cached": report.cached,
        "seconds": round(report.seconds, 6),
        **more,
    }


def _shown(url: str) -> str:
    """The URL as it was given, unless it holds what looks like a secret."""
    checked = parse_url(url)
    return url if checked.redacted == checked.text else checked.redacted
