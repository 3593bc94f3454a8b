"""Logs: text on a terminal, JSON elsewhere, secrets nowhere.

All code logs with the standard library's `logging`; here its records are given their form. Where a
record's values go out, one processor redacts all of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, TextIO

import structlog

bound = structlog.contextvars.bound_contextvars
"""``with bound(request_id=...)``: inside, each line of this thread, or of what it awaits, has that value too."""


def request_id() -> str:
    """The id of the request that this thread, or task, serves; empty: none."""
    return str(structlog.contextvars.get_contextvars().get("request_id", ""))


_CHATTY = ("uvicorn.error", "asyncio", "alembic", "urllib3")
"""What they say at info is of use only to those who look for faults."""
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


@contextmanager
def logging_to(stream: TextIO, level: str, form: str, redaction: Redaction) -> Iterator[None]:
    """Inside, what the process logs, from `level` up, goes to `stream`.

    Args:
        stream: usually stderr.
        level: ``debug``, ``info``, ``warning`` or ``error``.
        form: ``text``, ``json``, or ``auto``: text on a terminal, JSON elsewhere.
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
            structlog.contextvars.merge_contextvars,
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
    chatty = [logging.getLogger(name) for name in _CHATTY] if level != "debug" else []
    before = [(logger, logger.level) for logger in (root, *chatty)]
    handlers = root.handlers[:]
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for logger in chatty:
        logger.setLevel(max(root.level, logging.WARNING))
    try:
        yield
    finally:
        root.handlers[:] = handlers
        for logger, number in before:
            logger.setLevel(number)
