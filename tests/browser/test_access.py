"""Whether everybody can use the pages: by ear, by keyboard, on a phone, in the dark, without scripts."""

from __future__ import annotations

import re
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.support.world import TOKEN, World

PAGES = (
    "overview", "jobs", "done", "waiting", "failed", "cache", "file", "purge", "verify", "credentials",
    "certificate", "origins", "login", "problem",
)  # fmt: skip
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}}


def seen(look: Open, scene: dict[str, str], name: str, complaints: list[str], **options: Any) -> Page:
    page = look(scene[name], None if name == "login" else TOKEN, **options)
    if name == "problem":  # the browser's own word for it
        page.wait_for_function("document.readyState === 'complete'")
        complaints[:] = [said for said in complaints if "404" not in said]
    return page


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(
    look: Open, scene: dict[str, str], complaints: list[str], name: str, scheme: str
) -> None:
    page = seen(look, scene, name, complaints, color_scheme=scheme)
    found = Axe().run(page).response["violations"]
    serious = [
        f"{one['id']}: {one['help']}: {[node['html'] for node in one['nodes']][:3]}"
        for one in found
        if one["impact"] in {"serious", "critical"}
    ]
    assert serious == []


@pytest.mark.parametrize("name", PAGES)
def test_each_page_has_a_title_a_heading_its_place_in_the_menu_and_fits_a_phone(
    look: Open, scene: dict[str, str], complaints: list[str], name: str
) -> None:
    page = seen(look, scene, name, complaints, **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert re.fullmatch(r"\S.* · Stager", page.title())
    expect(page.locator("h1")).to_have_count(1)
    if name != "login":
        expect(page.locator("nav[aria-label=Pages] [aria-current=page]")).to_have_count(1)


def test_the_keyboard_alone_logs_in_and_reaches_everything(look: Open, running: World) -> None:
    page = look("/login", None)
    page.get_by_label("Token").focus()
    page.keyboard.type(TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_url(running.url + "/")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the content")
    expect(page.locator(":focus")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    first = page.locator(":focus").get_attribute("href")
    assert first is not None
    assert first.startswith(("/jobs?state=", "/credentials"))
    page.keyboard.press("Enter")
    page.wait_for_url(running.url + first)


def test_without_scripts_everything_works(look: Open, running: World) -> None:
    job = running.job("ada")
    page = look(f"/jobs/{job}", java_script_enabled=False)
    expect(page.locator("#history time").first).to_contain_text("UTC")
    expect(page.get_by_role("button", name="It is met")).to_be_visible()
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.locator("#head")).to_contain_text("cancelled")
    assert running.server.jobs.state(job) == "cancelled"
    page.get_by_role("link", name="Overview").click()
    expect(page.locator("meta[http-equiv=refresh]")).to_have_count(1)
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url(running.url + "/login")


def test_times_are_those_of_the_browsers_zone(look: Open, scene: dict[str, str]) -> None:
    page = look(scene["done"], timezone_id="Pacific/Kiritimati")  # UTC+14
    time = page.locator("#history time").first
    expect(time).not_to_contain_text("UTC")
    hours = time.evaluate(
        "time => (Date.parse(time.textContent.replace(' ', 'T') + 'Z') - Date.parse(time.dateTime)) / 3600000"
    )
    assert hours == 14
    assert (time.get_attribute("title") or "").endswith(" UTC")
