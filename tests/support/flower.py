"""Flower as a process of its own, and all that it shows."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "flower"
WHO = "operator:canary-of-flower"


class Flower:
    """One that runs, and what it answers."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def get(self, path: str, who: str | None = WHO, method: str = "GET") -> tuple[int, str]:
        """Status and text; status 0 while nobody answers."""
        headers = {"Authorization": "Basic " + base64.b64encode(who.encode()).decode()} if who else {}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, f"/flower{path}", headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def json(self, path: str) -> Any:
        """What is answered with status 200; else nothing."""
        status, text = self.get(path)
        return json.loads(text) if status == 200 else {}


@contextmanager
def flower(root: Path, variables: Mapping[str, str], *, wait: float = 0.0) -> Iterator[Flower]:
    """`scripts/flower` with a port of its own; it has `wait` seconds to end by itself, with status 1."""
    port = free_port()
    own = {"FLOWER_PORT": str(port), "FLOWER_DB": str(root / "flower.db")}
    with (root / "flower.log").open("w") as log:
        process = subprocess.Popen(
            [SCRIPT], env=environment() | own | dict(variables), stdout=log, stderr=log, text=True
        )
    try:
        yield Flower(process, port)
        if wait:
            assert process.wait(wait) == 1
    finally:
        process.terminate()
        process.wait(20)


def environment() -> dict[str, str]:
    """Of the tests, with the Python that runs them."""
    return {**os.environ, "VENV": str(Path(sys.executable).parents[1]), "PYTHONPATH": str(ROOT)}


def links(page: str) -> set[str]:
    """Pages of Flower that a page leads to."""
    found = re.findall(r'(?:href|src)="/flower(/[^"?]*)', page)
    return {path for path in found if not path.endswith((".png", ".ico", ".svg", ".woff2", "/logout"))}


def in_state(shown: Flower, state: str, words: str = "") -> Any:
    """A task in that state whose result has those words."""
    tasks = shown.json("/api/tasks").values()
    return next((t for t in tasks if t["state"] == state and words in (t["result"] or "")), None)


def everything(shown: Flower) -> dict[str, str]:
    """All pages and answers that can be reached by reading, by path."""
    found: dict[str, str] = {}
    table = (
        "/tasks/datatable?draw=1&start=0&length=50&order[0][column]=0&columns[0][data]=name&search[value]="
    )
    api = ("workers?refresh=true", "tasks", "task/types", "queues/length")
    todo = {
        "/",
        "/workers",
        "/tasks",
        "/broker",
        "/metrics",
        "/healthcheck",
        table,
        *(f"/api/{a}" for a in api),
    }
    todo |= {f"/task/{uuid}" for uuid in shown.json("/api/tasks")}
    todo |= {f"/api/task/info/{uuid}" for uuid in shown.json("/api/tasks")}
    todo |= {f"/worker/{name}" for name in shown.json("/api/workers")}
    while todo:
        path = todo.pop()
        status, text = shown.get(path)
        assert status == 200, (path, status, text)
        found[path] = text
        if "<html" in text:
            todo |= links(text) - found.keys()
    return found
