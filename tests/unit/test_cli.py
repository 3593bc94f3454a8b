from __future__ import annotations

import io
import logging
import signal
import sys
from typing import Any

import pytest

import stager
from stager import errors
from stager.cli import cache, output
from stager.cli.exit_codes import BY_ERROR, Exit, exit_code
from tests.support.commandline import Here


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(capsys)


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(error: BaseException) -> None:
        def fail(_directory: object) -> None:
            logging.getLogger("stager.test").error("a log line")
            raise error

        monkeypatch.setattr(cache, "_open", fail)

    return use


def test_the_version_is_printed(run: Here) -> None:
    assert run("--version") == (0, f"stager {stager.__version__}\n", "")


def test_without_a_command_the_help_is_shown(run: Here) -> None:
    done = run()
    assert done.code == Exit.USAGE
    assert "fetch" in done.out
    assert done.err == ""


def test_an_unknown_command_is_wrong_usage(run: Here) -> None:
    assert run("fletch").code == Exit.USAGE


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InputError("w"), 2),
        (errors.SettingsError("w"), 2),
        (errors.NotFoundError("w"), 3),
        (errors.ServerUnreachableError("w"), 4),
        (errors.AccessDeniedError("w"), 4),
        (errors.LayoutVersionError("w"), 5),
        (errors.StateError("w"), 5),
        (errors.ConflictError("w"), 6),
        (errors.ServerBusyError("w"), 6),
        (TimeoutError(), 7),
        (errors.CommandFailedError("w"), 1),
        (errors.OriginRefusedError("w"), 1),
        (ZeroDivisionError(), 70),
    ],
)
def test_every_kind_of_error_has_its_exit_code(error: BaseException, code: int) -> None:
    assert exit_code(error) == code


def test_exit_codes_are_explained_each() -> None:
    assert set(BY_ERROR.values()) <= set(Exit)
    assert len({int(code) for code in Exit}) == len(Exit)


def test_an_error_is_one_line_whatever_its_text(run: Here, raising: Any) -> None:
    raising(errors.StateError("a\nb\x1b[31m", cause="c", remedy="d"))
    done = run("cache", "path", "key")
    assert (done.code, done.error) == (5, "stager: a b [31m: c; d")


def test_a_fault_of_the_program_says_how_to_see_more_and_debug_shows_it(run: Here, raising: Any) -> None:
    raising(ZeroDivisionError("of the test"))
    done = run("cache", "path", "key")
    assert done.code == Exit.INTERNAL
    assert "ZeroDivisionError: of the test" in done.error
    assert "--debug" in done.error
    debug = run("--debug", "cache", "path", "key")
    assert "Traceback" in debug.err
    assert debug.code == Exit.INTERNAL


def test_an_interrupt_ends_with_its_code_and_what_the_command_says_of_it(run: Here, raising: Any) -> None:
    raising(KeyboardInterrupt("all is kept"))
    assert run("cache", "path", "key") == (130, "", "stager: interrupted: all is kept\n")


def test_a_timeout_has_its_code(run: Here, raising: Any) -> None:
    raising(TimeoutError())
    assert run("cache", "path", "key") == (7, "", "stager: timed out\n")


def test_the_handler_of_sigterm_is_put_back(run: Here) -> None:
    before = signal.getsignal(signal.SIGTERM)
    run("--version")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (4096, "4.0 KiB"), (5 << 30, "5.0 GiB"), (2 << 60, "2048.0 PiB")],
)
def test_sizes_are_shown_in_binary_units(count: int, text: str) -> None:
    assert output.size(count) == text


def test_a_line_for_people_is_written_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log line of another thread may come between two pieces."""
    pieces: list[str] = []
    stream = io.StringIO()
    monkeypatch.setattr(stream, "write", pieces.append)
    monkeypatch.setattr(sys, "stderr", stream)
    output.note("ready at\nhttp://h/")
    assert pieces == ["stager: ready at http://h/\n"]
