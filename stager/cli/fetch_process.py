"""``stager fetch-process``: what the server starts when its fetches run in a process of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stager.farm.base import Emit, Farm


def fetch_process() -> None:
    """Fetch for the server that started this process, until it ends."""
    from contextlib import ExitStack

    from stager.cli.connect import logging_to_stderr
    from stager.farm.process_loop import serve
    from stager.settings import Settings
    from stager.wiring import build_cache
    from stager.wiring.here import thread_farm

    with ExitStack() as made:

        def make(greeting: Any, emit: Emit) -> Farm:
            settings = Settings(**greeting)
            made.enter_context(logging_to_stderr(settings.log_level, settings.log_format))
            return thread_farm(settings, build_cache(settings), emit, made)

        serve(make)
