"""What came out of the demo, measured, and whether each claim holds.

What the origin sent is the origin's own count; what jobs left is read from the server.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

import simulate
from origin import Request
from show import COLOURS, table, waits_for
from stager.cache.store import FileCache
from stager.cli.output import size
from stager.errors import error_from_dict
from stager.model.jobs import JobState
from stager.model.views import InputView, JobDetail

if TYPE_CHECKING:
    from run import Play

FAIL = {"compare": ("digest-mismatch", 2), "background": ("origin-refused", 1)}
"""Jobs that must fail: the code of the cause, and how often the origin is asked (wrong bytes get a second chance)."""
SIGMAS = 4.0
"""How far from the simulated truth a measured value may be, in its standard deviations."""
AGAIN_BYTES = 2 << 20
"""So much of the large file may be sent again: what sockets and the server held when they broke off."""
PROMPT_SECONDS = 1.0
"""From the word to the start of the job; milliseconds on an idle machine."""


@dataclass(frozen=True)
class Claim:
    """Something that the demo shows, with what was measured."""

    text: str
    holds: bool


class Report:
    """Prints the facts, and collects the claims about them."""

    def __init__(self, out: Console, play: Play) -> None:
        self._out = out
        self._play = play
        self._client = play.server.client
        self._cache = FileCache(play.server.cache)
        self._jobs = play.scene.jobs
        self.claims: list[Claim] = []

    def show(self) -> bool:
        """Everything; True if all claims hold."""
        self._results()
        self._physics()
        self._shared()
        self._resumed()
        self._restart()
        self._failures()
        self._versions()
        self._word()
        self._snapshot()
        self._title("What this run has shown")
        for claim in self.claims:
            mark = Text("  ok      ", "green") if claim.holds else Text("  NOT SO  ", "bold red")
            self._out.print(mark + Text(claim.text, "" if claim.holds else "bold red"))
        holding = sum(claim.holds for claim in self.claims)
        self._out.print(Text(f"\n{holding} of {len(self.claims)} claims hold.", "bold"))
        return holding == len(self.claims)

    # -- one part each --------------------------------------------------------------------------

    def _results(self) -> None:
        self._title("Results of the jobs")
        rows = table(("job", "state", "what it says"))
        for name, job in self._jobs.items():
            said = self._printed(job) if job.state is JobState.DONE else [waits_for(job)]
            rows.add_row(name, Text(job.state, COLOURS[job.state]), Text("\n".join(said)))
        self._out.print(rows)
        ends = {name: job.state is JobState.DONE for name, job in self._jobs.items()}
        done = sum(ends.values())
        self._claim(
            f"{len(ends)} jobs ended as they should: {done} done, {len(ends) - done} failed",
            ends == {name: name not in FAIL for name in ends},
        )
        starts = {name: len(self._printed(job)) for name, job in self._jobs.items()}
        self._claim(
            f"across the kill no job was lost and none ran twice: {sum(starts.values())} starts of {done} jobs",
            len(self._client.jobs.list()) == len(ends)
            and starts == {name: int(end) for name, end in ends.items()},
        )

    def _physics(self) -> None:
        stitched = self._jobs["stitch-again"]
        self._title("plot.txt of stitch-again: reflectivity of the (simulated) film")
        self._out.print(Text(self._result(stitched, "plot.txt").decode()), end="")
        found = json.loads(self._result(self._jobs["fit"], "fit.json"))
        truth = {
            "nickel_thickness": simulate.SAMPLE[1].thickness,
            "titanium_thickness": simulate.SAMPLE[2].thickness,
            "scale": simulate.EFFICIENCY,
        }
        for name, true in truth.items():
            value, error = found[name]["value"], found[name]["error"]
            self._claim(
                f"fit: {name.replace('_', ' ')} {value:.4g} ± {error:.1g}, simulated with {true:.4g}",
                abs(value - true) < SIGMAS * error,
            )
        self._claim(f"fit: reduced χ² is {found['reduced_chi2']:.2f}", 0.6 < found["reduced_chi2"] < 1.4)
        sent = (self._play.files / "events.bin").stat().st_size // simulate.EVENT_BYTES
        counted = [self._json(name, "histogram.json")["events"] for name in ("count", "spectrum")]
        self._claim(f"both jobs counted {counted[0]} events, {sent} were simulated", counted == [sent, sent])

    def _shared(self) -> None:
        self._title("Fetched once, shared")
        rows = table(
            ("file", "jobs", "given to jobs", "sent by the origin", "requests"),
            right=("jobs", "given to jobs", "sent by the origin", "requests"),
        )
        given_all = sent_all = 0
        for name, items in self._inputs().items():
            requests = self._play.origin.requests(name)
            given = sum(item.size or 0 for item in items)
            sent = sum(request.sent for request in requests)
            rows.add_row(name, str(len(items)), size(given), size(sent), str(len(requests)))
            given_all, sent_all = given_all + given, sent_all + sent
            if name.startswith("run-"):
                whole = (self._play.files / name).stat().st_size
                self._claim(
                    f"{name}: {len(items)} jobs, {len(requests)} request, {sent} bytes sent of a file of {whole}",
                    len(items) > 1 and len(requests) == 1 and sent == whole,
                )
        rows.add_row("all", "", size(given_all), size(sent_all), "", style="bold")
        self._out.print(rows)

    def _resumed(self) -> None:
        self._title("events.bin as the origin saw it")
        requests = self._play.origin.requests("events.bin")
        rows = table(("Range", "If-Range", "status", "sent", "connection"), right=("sent",))
        for r in requests:
            ended = _ENDED[r.ended].replace("server", "worker" if self._play.farm else "server")
            rows.add_row(r.range or "-", r.if_range or "-", str(r.status), f"{r.sent}", ended)
        self._out.print(rows)
        whole = (self._play.files / "events.bin").stat().st_size
        again = sum(request.sent for request in requests) - whole
        for broken, resumed in pairwise(requests):
            self._claim(
                f"resumed at {_offset(resumed)} of {whole} bytes after the {_CAUSE[broken.ended]}",
                broken.ended != "complete"
                and _offset(resumed) > 0
                and resumed.status == HTTPStatus.PARTIAL_CONTENT,
            )
        self._claim(
            f"{again} bytes ({again / whole:.2%}) of events.bin had to be sent again",
            [r.ended for r in requests] == ["reset", "gone", "complete"] and 0 <= again < AGAIN_BYTES,
        )
        digest = simulate.digest(self._play.files / "events.bin")
        staged = self._play.scene.input("count", "events.bin").sha256
        on_disk = (
            simulate.digest(self._cache.object_path(digest)) if self._cache.has_object(digest) else "missing"
        )
        self._claim(f"its SHA-256 in the cache is the origin's, {on_disk[:12]}…", staged == digest == on_disk)

    def _restart(self) -> None:
        killed = self._play.killed_at
        self._title(f"kill -9, and ready again {self._play.restart_seconds:.1f} s after the new start")
        ran = [
            name
            for name, job in self._jobs.items()
            if job.started_at and job.ended_at and job.started_at < killed < job.ended_at
        ]
        waited = [name for name, job in self._jobs.items() if job.submitted_at < killed < (job.ready_at or 0)]
        self._out.print(Text(f"  ran on without a server: {', '.join(ran) or 'none'}"))
        self._out.print(Text(f"  waited, and got what they waited for: {', '.join(waited)}"))
        self._claim(
            f"{len(waited)} jobs that waited when the server was killed ran afterwards",
            {"count", "spectrum", "plan"} <= set(waited),
        )
        if self._play.farm is not None:
            self._claim(
                f"the worker that was killed with events.bin in hand, and the one that went on: {', '.join(self._play.workers)}",
                len(self._play.workers) == 2,
            )
            self._claim(
                f"{size(self._play.without_server)} of events.bin arrived while no server ran",
                self._play.without_server > 0,
            )

    def _failures(self) -> None:
        self._title("What failed, and why")
        for name, (code, tries) in FAIL.items():
            error = self._jobs[name].error or {}
            text = str(error_from_dict(error))
            self._out.print(Text(f"{name}: {text}"), soft_wrap=not self._out.is_terminal)
            (item,) = self._jobs[name].inputs
            requests = len(self._play.origin.requests(item.name))
            self._claim(
                f"{name} failed by {error['details'].get('code')}, origin asked {requests}x; the error names the URL",
                error["details"].get("code") == code and item.url in text and requests == tries,
            )

    def _versions(self) -> None:
        self._title("calibration.txt, one URL, two versions")
        rows = table(("job", "SHA-256", "R in total reflection"))
        found: dict[str, tuple[str, float, float]] = {}
        for name in ("stitch", "stitch-again"):
            sha256 = self._play.scene.input(name, "calibration.txt").sha256 or ""
            stitched = self._json(name, "stitch.json")
            found[name] = sha256, stitched["plateau"], stitched["error"]
            rows.add_row(name, sha256[:12], f"{stitched['plateau']:.3f} ± {stitched['error']:.3f}")
        self._out.print(rows)
        (first, old, old_error), (second, new, new_error) = found.values()
        asked = self._play.origin.requests("calibration.txt")
        self._claim(
            f"the origin was asked {len(asked)} times for the calibration, the last time on condition of a change",
            len(asked) == len(found) and asked[-1].if_none_match is not None,
        )
        self._claim(
            "both versions are in the cache, each under its own digest",
            first != second and all(self._cache.has_object(each) for each in (first, second)),
        )
        self._claim(
            f"R is {old:.3f} with the old one and {new:.3f} with the new one; it should be 1",
            abs(old - 1) > SIGMAS * old_error and abs(new - 1) < SIGMAS * new_error,
        )

    def _word(self) -> None:
        plan = self._jobs["plan"]
        met, started = plan.after[0].met_at or 0.0, plan.started_at or 0.0
        self._claim(
            f"plan was started {1000 * (started - met):.0f} ms after {plan.after[0].name} was met",
            0 < started - met < PROMPT_SECONDS,
        )

    def _snapshot(self) -> None:
        self._title("Snapshot of the cache")
        self._out.print(Text("  $ stager cache ls", "magenta"))
        self._out.file.flush()
        self._play.server.command("cache", "ls", show=True)
        left = [path for path in (self._play.server.cache / "partial").rglob("*") if path.is_file()]
        self._claim(f"{len(left)} partial files are left", not left)

    # -- parts ----------------------------------------------------------------------------------

    def _title(self, text: str) -> None:
        self._out.print(Text(f"\n{text}", "bold"))

    def _claim(self, text: str, holds: bool) -> None:
        self.claims.append(Claim(text, holds))

    def _printed(self, job: JobDetail) -> list[str]:
        """What it printed: one line at each start."""
        with closing(self._client.jobs.log(job.id, "stdout")) as blocks:
            return b"".join(blocks).decode().splitlines()

    def _result(self, job: JobDetail, name: str) -> bytes:
        with closing(self._client.results.read(job.id, name)) as blocks:
            return b"".join(blocks)

    def _json(self, job: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._result(self._jobs[job], name))
        return found

    def _inputs(self) -> dict[str, list[InputView]]:
        """Each file, and the inputs of jobs that are this file."""
        found: dict[str, list[InputView]] = {}
        for job in self._jobs.values():
            for item in job.inputs:
                found.setdefault(item.name, []).append(item)
        return found


_ENDED = {"complete": "complete", "reset": "reset by origin", "gone": "lost: server killed"}
_CAUSE = {"complete": "end", "reset": "reset", "gone": "kill"}


def _offset(request: Request) -> int:
    return int((request.range or "bytes=0-").removeprefix("bytes=").removesuffix("-"))


def show(out: Console, play: Play) -> bool:
    """Print the report; True if everything came out as claimed."""
    return Report(out, play).show()
