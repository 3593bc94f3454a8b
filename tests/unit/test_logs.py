"""Logs: their form, and what they never hold."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from stager.logs import Redaction, logging_to
from stager.model.redaction import SECRET_NAME, redacted_text

SECRET = "hunter2-hunter2"


@contextmanager
def log_of(form: str, level: str = "info") -> Iterator[io.StringIO]:
    stream = io.StringIO()
    with logging_to(stream, level, form, Redaction(redacted_text, SECRET_NAME.fullmatch)):
        yield stream


@pytest.mark.parametrize(
    "text",
    [
        f"https://user:{SECRET}@h/x",
        f"https://h/x?X-Amz-Signature={SECRET}&a=1",
        f"see https://h/x?token={SECRET}.",
        f"ftp://user:{SECRET}@h/x",
        f"Authorization: Bearer {SECRET}",
        f"authorization=Basic {SECRET}",
        f"{{'Authorization': 'Bearer {SECRET}'}}",
        f"sent bearer {SECRET} to h",
        f"Cookie: {SECRET}",
        f"--api-key={SECRET}",
        f'{{"password": "{SECRET}"}}',
    ],
)
def test_a_secret_in_any_text_is_hidden(text: str) -> None:
    assert SECRET not in redacted_text(text)
    assert "***" in redacted_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "job 6h085m4kmqd43 is done",
        "https://h/x?a=1&b=2",
        "the server did not accept the token",
        "bearer of news",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted_text(text) == text


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_value_of_a_record_escapes(form: str) -> None:
    log = logging.getLogger("stager.somewhere")
    more = {"password": SECRET, "more": [f"token={SECRET}"]}
    with log_of(form) as stream:
        log.warning("fetching %s", f"https://h/x?token={SECRET}", extra=more)
        try:
            int(f"Authorization: Bearer {SECRET}")
        except ValueError:
            log.exception("failed")
    assert SECRET not in stream.getvalue()
    assert "fetching https://h/x?token=***" in stream.getvalue()
    assert "ValueError" in stream.getvalue()


def test_json_is_one_object_per_line_with_time_level_and_logger() -> None:
    with log_of("auto") as stream:  # a file is no terminal
        logging.getLogger("stager.x").error("it is %s", "so", extra={"job": "j"})
    (line,) = stream.getvalue().splitlines()
    found = json.loads(line)
    assert found["timestamp"].endswith("Z")
    del found["timestamp"]
    assert found == {"event": "it is so", "level": "error", "logger": "stager.x", "job": "j"}


def test_what_is_below_the_level_is_left_out() -> None:
    with log_of("text", "warning") as stream:
        logging.getLogger("stager.x").info("no")
        logging.getLogger("stager.x").warning("yes")
    assert "yes" in stream.getvalue()
    assert "no" not in stream.getvalue()


def test_afterwards_the_log_is_as_it_was() -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.getLogger("asyncio").level
    with log_of("text", "error"):
        assert root.handlers != before[0]
    assert (root.handlers[:], root.level, logging.getLogger("asyncio").level) == before
