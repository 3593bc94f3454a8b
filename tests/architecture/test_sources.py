"""Habits of the code that no linter checks for us."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from stager.steps import MAINTENANCE_STEPS, SEGMENT_STEPS, STEPS

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "stager").rglob("*.py"))
LONGEST = 400
"""Lines; beyond it a file usually has more than one reason to change."""

EVERY_MODULE = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), filename=str(path))


def name_of(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def calls(path: Path, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and name_of(node.func) == name:
            yield node


def is_broad(kind: ast.expr | None) -> bool:
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(one is None or name_of(one) in {"Exception", "BaseException"} for one in kinds)


def swallows(path: Path) -> list[int]:
    """Lines at which every exception is caught and nothing is done about it."""
    lines = [
        node.lineno
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler)
        and is_broad(node.type)
        and all(
            isinstance(step, (ast.Pass, ast.Continue, ast.Expr)) and not has_call(step) for step in node.body
        )
    ]
    return lines + [
        call.lineno for call in calls(path, "suppress") if any(is_broad(kind) for kind in call.args)
    ]


def has_call(step: ast.stmt) -> bool:
    return any(isinstance(node, ast.Call) for node in ast.walk(step))


@EVERY_MODULE
def test_a_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(tree(path))


@EVERY_MODULE
def test_no_failure_is_swallowed_whole(path: Path) -> None:
    assert swallows(path) == []


@pytest.mark.parametrize(
    "text",
    [
        "try: f()\nexcept: pass",
        "try: f()\nexcept Exception: pass",
        "try: f()\nexcept BaseException as e: ...",
        "try: f()\nexcept (OSError, Exception): pass",
        "for x in y:\n try: f()\n except Exception: continue",
        "with contextlib.suppress(Exception): f()",
    ],
)
def test_a_swallowed_failure_would_be_found(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text(text)
    assert swallows(path)


@EVERY_MODULE
def test_a_file_has_one_reason_to_change(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= LONGEST


@EVERY_MODULE
def test_only_known_steps_are_reached(path: Path) -> None:
    for call in calls(path, "reached"):
        assert isinstance(call.args[0], ast.Constant), f"line {call.lineno}: a step is named in full"
        assert call.args[0].value in STEPS + MAINTENANCE_STEPS + SEGMENT_STEPS, f"line {call.lineno}"


@pytest.mark.parametrize("step", STEPS + MAINTENANCE_STEPS + SEGMENT_STEPS)
def test_every_step_is_reached_somewhere(step: str) -> None:
    assert any(
        isinstance(argument, ast.Constant) and argument.value == step
        for path in MODULES
        for call in calls(path, "reached")
        for argument in call.args
    )
