"""Logs: text on a terminal, JSON elsewhere, secrets nowhere.

All code logs with the standard library's `logging`; here its records are given their form. Where a
record's values go out, one processor redacts all of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO

import structlog

Hide = Callable[[str], str]
"""Takes the secrets out of a text."""


class Redaction:
    """The processor through which every value goes: message, arguments, tracebacks.

    Args:
        hide_text: for texts.
        is_secret: whether a value is hidden whole because of its name.
    """

    def __init__(self, hide_text: Hide, is_secret: Callable[[str], object]) -> None:
        self._hide = hide_text
        self._is_secret = is_secret

    def __call__(
        self, _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """See structlog's processors."""
        return {key: self._value(key, value) for key, value in event.items()}

    def _value(self, key: str, value: Any) -> Any:
        if key.startswith("_"):  # structlog's own
            return value
        if self._is_secret(key):
            return "***"
        if isinstance(value, str):
            return self._hide(value)
        if isinstance(value, dict):
            return {k: self._value(str(k), v) for k, v in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._value("", v) for v in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        return self._hide(str(value))


def configure(level: str, form: str, stream: TextIO, redaction: Redaction) -> None:
    """Send what the process logs, from `level` up, to `stream`.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        form: ``text``, ``json``, or ``auto``: text on a terminal, JSON elsewhere.
        stream: usually stderr.
        redaction: takes the secrets out.
    """
    as_text = form == "text" or (form == "auto" and stream.isatty())
    colors = as_text and stream.isatty()
    render: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
        if as_text
        else structlog.processors.JSONRenderer()
    )
    moment = structlog.processors.TimeStamper(fmt="%H:%M:%S" if as_text else "iso", utc=not as_text)
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            redaction,
            render,
        ],
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            moment,
            structlog.processors.format_exc_info,
        ],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in (
        "uvicorn.error",
        "asyncio",
        "alembic",
        "urllib3",
    ):  # what they say at info is of no use here
        logging.getLogger(chatty).setLevel(
            max(root.level, logging.WARNING) if level != "debug" else logging.DEBUG
        )
