"""Stand-ins for Slurm, OpenPBS and HTCondor: their commands, as far as a job goes through them.

They take the options that the real commands take and refuse others, print what those print, end with
their statuses, and run each script in the background in an environment of its own: not that of whoever
submitted it. The state is a directory: one JSON file a job that is not over. While it holds a file
``hold`` no job starts.

    python standin.py SPOOL COMMAND ARGUMENTS...
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

KILL_WAIT_SECONDS = 5.0
"""From SIGTERM to SIGKILL, as the site set it."""
UNKNOWN = 153
"""PBS's status for an unknown job."""


def refuse(text: str, status: int = 1) -> None:
    """End as the real command does."""
    sys.stderr.write(text + "\n")
    sys.exit(status)


def say(text: object) -> None:
    """A line on stdout."""
    sys.stdout.write(f"{text}\n")


class Spool:
    """The jobs that are not over."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, script: Path, variables: dict[str, str], out: str, err: str, copy: bool) -> int:
        number = self._number()
        if not script.read_bytes().startswith(b"#!") or not os.access(script, os.X_OK):
            refuse(f"{script} is not a script that can be run")
        if copy:
            script = Path(shutil.copy(script, self.path / f"{number}.script"))
        ids = {name: value.format(number) for name, value in variables.items()}
        job = {"script": str(script), "variables": ids, "out": out, "err": err, "state": "PD", "pid": 0}
        self.write(number, job)
        node = [sys.executable, __file__, str(self.path), "node", str(number)]
        clean = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "NODE": "yes", "TMPDIR": str(self.path)}
        subprocess.Popen(
            node,
            env=clean,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return number

    def _number(self) -> int:
        number = 17
        while True:
            try:
                os.close(os.open(self.path / f"{number}.taken", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                number += 1
            else:
                return number

    def write(self, number: int, job: dict[str, object]) -> None:
        draft = self.path / f"{number}.draft{os.getpid()}"
        draft.write_text(json.dumps(job))
        draft.rename(self.path / f"{number}.job")

    def job(self, number: int) -> dict[str, object] | None:
        try:
            found: dict[str, object] = json.loads((self.path / f"{number}.job").read_text())
        except FileNotFoundError:
            return None
        return found

    def numbers(self) -> list[int]:
        return sorted(int(path.stem) for path in self.path.glob("*.job"))

    def cancel(self, number: int) -> bool:
        (self.path / f"{number}.cancel").touch()
        return self.job(number) is not None

    def run(self, number: int) -> None:
        """The node's part: wait for the turn, run the script, end it when asked."""
        cancelled = self.path / f"{number}.cancel"
        while (self.path / "hold").exists() and not cancelled.exists():
            time.sleep(0.01)
        job = self.job(number)
        assert job is not None
        if not cancelled.exists():
            variables = dict(os.environ) | job["variables"]  # type: ignore[operator]
            with Path(str(job["out"])).open("ab") as out, Path(str(job["err"])).open("ab") as err:
                process = subprocess.Popen(
                    [str(job["script"])], env=variables, stdout=out, stderr=err, start_new_session=True
                )
            self.write(number, job | {"state": "R", "pid": process.pid})
            asked = 0.0
            while process.poll() is None:
                if cancelled.exists() and not asked:
                    asked = time.monotonic()
                    os.killpg(process.pid, signal.SIGTERM)
                    with Path(str(job["err"])).open("a") as err_text:
                        err_text.write(f"node: *** JOB {number} CANCELLED ***\n")
                elif asked and time.monotonic() - asked > KILL_WAIT_SECONDS:
                    os.killpg(process.pid, signal.SIGKILL)
                time.sleep(0.01)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        (self.path / f"{number}.job").unlink()


def options(arguments: list[str], *, values: set[str], flags: set[str]) -> tuple[dict[str, str], list[str]]:
    """Options and what is left; an unknown one is refused."""
    found: dict[str, str] = {}
    waiting = list(arguments)
    while waiting and waiting[0].startswith("-"):
        name, is_given, value = waiting.pop(0).partition("=")
        if name in flags:
            found[name] = ""
        elif name in values:
            found[name] = value if is_given else waiting.pop(0)
        else:
            refuse(f"unrecognized option '{name}'")
    return found, waiting


# -- Slurm ---------------------------------------------------------------------------------------


def sbatch(spool: Spool, arguments: list[str]) -> None:
    known = {"--export", "--open-mode", "--job-name", "--comment", "--output", "--error"}
    given, rest = options(arguments, values=known, flags={"--parsable", "--no-requeue"})
    variables = {"SLURM_JOB_ID": "{}", "SLURM_CPUS_ON_NODE": "1"}
    number = spool.add(Path(rest[0]), variables, given["--output"], given["--error"], copy=True)
    say(number if "--parsable" in given else f"Submitted batch job {number}")


def squeue(spool: Spool, arguments: list[str]) -> None:
    given, _ = options(arguments, values={"--format", "--jobs"}, flags={"--noheader", "--me"})
    there = spool.numbers()
    if "--jobs" in given:
        asked = [int(number) for number in given["--jobs"].split(",")]
        if len(asked) == 1 and asked[0] not in there:
            refuse("slurm_load_jobs error: Invalid job id specified")
        there = [number for number in there if number in asked]
    if "--noheader" not in given:
        say("JOBID")
    for number in there:
        say(number)


def scancel(spool: Spool, arguments: list[str]) -> None:
    for word in arguments:
        if not spool.cancel(int(word)):
            sys.stderr.write(f"scancel: error: Kill job error on job id {word}: Invalid job id specified\n")
            sys.exit(1)


# -- OpenPBS -------------------------------------------------------------------------------------


def qsub(spool: Spool, arguments: list[str]) -> None:
    given, rest = options(arguments, values={"-N", "-o", "-e", "-r", "-l"}, flags=set())
    number = spool.add(Path(rest[0]), {"PBS_JOBID": "{}.pbs"}, given["-o"], given["-e"], copy=True)
    say(f"{number}.pbs")


def qstat(spool: Spool, arguments: list[str]) -> None:
    there = spool.numbers()
    asked = [int(word.partition(".")[0]) for word in arguments] or there
    found = [number for number in asked if number in there]
    if found:
        say("Job id            Name             User              Time Use S Queue")
        say("----------------  ---------------- ----------------  -------- - -----")
    for number in found:
        state = "R" if (spool.job(number) or {}).get("state") == "R" else "Q"
        say(f"{f'{number}.pbs':<18}{'stager':<17}{getpass.getuser():<18}00:00:00 {state} workq")
    for number in asked:
        if number not in there:
            sys.stderr.write(f"qstat: Unknown Job Id {number}.pbs\n")
    sys.exit(UNKNOWN if len(found) < len(asked) else 0)


def qdel(spool: Spool, arguments: list[str]) -> None:
    for word in arguments:
        if not spool.cancel(int(word.partition(".")[0])):
            refuse(f"qdel: Unknown Job Id {word}", UNKNOWN)


# -- HTCondor ------------------------------------------------------------------------------------


def condor_submit(spool: Spool, arguments: list[str]) -> None:
    given, rest = options(arguments, values=set(), flags={"-terse"})
    macros: dict[str, str] = {}
    for word in rest:
        lines = [word] if "=" in word else Path(word).read_text().splitlines()
        for line in lines:
            name, is_given, value = line.partition("=")
            if is_given and not line.lstrip().startswith("#"):
                macros[name.strip().lower()] = value.strip()
    for _ in range(3):
        for name, value in macros.items():
            for other, text in macros.items():
                value = value.replace(f"$({other})", text)  # noqa: PLW2901
            macros[name] = value
    variables = dict(
        pair.split("=", 1) for pair in macros.get("environment", "").strip('"').split() if "=" in pair
    )
    variables = {name: value.replace("$(ClusterId)", "{}") for name, value in variables.items()}
    number = spool.add(Path(macros["executable"]), variables, macros["output"], macros["error"], copy=False)
    if "-terse" in given:
        say(f"{number}.0 - {number}.0")
    else:
        say(f"Submitting job(s).\n1 job(s) submitted to cluster {number}.")


def condor_q(spool: Spool, arguments: list[str]) -> None:
    given, _ = options(arguments, values={"-autoformat"}, flags=set())
    assert given == {"-autoformat": "ClusterId"}
    for number in spool.numbers():
        say(number)


def condor_rm(spool: Spool, arguments: list[str]) -> None:
    for word in arguments:
        number = int(word.partition(".")[0])
        if not spool.cancel(number):
            refuse(f"Couldn't find/remove all jobs in cluster {number}")
        say(f"All jobs in cluster {number} have been marked for removal")


COMMANDS = (sbatch, squeue, scancel, qsub, qstat, qdel, condor_submit, condor_q, condor_rm)


def main() -> None:
    """See the module."""
    spool = Spool(Path(sys.argv[1]))
    if sys.argv[2] == "node":
        spool.run(int(sys.argv[3]))
        return
    next(one for one in COMMANDS if one.__name__ == sys.argv[2])(spool, sys.argv[3:])


if __name__ == "__main__":
    main()
