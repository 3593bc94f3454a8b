"""A batch system as three commands: submit, status, cancel."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from stager.errors import CommandFailedError
from stager.mapper.dispatch.prepare import INHERITED
from stager.mapper.dispatch.template import CommandTemplate, Value

log = logging.getLogger(__name__)

ANSWER_SECONDS = 60.0
"""Longest wait for one command; a scheduler under load takes its time."""
IDS_AT_ONCE = 500
"""Batch ids in one call of the status command; a command line holds many more."""
SUBMIT_NAMES = ("job", "epoch", "name", "owner", "directory", "script", "stdout", "stderr")
STATUS_NAMES = ("batch_ids", "batch_id")
CANCEL_NAMES = ("batch_id", "job", "epoch", "owner")
CONFIGURED = ("SLURM_CONF", "PBS_", "SGE_", "CONDOR_", "_CONDOR_", "LSF_", "KRB5")
"""Beginnings of the variables by which the commands find their batch system; no others of the server's reach it."""
_ID = re.compile(r"[0-9A-Za-z][\w.:@\[\]-]*")
_NUMBER = re.compile(r"\b[0-9]+(?:\.[0-9]+)*\b")
_NUMBERED = re.compile(r"([0-9]+)(?:[.\[_].*)?")


def batch_id_of(said: str) -> str | None:
    """The batch id in what a submit command prints: its last line if that is one word, else the last number there."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if not lines:
        return None
    if len(lines[-1].split()) == 1:
        found = lines[-1].partition(";")[0]  # sbatch --parsable adds the cluster
        return found if _ID.fullmatch(found) else None
    numbers = _NUMBER.findall(lines[-1])
    return numbers[-1] if numbers else None


def same_id(batch_id: str) -> str:
    """What is equal for two spellings of one id, such as ``17``, ``17.0`` and ``17.headnode``."""
    match = _NUMBERED.fullmatch(batch_id)
    return match.group(1) if match else batch_id


class BatchSystem:
    """Runs the commands of the site; none of them sees a shell, or the server's variables.

    Args:
        submit: template of the command that takes a script and prints a batch id.
        status: template of the command that prints the ids which are not over, each first in its line.
        cancel: template of the command that ends one.

    Raises:
        SettingsError: a template that makes no sense.
    """

    def __init__(self, *, submit: str, status: str, cancel: str) -> None:
        self._submit = CommandTemplate("dispatch_submit", submit, SUBMIT_NAMES)
        self._status = CommandTemplate("dispatch_status", status, STATUS_NAMES)
        self._cancel = CommandTemplate("dispatch_cancel", cancel, CANCEL_NAMES)
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._closed = False

    def submit(self, values: Mapping[str, Value], directory: Path) -> str:
        """Hand over a script; its batch id.

        Raises:
            CommandFailedError: the batch system did not take it, or took it and could not say so.
        """
        command = self._submit.words(values)
        status, said, complaint = self._run(command, directory)
        if status != 0:
            raise CommandFailedError(
                f"{command[0]} did not take the job",
                cause=_first_line(complaint) or f"status {status}",
                remedy="see the setting dispatch_submit",
                exit_code=status,
            )
        found = batch_id_of(said)
        if found is None:
            raise CommandFailedError(
                f"{command[0]} printed no batch id",
                cause=f"it said {_first_line(said)!r}",
                remedy="let dispatch_submit print the id alone",
            )
        return found

    def over(self, batch_ids: Collection[str]) -> set[str]:
        """Those of the ids that the batch system does not have any more; those it would not tell of are not among them.

        An id is over when the status command succeeds without printing it, or names it in a complaint.
        """
        found: set[str] = set()
        if "batch_id" in self._status.names:
            for one in batch_ids:
                found |= self._over([one], {"batch_id": one, "batch_ids": [one]})
            return found
        asked = sorted(batch_ids)
        size = IDS_AT_ONCE if "batch_ids" in self._status.names else max(len(asked), 1)
        for first in range(0, len(asked), size):
            some = asked[first : first + size]
            found |= self._over(some, {"batch_ids": some})
        return found

    def cancel(self, values: Mapping[str, Value]) -> None:
        """End one.

        Raises:
            CommandFailedError: the command failed; the job may be over already.
        """
        command = self._cancel.words(values)
        status, _, complaint = self._run(command, None)
        if status != 0:
            raise CommandFailedError(
                f"{command[0]} did not cancel {values['batch_id']}",
                cause=_first_line(complaint) or f"status {status}",
                exit_code=status,
            )

    def close(self) -> None:
        """End commands that run; a submission cut short is made again by the next server, and does no harm."""
        with self._lock:
            self._closed = True
            for process in self._running:
                process.kill()

    def _over(self, asked: Sequence[str], values: Mapping[str, Value]) -> set[str]:
        command = self._status.words(values)
        try:
            status, said, complaint = self._run(command, None)
        except CommandFailedError as error:
            log.warning("the batch system tells nothing of its jobs: %s", error)
            return set()
        there = {same_id(line.split()[0]) for line in said.splitlines() if line.strip()}
        missing = {one for one in asked if same_id(one) not in there}
        if status == 0:
            return missing
        named = {same_id(word.strip(".,:;'\"()")) for word in complaint.split()}
        unknown = {one for one in missing if same_id(one) in named}
        if not unknown:
            log.warning(
                "the batch system tells nothing of its jobs: %s: %s",
                command[0],
                _first_line(complaint) or f"status {status}",
            )
        return unknown

    def _run(self, command: list[str], directory: Path | None) -> tuple[int, str, str]:
        try:
            with self._lock:
                if self._closed:
                    raise CommandFailedError(f"{command[0]} was not run", cause="the server is stopping")
                process = subprocess.Popen(  # noqa: S603 - the command is the site's, as it has to be
                    command,
                    cwd=directory,
                    env=_variables(os.environ),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    errors="replace",
                    start_new_session=True,
                )
                self._running.add(process)
        except OSError as error:
            raise CommandFailedError(
                f"{command[0]} can't be run",
                cause=error.strerror or str(error),
                remedy="check the settings dispatch_*, and PATH",
            ) from None
        with process:
            try:
                said, complaint = process.communicate(timeout=ANSWER_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise CommandFailedError(
                    f"{command[0]} did not answer", cause=f"within {ANSWER_SECONDS:.0f} s"
                ) from None
            finally:
                with self._lock:
                    self._running.discard(process)
        return process.returncode, said, complaint


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in environment.items() if k in INHERITED or k.startswith(CONFIGURED)}


def _first_line(text: str) -> str:
    lines: Iterable[str] = (line.strip() for line in text.splitlines())
    return next((line for line in lines if line), "")[:300]
