"""What is installed, against what this version was tested with."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from stager import __version__
from stager.model.checks import Checked, Health

_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*>=\s*([0-9.]+)")
PACKAGE = "stager"


def version_checks() -> Iterator[Checked]:
    """This program, what it runs on, and what it needs."""
    kernel = os.uname()
    yield Checked("stager", Health.OK, __version__)
    yield Checked("Python", Health.OK, f"{platform.python_version()} on {kernel.sysname} {kernel.release}")
    try:
        yield dependencies(requires(PACKAGE) or ())
    except PackageNotFoundError:
        yield Checked("dependencies", Health.SKIPPED, f"{PACKAGE} is not installed as a package")


def dependencies(requirements: Iterable[str]) -> Checked:
    """Whether all are as new as those that were tested; those of extras count if they are installed."""
    old, missing, count = [], [], 0
    for requirement in requirements:
        found = _REQUIREMENT.match(requirement)
        if found is None:
            continue
        name, least = found.groups()
        try:
            present = version(name)
        except PackageNotFoundError:
            if "extra ==" not in requirement:
                missing.append(name)
            continue
        count += 1
        if _numbers(present) < _numbers(least):
            old.append(f"{name} {present} is older than {least}")
    if missing:
        text = f"{', '.join(missing)} not installed"
        return Checked("dependencies", Health.FAILED, text, f"pip install --upgrade {PACKAGE}")
    if old:
        return Checked("dependencies", Health.WARNING, "; ".join(old), f"pip install --upgrade {PACKAGE}")
    return Checked("dependencies", Health.OK, f"{count} packages are as new as those tested, or newer")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:3])
