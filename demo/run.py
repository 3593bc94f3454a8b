"""The main job, end to end, on real bytes over a real socket.

    make demo    or    python demo/run.py [--quick] [--keep]
    make farm    or    python demo/run.py --farm [--stay] [--quick] [--keep]

It starts an origin that misbehaves, a real server, submits jobs that share inputs, kills the server
half-way, starts it again, and at the end checks everything that it claims. With --farm Redis, the
workers of a data node and of a compute node, and Flower run beside the server, and a worker is killed
too. It needs no root and no network beyond the loopback; all it writes is in a temporary directory that
is gone afterwards. The data are SIMULATED neutron-reflectometry runs.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from types import FrameType
from typing import TYPE_CHECKING

import report
import simulate
from processes import DemoError, Origin, Server, orphans_ended
from show import Scene, Stage, console, stage
from stager.errors import ServerUnreachableError

if TYPE_CHECKING:
    from farm import Farm

PROGRAMS = Path(__file__).parent
MIB = 1 << 20
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOOK_SECONDS = 0.15
PATIENCE_SECONDS = 90.0
"""Longest wait for one thing to happen."""


@dataclass(frozen=True)
class Scale:
    """How much there is to do.

    Attributes:
        event_bytes: size of the large file.
        event_rate: at which the origin sends it, bytes/s.
        run_rate: at which the origin sends all others, bytes/s.
        resamples: of the fit.
    """

    event_bytes: int
    event_rate: int
    run_rate: int
    resamples: int


FULL = Scale(event_bytes=48 * MIB, event_rate=5 * MIB // 2, run_rate=1500, resamples=60)
QUICK = Scale(event_bytes=6 * MIB, event_rate=3 * MIB // 2, run_rate=8000, resamples=4)
RESET_AT, KILL_AT = 0.2, 0.33
"""Parts of the large file: the origin resets the connection; who transfers it is killed."""
FARM_SERVER_KILL_AT = 0.55
"""With a farm the server is killed too, later."""
WITHOUT_SERVER = 0.05
"""So much of the large file arrives at a farm before the server is started again."""


class Play:
    """The story. Each act waits for what it needs to see, never for a time."""

    def __init__(
        self, files: Path, origin: Origin, server: Server, on: Stage, scale: Scale, farm: Farm | None
    ) -> None:
        self.files = files
        self.origin = origin
        self.server = server
        self.farm = farm
        self.scene = Scene()
        self._on = on
        self._scale = scale
        self._ids: list[str] = []
        self.killed_at = 0.0
        self.restart_seconds = 0.0
        self.without_server = 0
        self.workers: list[str] = []

    def run(self) -> None:
        """All acts."""
        self._introduce()
        self._submit()
        if self.farm is not None:
            self._kill_worker(self.farm)
        self._kill_and_restart()
        self._change_calibration()
        self._approve()
        self._on.say("Now the rest: the large file to its end, and the two jobs that wait for it.")
        self._until(lambda: all(job.state.is_final for job in self.scene.jobs.values()))

    def _introduce(self) -> None:
        self._on.say(
            f"An origin at {self.origin.url} serves SIMULATED neutron-reflectometry runs, slowly.\n"
            f"A Stager server at {self.server.client.url} stages them for its jobs; all its settings:"
        )
        self._command(*(f"{name}={value}" for name, value in self.server.settings.items()), "stager", "serve")
        if self.farm is not None:
            self._on.say(
                "It hands the fetches to the workers of a data node, and the jobs to that of a compute node.\n"
                f"Flower shows them at {self.farm.flower_url} (user {self.farm.flower_user}, "
                f"password {self.farm.flower_password})."
            )
            for card in self.farm.workers():
                self._on.say(f"worker {card.name.rpartition('/')[0]}: {card.threads} threads, pid {card.pid}")

    def _submit(self) -> None:
        self._on.say(
            "Jobs that share inputs: a file that several need is fetched once, and each job starts the\n"
            "moment its last input is in. One also waits for somebody's word: beamtime-approved."
        )
        jobs = self.server.root / "jobs.toml"
        template = Template((PROGRAMS / "jobs.toml").read_text("utf-8"))
        jobs.write_text(
            template.safe_substitute(
                ORIGIN=self.origin.url,
                PYTHON=sys.executable,
                PROGRAMS=PROGRAMS,
                RESAMPLES=self._scale.resamples,
                EVENTS_SHA256=simulate.digest(self.files / "events.bin"),
            ),
            "utf-8",
        )
        self._ids += self._stager("submit", str(jobs)).split()
        self._on.say(
            f"The origin will reset the connection at {RESET_AT:.0%} of events.bin. Watch it being resumed."
        )

    def _kill_worker(self, farm: Farm) -> None:
        self._until(lambda: self._fraction() > KILL_AT)
        self._on.say(
            "kill -9 of the worker that has events.bin in hand. Its lease runs out, and another one goes on."
        )
        fetch = self.scene.input("count", "events.bin").fetch
        killed = farm.kill_holder(fetch)
        self._on.command(f"kill -9 {killed.pid}")
        self._until(lambda: farm.holder(fetch) not in {None, killed})
        heir = farm.holder(fetch)
        self.workers = [one.name.partition("/")[0] for one in (killed, heir) if one is not None]

    def _kill_and_restart(self) -> None:
        self._until(lambda: self._fraction() > (FARM_SERVER_KILL_AT if self.farm else KILL_AT))
        self._on.say("kill -9 of the server, in the middle of it all. Jobs that run go on without it.")
        self.killed_at = time.time()
        pid = self.server.kill()
        self._on.command(f"kill -9 {pid}")
        self._look()
        if self.farm is not None:
            self._on.say("The data node goes on without it.")
            before = self._partial_bytes()
            self._until(lambda: self._partial_bytes() - before > WITHOUT_SERVER * self._scale.event_bytes)
            self.without_server = self._partial_bytes() - before
        began = time.monotonic()
        self._on.say(
            "Start it again. It finds its jobs, what they wait for, and the part of the file it has."
        )
        self._on.command("stager serve")
        self.server.start()
        self.restart_seconds = time.monotonic() - began

    def _change_calibration(self) -> None:
        self._until(lambda: self.scene.jobs["stitch"].state.is_final)
        simulate.write_calibration(self.files, simulate.EFFICIENCY, "this morning")
        self._on.say(
            "The origin now has a new calibration under the same URL. The same job again: the runs are\n"
            "at hand and cost nothing; the origin is asked whether the calibration changed, and it has."
        )
        names = [item.name for item in self.scene.jobs["stitch"].inputs]
        options = [f"--input={self.origin.url}/{name}" for name in names]
        options += ["--name=stitch-again", "--env=PYTHONUTF8=1"]
        program = [sys.executable, str(PROGRAMS / "stitch.py")]
        self._ids += self._stager("submit", *options, "--", *program).split()
        self._until(lambda: self.scene.jobs["stitch-again"].state.is_final)

    def _approve(self) -> None:
        self._until(lambda: self.scene.jobs["plan"].waits_for == ["beamtime-approved"])
        self._on.say("Somebody gives the word; the job that waits for it starts within milliseconds.")
        self._stager("met", "beamtime-approved")
        self._until(lambda: self.scene.jobs["plan"].state.is_final)

    # -- parts ----------------------------------------------------------------------------------

    def _stager(self, *arguments: str) -> str:
        self._command("stager", *arguments)
        return self.server.command(*arguments)

    def _command(self, *words: str) -> None:
        """Show a command, with the long names in it cut short."""
        line = shlex.join(words)
        for long, short in (
            (sys.executable, "python"),
            (str(PROGRAMS), "demo"),
            (f"{self.server.root}/", ""),
            (self.origin.url, "$ORIGIN"),
        ):
            line = line.replace(long, short)
        self._on.command(line)

    def _until(self, true: Callable[[], bool]) -> None:
        """Look and show until something is true."""
        latest = time.monotonic() + PATIENCE_SECONDS
        while True:
            self._look()
            if true():
                return
            if time.monotonic() > latest:
                raise DemoError(f"it takes too long; the server says:\n{self.server.log_tail()}")
            time.sleep(LOOK_SECONDS)

    def _look(self) -> None:
        try:
            for job in self._ids:
                known = next((one for one in self.scene.jobs.values() if one.id == job), None)
                if known is None or not known.state.is_final:
                    found = self.server.client.jobs.show(job)
                    self.scene.jobs[found.name] = found
            self.scene.up = True
        except ServerUnreachableError:
            self.scene.up = False
        self._on.draw(self.scene)

    def _partial_bytes(self) -> int:
        """Of the largest file that is on its way, as it is on disk."""
        partial = self.server.cache / "partial"
        return max((path.stat().st_size for path in partial.rglob("*") if path.is_file()), default=0)

    def _fraction(self) -> float:
        events = self.scene.input("count", "events.bin")
        return events.received / self._scale.event_bytes


def main() -> int:
    """The command line; the status is 0 if everything came out as claimed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="less data, in a few seconds")
    parser.add_argument(
        "--farm", action="store_true", help="with workers, Redis and Flower beside the server"
    )
    parser.add_argument("--stay", action="store_true", help="with --farm: go on running until Ctrl-C")
    parser.add_argument("--keep", action="store_true", help="keep the directory with everything in it")
    options = parser.parse_args()
    for number in ENDINGS:
        signal.signal(number, _interrupt)
    try:
        with _directory(keep=options.keep) as root, orphans_ended():
            return _demo(root, QUICK if options.quick else FULL, farm=options.farm, stay=options.stay)
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("\ninterrupted; all processes are ended", file=sys.stderr)
        return 130
    except DemoError as error:
        print(f"\nthe demo failed: {error}", file=sys.stderr)
        return 1


def _demo(root: Path, scale: Scale, *, farm: bool, stay: bool) -> int:
    out = console()
    files = root / "origin"
    files.mkdir()
    simulate.simulate(files, scale.event_bytes)
    behaviour = [
        f"--rate={scale.run_rate}",
        f"--slow=events.bin={scale.event_rate}",
        f"--reset=events.bin={int(RESET_AT * scale.event_bytes)}",
        "--no-cache=calibration.txt",
    ]
    with ExitStack() as running:
        origin = running.enter_context(Origin(files, root / "requests.jsonl", behaviour))
        parts = _start_farm(root, running) if farm else None
        server = running.enter_context(Server(root, parts.settings if parts else {}))
        with stage(out) as on:
            play = Play(files, origin, server, on, scale, parts)
            play.run()
        status = 0 if report.show(out, play) else 1
        if stay and parts is not None:
            _stay(server, parts)
        return status


def _start_farm(root: Path, running: ExitStack) -> Farm:
    from farm import Farm  # the parts of a farm need more packages

    print("Starting Redis, the workers and Flower; each is asked whether it works ...", flush=True)
    return running.enter_context(Farm(root))


def _stay(server: Server, farm: Farm) -> None:
    """Let people try it, until Ctrl-C."""
    for name, value in server.settings.items():
        print(f"export {name}={shlex.quote(value)}")
    print("\nAll of it goes on running; with the lines above `stager submit` and the others find it.")
    print(f"Flower: {farm.flower_url} (user {farm.flower_user}, password {farm.flower_password})")
    print("Ctrl-C ends everything.", flush=True)
    signal.pause()


@contextmanager
def _directory(*, keep: bool) -> Iterator[Path]:
    """A new directory for everything the demo writes."""
    root = Path(tempfile.mkdtemp(prefix="stager-demo-"))
    try:
        yield root
    finally:
        if keep:
            print(f"kept: {root}")
        else:
            shutil.rmtree(root)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for number in ENDINGS:
        signal.signal(number, signal.SIG_IGN)  # impatience must not break off the tidying up
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
