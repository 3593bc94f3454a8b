"""Where each setting comes from."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stager.model.checks import Checked, Health
from stager.model.redaction import redacted_text
from stager.settings import Settings, settings_file


def setting_checks(settings: Settings, given: Mapping[str, Any]) -> list[Checked]:
    """Each setting that some place sets, with that place; without passwords.

    Args:
        settings: those in force.
        given: what the command line set.
    """
    path = settings_file()
    in_file = _names_in(path)
    found = []
    for name in Settings.model_fields:
        place = _place(name, given, in_file, path)
        if place:
            value = redacted_text(_shown(getattr(settings, name)))
            found.append(Checked(f"setting {name}", Health.OK, f"{value} ({place})"))
    return found or [Checked("settings", Health.OK, "all have their defaults")]


def file_check() -> Checked:
    """Whether a settings file with a password in it can be read by others."""
    path = settings_file()
    if not path.exists():
        return Checked("settings file", Health.SKIPPED, f"{path} does not exist; it need not")
    text = path.read_text("utf-8")
    mode = path.stat().st_mode & 0o777
    if mode & 0o077 and redacted_text(text) != text:
        remedy = f"chmod 600 {path}, or put the password into a file of its own (redis_password_file)"
        return Checked(
            "settings file", Health.WARNING, f"{path} holds a password, and has mode {mode:o}", remedy
        )
    return Checked("settings file", Health.OK, str(path))


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _place(name: str, given: Mapping[str, Any], in_file: frozenset[str], path: Path) -> str:
    if given.get(name) is not None:
        return "command line"
    variable = f"STAGER_{name.upper()}"
    if variable in {one.upper() for one in os.environ}:
        return variable
    return str(path) if name in in_file else ""


def _names_in(path: Path) -> frozenset[str]:
    try:
        return frozenset(tomllib.loads(path.read_text("utf-8")))
    except (OSError, ValueError):  # `load_settings` has complained, or there is none
        return frozenset()
