"""``stager cache ls`` without the rest of the program: from the first instruction to the last row in a few hundredths of a second.

It takes what it is sure of: plain options, a catalogue in SQLite that it may read. Anything else, and everything
that is wrong, is left to the command itself, whose answers are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stager.cli.quick_settings import places

SORTS = ("size", "access", "age", "hits", "url")
KINDS = ("input", "result", "unnamed")
_VALUES = {"--sort", "--host", "--owner", "--older-than", "--kind", "--limit", "--cache"}
_FLAGS = {"--json", "--csv"}


def quick_ls(arguments: Sequence[str]) -> int | None:
    """The command's exit code; None: it is not done, and nothing was written.

    Args:
        arguments: those after ``cache ls``.
    """
    options = _options(arguments)
    if options is None:
        return None
    sort, kind, limit = options.get("--sort", "size"), options.get("--kind"), options.get("--limit", "100")
    sure = sort in SORTS and (kind is None or kind in KINDS) and limit.isascii() and limit.isdigit()
    found = places(options.get("--cache")) if sure else None
    if found is None or not 0 < len(limit) < 10:  # noqa: PLR2004 - longer ones are the command's business
        return None
    selection: dict[str, str | float] = {
        name: options[option]
        for name, option in (("host", "--host"), ("owner", "--owner"), ("kind", "--kind"))
        if option in options
    }
    if "--older-than" in options:
        unused_since = _before(options["--older-than"])
        if unused_since is None:
            return None
        selection["unused_since"] = unused_since
    from stager.state.snapshot import catalogue_path, snapshot

    path = catalogue_path(found.state, found.cache)
    taken = snapshot(path, found.cache, sort, selection, int(limit) or None)
    if taken is None:
        return None
    from stager.cli.cache_rows import form_of, note_age, show_rows

    show_rows(taken.rows, taken.total, form_of(as_json="--json" in options, as_csv="--csv" in options))
    note_age(taken.walked_at, found.state)
    return 0


def _options(arguments: Sequence[str]) -> Mapping[str, str] | None:
    found: dict[str, str] = {}
    left = iter(arguments)
    for word in left:
        name, equals, value = word.partition("=")
        if word in _FLAGS:
            found[word] = ""
        elif name in _VALUES:
            following = value if equals else next(left, None)
            if not following or following.startswith("-"):
                return None
            found[name] = following
        else:
            return None
    return None if found.keys() >= _FLAGS else found


def _before(text: str) -> float | None:
    """The time that is so long ago."""
    import time

    from stager.errors import InputError
    from stager.model.durations import parse_duration

    try:
        return time.time() - parse_duration(text)
    except InputError:
        return None
