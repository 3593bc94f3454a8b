"""Where cache and state are, as `stager.settings` says it, without what checks all the other settings."""

from __future__ import annotations

import os
from typing import NamedTuple

_OWN = ("cache_dir", "state_dir", "database_url", "server")
_HOMES = {"cache_dir": ("XDG_CACHE_HOME", ".cache"), "state_dir": ("XDG_STATE_HOME", ".local/state")}


class Places(NamedTuple):
    """Absolute paths."""

    cache: str
    state: str


def places(cache: str | None = None) -> Places | None:
    """Root of the cache (as named on the command line, if it was) and the state directory.

    Returns:
        None if it takes more to say: a database elsewhere, a server elsewhere, settings that may be wrong.
    """
    found = _in_file()
    if found is None:
        return None
    for variable, value in os.environ.items():
        name = variable.upper().removeprefix("STAGER_").lower()
        if variable.upper().startswith("STAGER_") and name in _OWN:
            found[name] = value
    if cache is not None:
        found["cache_dir"] = cache
    database = found.get("database_url") or "sqlite"
    if found.get("server") or not str(database).startswith("sqlite"):
        return None
    made = []
    for name, (variable, default) in _HOMES.items():
        place: object = found[name] if name in found else f"{_base(variable, default)}/stager"
        if not isinstance(place, str) or not place or place.startswith("~"):
            return None
        made.append(os.path.abspath(place))
    return Places(*made)


def _in_file() -> dict[str, object] | None:
    """What the settings file says of these; None when it can't be read."""
    named = os.environ.get("STAGER_CONFIG")
    try:
        with open(named or f"{_base('XDG_CONFIG_HOME', '.config')}/stager/config.toml", "rb") as file:
            import tomllib

            data = tomllib.load(file)
    except FileNotFoundError:
        return None if named else {}
    except (OSError, ValueError):
        return None
    return {name: data[name] for name in _OWN if name in data}


def _base(variable: str, default: str) -> str:
    base = os.environ.get(variable, "")
    return base if os.path.isabs(base) else f"{os.path.expanduser('~')}/{default}"
