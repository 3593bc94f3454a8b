"""What `stager fetch` says about each file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stager.cli import output
from stager.cli.fetch_lists import Asked
from stager.cli.progress import Display
from stager.errors import CredentialError, StagerError
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

    def hear(self, report: Brought | Missed, places: list[int], failures: Sequence[StagerError]) -> None:
        """Say what came of the file at `places` of the list that was given.

        Args:
            report: its end.
            places: where it is in that list.
            failures: of the URLs at which it was not to be had, in their order.
        """
        self.failed = self.failed or isinstance(report, Missed)
        if isinstance(report, Missed) and any(isinstance(error, CredentialError) for error in failures):
            self.wants_credential = True
        for error in failures:
            self._shown.note(str(error))
        if failures and isinstance(report, Brought):
            self._shown.note(f"it came from {_shown(self._asked[places[0]].urls[len(failures)])} instead")
        for place in places:
            if self._as_json:
                self._shown.line(output.json_text(_facts(self._asked[place], report, failures)))
            else:
                self._early[place] = "" if isinstance(report, Missed) else report.path
        while self._next in self._early:
            path = self._early.pop(self._next)
            self._next += 1
            if path:
                self._shown.line(path)


def _facts(asked: Asked, report: Brought | Missed, failures: Sequence[StagerError]) -> dict[str, Any]:
    """About the URL that delivered, or the one that was tried last; `tried` are those before it."""
    before = failures[:-1] if isinstance(report, Missed) else failures
    tried = [
        {"url": _shown(url), "error": error.to_dict()} for url, error in zip(asked.urls, before, strict=False)
    ]
    more: dict[str, Any] = {"name": asked.name} if asked.name is not None else {}
    more |= {"tried": tried} if tried else {}
    url = _shown(asked.urls[len(before)])
    if isinstance(report, Missed):
        return {"url": url, "error": report.error.to_dict(), **more}
    return {
        "url": url,
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
