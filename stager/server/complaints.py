"""What is wrong with the shape of what came in, said in one sentence."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from stager.errors import InputError

_SOURCES = frozenset({"body", "query", "path"})
_NEEDED = {
    "string_type": ("text", "write it in quotes"),
    "int_type": ("a whole number", "write it without quotes"),
    "list_type": ("a list", "write it in square brackets"),
    "dict_type": ("a table", "write names and values"),
    "model_type": ("a table", "write names and values"),
    "model_attributes_type": ("a table", "write names and values"),
}
"""By pydantic's kind of error: what is needed, and the way there."""
_FIELDS = {
    "job": ("command", "inputs", "after", "environment", "results", "priority", "name"),
    "input": ("url", "name", "sha256", "digest", "mirrors", "size"),
    "report": ("state", "exit_code", "error", "seconds"),
}


def complaint(errors: Sequence[Mapping[str, Any]]) -> InputError:
    """The error for the first of pydantic's findings; it repeats no value, which may be a secret."""
    first = next(
        (e for e in errors if e["type"] == "extra_forbidden"), errors[0]
    )  # a misspelt key is the cause
    place = tuple(first["loc"])
    kind = str(first["type"])
    steps = _steps(place)
    if kind == "extra_forbidden":
        *parent, key = steps
        inside = f" in {_path(parent)}" if parent else ""
        return InputError(f"unknown key {key!r}{inside}", remedy=_suggestion(str(key), place))
    if kind == "missing":
        *parent, key = steps or ("a body",)
        inside = f"{_path(parent)} has" if parent else "there is"
        return InputError(f"{inside} no {key!r}", cause="it is needed", remedy=f"add {key}")
    if kind == "json_invalid":
        cause = str(first.get("ctx", {}).get("error", first["msg"]))
        return InputError("the body is not JSON", cause=cause, remedy="send a JSON document")
    where = _path(steps) or "what was sent"
    if kind not in _NEEDED:
        return InputError(f"{where} makes no sense", cause=str(first["msg"]), remedy="correct it")
    needed, remedy = _NEEDED[kind]
    if place[-1] == "<table>":
        needed, remedy = "a URL or a table with a url", "write the URL in quotes"
    return InputError(
        f"{where} is {_kind_of(first.get('input'))}", cause=f"{needed} is needed", remedy=remedy
    )


def _steps(place: Sequence[Any]) -> list[Any]:
    """The path as the sender knows it: without pydantic's marks, and with a name for a list that was sent."""
    steps = ["jobs" if step == "<jobs>" else step for step in place]
    if steps and steps[0] in _SOURCES:
        del steps[0]
    return [step for step in steps if not str(step).startswith("<")]


def _path(steps: Sequence[Any]) -> str:
    text = ""
    for step in steps:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def _suggestion(key: str, place: Sequence[Any]) -> str:
    is_report = place[:1] == ("body",) and len(place) == 2  # noqa: PLR2004 - a job's place has a mark of pydantic's
    known = _FIELDS["input" if "<table>" in place else "report" if is_report else "job"]
    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(known)}"


def _kind_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case str():
            return "text"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return f"a {type(value).__name__}"
