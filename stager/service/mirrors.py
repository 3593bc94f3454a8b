"""Files that may be had at several URLs: the next one is tried when one fails for good."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

from stager.errors import DigestMismatchError, StagerError
from stager.farm.crew import Brought
from stager.model.fetches import FetchRequest
from stager.model.urls import parse_url
from stager.service.batch import Missed, Moved, Report

FetchAll = Callable[[Sequence[FetchRequest]], Generator[Report, None, None]]
"""Fetches all of these, and reports on each by its number."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file, and where it may be had.

    Attributes:
        requests: for one URL each, in the order in which they are tried; at least one.
        size: bytes that it must have; None: any number.
    """

    requests: tuple[FetchRequest, ...]
    size: int | None = None


class Mirrors:
    """Fetches files, in rounds: those that failed at one URL are asked for at their next one in the next round.

    Args:
        files: what to fetch.
        fetch_all: how.
    """

    def __init__(self, files: Sequence[Wanted], fetch_all: FetchAll) -> None:
        self._files = files
        self._fetch_all = fetch_all
        self._failed: list[list[StagerError]] = [[] for _ in files]

    def failures(self, number: int) -> list[StagerError]:
        """Why the file was not to be had at its first URLs, one error for each that was tried in vain."""
        return self._failed[number]

    def reports(self) -> Generator[Report, None, None]:
        """What happens to each file, by its number; `Missed` only when its last URL failed.

        Closing the iterator, or an interrupt, gives up what is not done.
        """
        left = list(range(len(self._files)))
        while left:
            again: list[int] = []
            requests = [self._files[number].requests[len(self._failed[number])] for number in left]
            with closing(self._fetch_all(requests)) as reports:
                for report in reports:
                    told = self._told(report._replace(number=left[report.number]))
                    if isinstance(told, Missed) and self._fail(told):
                        again.append(told.number)
                    else:
                        yield told
            left = sorted(again)

    def _fail(self, missed: Missed) -> bool:
        """Remember the error; whether there is another URL."""
        failed = self._failed[missed.number]
        failed.append(missed.error)
        return len(failed) < len(self._files[missed.number].requests)

    def _told(self, report: Report) -> Report:
        """The report, unless a file came that has not the size it must have."""
        if isinstance(report, Missed | Moved):
            return report
        wanted = self._files[report.number]
        if wanted.size in {None, report.size}:
            return report
        return Missed(report.number, _wrong_size(wanted, len(self._failed[report.number]), report))


def _wrong_size(wanted: Wanted, tried: int, report: Brought) -> StagerError:
    url = parse_url(wanted.requests[tried].url).redacted
    return DigestMismatchError(
        f"{url} is not the file that is listed",
        cause=f"it has {report.size} bytes, {wanted.size} are listed",
        remedy="check the list, or ask whoever made it",
        url=url,
    )
