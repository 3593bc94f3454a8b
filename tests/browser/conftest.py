"""A whole server, and Chromium to look at it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    expect,
    sync_playwright,
)

from stager.model.jobs import JobSpec
from stager.model.keys import key_digest
from tests.support.needs import needs
from tests.support.world import TOKEN, World, world

PATIENCE_MS = 60_000
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""As root, without a display, asking nobody but the server."""
Open = Callable[..., Page]

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    needs(path, "Chromium (scripts/system-packages browser installs it)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("browser")) as made:
        yield made


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What a browser complains about; there is to be none at the end of a test, and a test may take some out."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def look(browser: Browser, running: World, complaints: list[str]) -> Iterator[Open]:
    """Opens a page of the server as somebody who is logged in."""
    made: list[BrowserContext] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            complaints.append(message.text)

    def asked(request: Request) -> None:
        if not request.url.startswith((running.url + "/", "data:")):
            complaints.append(f"asks {request.url}")

    def look(path: str, token: str | None = TOKEN, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}} | options)
        made.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("console", heard)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", asked)
        if token is not None:
            page.goto(running.url + "/login")
            page.get_by_label("Token").fill(token)
            page.get_by_role("button", name="Log in").click()
            page.wait_for_url(running.url + "/")
        page.goto(running.url + path)
        return page

    yield look
    for context in made:
        context.close()


@pytest.fixture(scope="session")
def scene(running: World) -> dict[str, str]:
    """Paths of pages that have something on them, by name."""
    done, waiting, key = running.done("ada", "seen"), running.job("ada"), running.put("ada")
    running.pin("ada")
    running.credential("ada")
    spec = JobSpec(("/bin/sh", "-c", "exit 3"), name="bad-fit", owner="ada")
    (failed,) = running.server.jobs.submit([spec])
    running.server.jobs.wait(failed, PATIENCE_MS / 1000)
    return {
        "overview": "/",
        "jobs": "/jobs",
        "done": f"/jobs/{done}",
        "waiting": f"/jobs/{waiting}",
        "failed": f"/jobs/{failed}",
        "cache": "/cache",
        "file": f"/cache/files/{key_digest(key)}",
        "purge": "/cache/purge",
        "verify": "/cache/verify",
        "credentials": "/credentials",
        "certificate": "/credentials?kind=certificate",
        "origins": "/origins",
        "login": "/login",
        "problem": "/jobs/unknown",
    }
