"""Which commands there are, and what becomes of their errors."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any

import typer

from stager import __version__
from stager.cli import (
    audit,
    backup,
    cache,
    credentials,
    doctor,
    events,
    fetch,
    fetch_process,
    grants,
    jobs,
    logs,
    met,
    node,
    origins,
    output,
    results,
    serve,
    stage,
    submit,
    token,
    ui,
    user,
    wait,
    worker,
    workers,
)
from stager.cli import run as run_
from stager.cli.exit_codes import Exit, exit_code
from stager.cli.jobspec import CommandAfterDashes
from stager.errors import StagerError


def build(seen: dict[str, bool]) -> typer.Typer:
    """The commands; what the global options say goes into `seen`."""
    app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=_HELP)

    @app.callback()
    def stager(
        _version: Annotated[
            bool,
            typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version),
        ] = False,
        debug: Annotated[bool, typer.Option("--debug", help="Show where an error arose.")] = False,
    ) -> None:
        seen["debug"] = debug
        if not debug:  # an error is one line; what led to it is shown on demand
            import logging

            logging.getLogger("stager").addHandler(logging.NullHandler())

    for command in COMMANDS:
        app.command()(_held(command))
    for command in WITH_COMMAND:
        app.command(cls=CommandAfterDashes)(_held(command))
    for command in HIDDEN:
        app.command(hidden=True)(_held(command))
    for module in GROUPS:
        group = typer.Typer(no_args_is_help=True, help=module.__doc__)
        for command in module.COMMANDS:
            group.command(command.__name__.removesuffix("_").replace("_", "-"))(_held(command))
        app.add_typer(group, name=module.__name__.rpartition(".")[2])
    return app


COMMANDS: tuple[Callable[..., int | None], ...] = (
    fetch.fetch,
    serve.serve,
    jobs.jobs,
    jobs.job,
    wait.wait,
    wait.cancel,
    wait.retry,
    met.met,
    met.unmet,
    events.events,
    logs.logs,
    workers.workers,
    origins.origins,
    ui.ui,
    stage.stage,
    stage.staged,
    stage.unstage,
    doctor.doctor,
    audit.audit,
    backup.backup,
    backup.restore,
)
WITH_COMMAND: tuple[Callable[..., int | None], ...] = (submit.submit, run_.run, worker.worker)
"""They take a command of the user's, or options for another program, after ``--``."""
HIDDEN: tuple[Callable[..., int | None], ...] = (fetch_process.fetch_process,)
"""They are for the server, not for people."""
GROUPS = (results, cache, node, credentials, grants, user, token)


_HELP = """Stages the inputs of jobs: fetched once, verified, cached."""


def _print_version(asked: bool) -> None:
    if asked:
        output.line(f"stager {__version__}")
        raise typer.Exit


def run(arguments: Sequence[str] | None) -> int:
    """See `stager.cli.main`."""
    seen = {"debug": False}
    sys.stdout.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]  # paths are bytes, and go out as they are
    with _sigterm_interrupts():
        try:
            ended = build(seen)(arguments, prog_name="stager", standalone_mode=False)
            sys.stdout.flush()
        except typer.TyperException as error:
            return _wrong_usage(error)
        except BrokenPipeError as error:
            ended = error
    return _report(ended, debug=seen["debug"]) if isinstance(ended, BaseException) else int(ended or 0)


def _held(command: Callable[..., int | None]) -> Callable[..., int | BaseException | None]:
    """The command, returning what it raises: typer would treat some of it in its own way."""

    @functools.wraps(command)
    def held(*args: Any, **kwargs: Any) -> int | BaseException | None:
        try:
            return command(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - reported by `run`
            return error

    return held


def _report(error: BaseException, *, debug: bool) -> Exit:
    """Tell the user what happened, in one line."""
    if debug and not isinstance(error, BrokenPipeError):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, BrokenPipeError):
        # The reader has seen enough. What is still buffered has nowhere to go; the interpreter would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.PIPE
    if isinstance(error, KeyboardInterrupt):
        output.note(f"interrupted: {error}" if error.args else "interrupted")
        return Exit.INTERRUPTED
    code = exit_code(error)
    if code is Exit.INTERNAL:
        output.note(
            f"internal error: {type(error).__name__}: {error}; `stager --debug ...` shows where it arose"
        )
    else:
        output.note(str(error) if isinstance(error, StagerError) or error.args else "timed out")
    return code


def _wrong_usage(error: typer.TyperException) -> Exit:
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "stager"
    message = " ".join(error.format_message().split()).rstrip(".")
    if message:  # otherwise it was no command at all, and the help was printed
        output.note(f"{message}; see `{path} --help`")
    return Exit.USAGE


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM end a command in the same orderly way as Ctrl-C."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
