"""Progress of fetches on a terminal: a bar per file, a bounded number of them, and one for all."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from stager.cli import output
from stager.farm.crew import Brought
from stager.model.fetches import FetchRequest
from stager.model.urls import parse_url
from stager.service.batch import Moved, Report

if TYPE_CHECKING:
    from rich import progress as rich_progress
    from rich.console import Console

MOST_ROWS = 12
"""Bars at once; with more files than this, only those that are on have one."""
REFRESH_SECONDS = 0.1


class Display(Protocol):
    """Where a command that fetches shows what happens, and prints while it does."""

    @property
    def moves(self) -> bool:
        """Whether progress within files is of any use."""
        ...

    def hear(self, report: Report) -> None:
        """Something happened to a file."""
        ...

    def tick(self) -> None:
        """Time passed."""
        ...

    def line(self, text: str) -> None:
        """Data, to stdout."""
        ...

    def note(self, text: str) -> None:
        """A line for people, to stderr."""
        ...


class Plain:
    """No terminal: data and errors only."""

    moves = False

    def hear(self, report: Report) -> None:
        """See `Display.hear`."""

    def tick(self) -> None:
        """See `Display.tick`."""
        sys.stdout.flush()

    def line(self, text: str) -> None:
        """See `Display.line`; it goes out with the next tick."""
        sys.stdout.write(text + "\n")

    def note(self, text: str) -> None:
        """See `Display.note`."""
        output.note(text)


class Bars:
    """Bars by rich, drawn by the calling thread, so that no other thread exists when processes are forked."""

    moves = True

    def __init__(
        self, requests: Sequence[FetchRequest], console: Console, bars: rich_progress.Progress
    ) -> None:
        self._requests = requests
        self._console = console
        self._bars = bars
        self._few = len(requests) <= MOST_ROWS
        self._rows: dict[int, rich_progress.TaskID] = {}
        self._total = bars.add_task("", total=len(requests), files=True) if len(requests) > 1 else None
        self._drawn = 0.0

    def hear(self, report: Report) -> None:
        """See `Display.hear`."""
        index = report.number
        row = self._rows.get(index)
        if isinstance(report, Moved):
            if row is None and len(self._rows) < MOST_ROWS:
                row = self._add(index)
            if row is not None:
                self._bars.update(row, completed=report.received, total=report.total)
        else:
            if isinstance(report, Brought) and self._few:
                row = self._add(index) if row is None else row
                self._bars.update(row, completed=report.size or 1, total=report.size or 1)
            elif row is not None:
                self._bars.remove_task(self._rows.pop(index))
            if self._total is not None:
                self._bars.advance(self._total)

    def tick(self) -> None:
        """See `Display.tick`."""
        now = time.monotonic()
        if now - self._drawn >= REFRESH_SECONDS:
            self._drawn = now
            self._bars.refresh()

    def line(self, text: str) -> None:
        """See `Display.line`; on the terminal that shows the bars, above them."""
        if sys.stdout.isatty():
            self._above(text)
        else:
            output.line(text)

    def note(self, text: str) -> None:
        """See `Display.note`."""
        if sys.stderr.isatty():
            self._above(f"stager: {output.one_line(text)}")
        else:
            output.note(text)

    def _above(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def _add(self, index: int) -> rich_progress.TaskID:
        url = parse_url(self._requests[index].url)
        task = self._bars.add_task(output.one_line(url.name or url.redacted), total=None, files=False)
        self._rows[index] = task
        return task


@contextmanager
def display(requests: Sequence[FetchRequest]) -> Iterator[Display]:
    """Bars for these requests on a terminal, nothing elsewhere."""
    terminal = next((s for s in (sys.stdout, sys.stderr) if s.isatty()), None)
    if terminal is None or os.environ.get("TERM") == "dumb":
        yield Plain()
        return
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class Amount(ProgressColumn):
        """Files of files, or bytes of bytes and their speed."""

        def render(self, task: Task) -> Text:
            if task.fields["files"]:
                return Text(f"{task.completed:.0f} of {task.total:.0f} files")
            total = "?" if task.total is None else output.size(int(task.total))
            speed = f"  {output.size(int(task.speed))}/s" if task.speed else ""
            return Text(f"{output.size(int(task.completed))} of {total}{speed}")

    console = Console(file=terminal)
    bars = RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        Amount(),
        console=console,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with bars:
        yield Bars(requests, console, bars)
