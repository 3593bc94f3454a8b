"""What the audience sees while things happen: a live picture on a terminal, lines of text elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from stager.cli.output import size
from stager.model.fetches import FetchState
from stager.model.jobs import JobState
from stager.model.views import InputView, JobDetail

COLOURS = {
    JobState.WAITING: "yellow",
    JobState.READY: "cyan",
    JobState.DISPATCHED: "cyan",
    JobState.RUNNING: "cyan",
    JobState.DONE: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "red",
}
QUARTERS = 4
"""Lines of text about one transfer in progress."""

PIPE_WIDTH = 110
"""Characters per line where there is no terminal that has a width."""


@dataclass
class Scene:
    """How things are: the jobs by name in the order of submission, and whether the server answers."""

    jobs: dict[str, JobDetail] = field(default_factory=dict)
    up: bool = True

    @property
    def inputs(self) -> dict[str, tuple[InputView, int]]:
        """Each fetch with the number of jobs that share it."""
        found: dict[str, tuple[InputView, int]] = {}
        for job in self.jobs.values():
            for item in job.inputs:
                found[item.fetch] = (item, found.get(item.fetch, (item, 0))[1] + 1)
        return found

    def input(self, job: str, name: str) -> InputView:
        """One input of one job."""
        return next(item for item in self.jobs[job].inputs if item.name == name)


class Stage(Protocol):
    """Where the demo speaks and shows."""

    def say(self, text: str) -> None:
        """Tell what happens and why it matters."""

    def command(self, line: str) -> None:
        """Show a command as a user would type it."""

    def draw(self, scene: Scene) -> None:
        """Show how things are now."""


class Plain:
    """Lines of text: what changed, since when the demo runs."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._shown: dict[str, object] = {}

    def say(self, text: str) -> None:
        """See `Stage.say`."""
        print(f"\n{text}", flush=True)

    def command(self, line: str) -> None:
        """See `Stage.command`."""
        print(f"  $ {line}", flush=True)

    def draw(self, scene: Scene) -> None:
        """See `Stage.draw`."""
        for fetch, (item, jobs) in scene.inputs.items():
            quarter = QUARTERS * item.received // item.total if item.total else 0
            if item.state is not FetchState.RUNNING or quarter:
                self._tell(fetch, (item.state, quarter), f"fetch  {item.name:<16} {how_far(item, jobs)}")
        for name, job in scene.jobs.items():
            self._tell(name, job.state, f"job    {name:<16} {job.state:<11} {waits_for(job)}")

    def _tell(self, about: str, state: object, line: str) -> None:
        if self._shown.get(about) != state:
            self._shown[about] = state
            print(f"  {time.monotonic() - self._began:5.1f} s  {line}".rstrip(), flush=True)


class Picture:
    """A picture that moves, with what is said scrolling above it."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def say(self, text: str) -> None:
        """See `Stage.say`."""
        self._live.console.print(Text(f"\n{text}", style="bold"))

    def command(self, line: str) -> None:
        """See `Stage.command`."""
        self._live.console.print(Text(f"  $ {line}", style="magenta"))

    def draw(self, scene: Scene) -> None:
        """See `Stage.draw`."""
        self._live.update(_picture(scene), refresh=True)


@contextmanager
def stage(console: Console) -> Iterator[Stage]:
    """The place to show things on: whatever stdout is."""
    if not console.is_terminal or console.is_dumb_terminal:
        yield Plain()
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        yield Picture(live)


def how_far(item: InputView, jobs: int) -> str:
    """Where an input is, in words."""
    if item.state is FetchState.FAILED:
        said = "failed"
    elif item.state is FetchState.QUEUED and item.error:
        said = f"{item.error['cause'] or item.error['what']}; trying again"
    elif item.cached:
        said = f"{size(item.received)} at hand"
    elif item.state is FetchState.READY:
        said = f"{size(item.received)} verified"
    else:
        said = f"{size(item.received)} of {size(item.total or 0)}" if item.total else str(item.state)
    if jobs > 1:
        said += f", for {jobs} jobs"
    if item.resumed_from:
        said += f", resumed at {size(item.resumed_from)}"
    return said


def waits_for(job: JobDetail) -> str:
    """What a job still waits for, or the reason why it failed, in few words."""
    if job.error:
        return str(job.error["details"].get("code", job.error["code"]))
    return "for " + ", ".join(name.rpartition("/")[2] for name in job.waits_for) if job.waits_for else ""


def table(columns: Sequence[str], right: Sequence[str] = ()) -> Table:
    """An empty table in the demo's style."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def _picture(scene: Scene) -> RenderableType:
    files: dict[tuple[str, str | None], tuple[InputView, int]] = {}
    for item, jobs in scene.inputs.values():  # the latest fetch stands for all of the same bytes
        key = item.name, item.sha256
        files[key] = (item, jobs + files.get(key, (item, 0))[1])
    transfers = table(("transfers", "", ""))
    for item, jobs in files.values():
        bar = ProgressBar(total=item.total or 1, completed=item.received, width=12)
        style = "red" if item.state is FetchState.FAILED else ""
        transfers.add_row(item.name, bar, Text(how_far(item, jobs), style=style))
    states = table(("jobs", "", ""))
    for name, job in scene.jobs.items():
        states.add_row(name, Text(job.state, style=COLOURS[job.state]), waits_for(job))
    server = Text("server  answers", style="green") if scene.up else Text("server  is dead", style="bold red")
    return Padding(Group(server, transfers, Text(), states), (1, 2, 0, 2))


def console() -> Console:
    """For stdout; characters that it can't show become question marks."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
