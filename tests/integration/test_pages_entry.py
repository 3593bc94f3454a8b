"""Who gets into the page, and which forms it takes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from tests.support.api import TOKEN, Api, running_api
from tests.support.jobserver import shell
from tests.support.visitor import Visitor, words

OPEN = {"/login", "/docs", "/healthz", "/readyz", "/openapi.json", "/metrics"}
"""Anybody may read these."""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(tmp_path_factory.mktemp("pages")) as running:
        yield running


@pytest.fixture
def visitor(api: Api) -> Iterator[Visitor]:
    with Visitor(api.url) as visitor:
        yield visitor


def api_routes(routes: Sequence[BaseRoute]) -> Iterator[APIRoute]:
    """All routes; FastAPI keeps those of an included router with that router."""
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        elif (inner := getattr(route, "original_router", None)) is not None:
            yield from api_routes(inner.routes)


def paths(api: Api, method: str) -> list[str]:
    """Of all routes that are pages: those that the API's description does not have."""
    found = [
        route.path
        for route in api_routes(api.app.routes)
        if method in (route.methods or ()) and not route.include_in_schema
    ]
    return [re.sub(r"\{[^}]*\}", "stdout", path) for path in found if not path.startswith("/v1")]


def test_whoever_is_not_logged_in_is_led_to_the_login_and_sees_nothing(api: Api, visitor: Visitor) -> None:
    pages = [path for path in paths(api, "GET") if path not in OPEN and not path.startswith("/static/")]
    assert {"/", "/jobs", "/jobs/stdout", "/jobs/stdout/logs/stdout"} <= set(pages)
    for path in pages:
        answer = visitor.get(path)
        assert (answer.status_code, answer.text) == (303, ""), path
        assert answer.headers["Location"].startswith("/login?to=%2F")
    assert visitor.get("/", X_Live="1").status_code == 401


def test_a_login_leads_where_one_wanted_to_go_and_nowhere_else(visitor: Visitor) -> None:
    assert visitor.get("/jobs?state=failed").headers["Location"] == "/login?to=%2Fjobs%3Fstate%3Dfailed"
    wanted = {"/jobs?state=failed": "/jobs?state=failed", "//evil.example/": "/", "https://evil.example": "/"}
    wanted |= {"/\\evil.example": "/", "/login?to=/": "/", "/jobs\r\nX: y": "/", "": "/"}
    for to, leads in wanted.items():
        answer = visitor.post("/login", {"token": TOKEN, "to": to})
        assert (answer.status_code, answer.headers["Location"]) == (303, leads)


def test_the_cookie_holds_no_token_and_is_for_this_server_alone(api: Api, visitor: Visitor) -> None:
    answer = visitor.log_in()
    cookie = answer.headers["Set-Cookie"]
    assert TOKEN not in str(answer.headers)
    assert cookie.startswith(f"stager-{api.url.rpartition(':')[2]}=")
    for part in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age="):
        assert part in cookie
    assert "Domain" not in cookie
    assert "Secure" not in cookie, "this server is not reached by TLS"
    assert visitor.get("/").status_code == 200


@pytest.mark.parametrize("token", ["", "t", TOKEN + "t", "é", "' OR 1=1"])
def test_a_wrong_token_is_refused_with_a_page_that_does_not_repeat_it(visitor: Visitor, token: str) -> None:
    answer = visitor.log_in(token)
    assert answer.status_code == 401
    assert "did not accept the token" in words(answer)
    assert "Set-Cookie" not in answer.headers
    assert not token or f'"{token}"' not in answer.text


def test_a_form_without_the_word_of_its_login_changes_nothing(api: Api, visitor: Visitor) -> None:
    visitor.log_in()
    forms = [path for path in paths(api, "POST") if path != "/login"]
    assert {"/logout", "/jobs/stdout/cancel", "/jobs/stdout/meet"} <= set(forms)
    for path in forms:
        for form in ({}, {"csrf": ""}, {"csrf": "x" * 43}, {"csrf": "é"}):
            answer = visitor.post(path, form)
            assert answer.status_code == 403, path
            assert "not one of this login" in words(answer)
    with Visitor(api.url) as other:
        other.log_in()
        assert visitor.post("/logout", {"csrf": other.csrf()}).status_code == 403
    assert visitor.get("/").status_code == 200, "still logged in"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "", "Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "", "Origin": "null"},
        {"Sec-Fetch-Site": "", "Origin": ""},
    ],
    ids=str,
)
def test_a_form_that_another_site_sends_is_refused_whatever_it_holds(
    api: Api, visitor: Visitor, headers: dict[str, str]
) -> None:
    visitor.log_in()
    job = api.server.jobs.submit([shell("true", after=("never",))])[0]
    csrf = visitor.csrf()
    kept = {name: value for name, value in headers.items() if value}
    for path in ("/logout", f"/jobs/{job}/cancel", "/login"):
        given = {"Accept": "text/html"} | kept
        answer = visitor.session.post(
            api.url + path, {"csrf": csrf, "token": TOKEN}, headers=given, allow_redirects=False, timeout=20
        )
        assert answer.status_code == 403
        assert "not sent by a page of this server" in words(answer)
        assert "Set-Cookie" not in answer.headers
    assert api.server.jobs.state(job) == "waiting"
    assert visitor.send(f"/jobs/{job}/cancel").status_code == 303
    assert api.server.jobs.state(job) == "cancelled"


def test_an_old_browser_without_fetch_metadata_is_known_by_its_origin(api: Api, visitor: Visitor) -> None:
    answer = visitor.session.post(
        api.url + "/login", {"token": TOKEN}, headers={"Origin": api.url}, allow_redirects=False, timeout=20
    )
    assert answer.status_code == 303


def test_what_is_no_form_is_refused(visitor: Visitor) -> None:
    assert visitor.post("/login", None, **{"Content-Type": "application/json"}).status_code == 415
    assert visitor.post("/login", {str(n): "" for n in range(300)}).status_code == 422


def test_whoever_logs_out_is_out_also_with_the_cookie_that_he_had(visitor: Visitor) -> None:
    visitor.log_in()
    cookies = visitor.session.cookies.copy()
    answer = visitor.send("/logout")
    assert answer.headers["Location"] == "/login"
    assert "Max-Age=0" in answer.headers["Set-Cookie"]
    visitor.session.cookies.update(cookies)
    assert visitor.get("/").status_code == 303


def test_a_login_link_is_good_once(api: Api, visitor: Visitor) -> None:
    link = api("POST", "/v1/logins").json()["path"]
    answer = visitor.get(link, Sec_Fetch_Site="none")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert visitor.get("/").status_code == 200
    with Visitor(api.url) as other:
        again = other.get(link, Sec_Fetch_Site="none")
        assert again.status_code == 401
        assert "used already" in words(again)
        assert other.get("/").status_code == 303
    api.problem("POST", "/v1/logins", 401, token=None)


@pytest.mark.parametrize("headers", [{"Sec_Fetch_Site": "cross-site"}, {}])
def test_a_login_link_on_another_page_logs_in_only_who_says_so(
    api: Api, visitor: Visitor, headers: dict[str, str]
) -> None:
    """Over plain HTTP a browser may not say where a link was."""
    link = api("POST", "/v1/logins").json()["path"]
    asked = visitor.get(link, **headers)
    assert asked.status_code == 200
    assert "Set-Cookie" not in asked.headers
    once = re.search(r'name="once" value="([^"]+)"', asked.text)
    assert once is not None
    assert visitor.post("/login", {"once": once[1]}).status_code == 303
    assert visitor.get("/").status_code == 200


def test_a_link_from_elsewhere_finds_the_login_that_was_held_back(visitor: Visitor) -> None:
    visitor.log_in()
    cookies = visitor.session.cookies.copy()
    visitor.session.cookies.clear()  # SameSite=strict
    assert visitor.get("/jobs", Sec_Fetch_Site="cross-site").status_code == 303
    page = visitor.get("/login?to=%2Fjobs", Sec_Fetch_Site="cross-site")
    assert '<meta http-equiv="refresh" content="0">' in page.text
    visitor.session.cookies.update(cookies)
    assert visitor.get("/login?to=%2Fjobs", Sec_Fetch_Site="same-origin").headers["Location"] == "/jobs"


def test_no_page_runs_or_loads_anything_but_what_this_server_serves(api: Api, visitor: Visitor) -> None:
    visitor.log_in()
    job = api.server.jobs.submit([shell("echo out; echo err >&2", "nothing-there")])[0]
    api.server.jobs.wait(job, 20)
    for path in ("/", "/jobs", f"/jobs/{job}", "/jobs/unknown", "/login?once=x", "/nothing-here"):
        answer = visitor.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        page = answer.text
        assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=|javascript:", page), path
        links = re.findall(r"""\s(?:href|src|action)="([^"]*)\"""", page)
        assert links
        assert all(link.startswith(("/", "#")) and not link.startswith("//") for link in links)


def test_the_files_of_the_page_are_kept_by_browsers_until_they_change(visitor: Visitor) -> None:
    page = visitor.get("/login").text
    files = re.findall(r'"(/static/[^"]+)"', page)
    assert sorted(Path(name).suffix for name in files) == [".css", ".js", ".svg"]
    for name in files:
        assert re.search(r"-[0-9a-f]{12}\.", name)
        answer = visitor.get(name)
        assert "immutable" in answer.headers["Cache-Control"]
        again = visitor.get(name, If_None_Match=answer.headers["ETag"])
        assert (again.status_code, again.content) == (304, b"")
    assert visitor.get("/static/page-000000000000.css").status_code == 404
    assert visitor.get("/static/..%2Froutes.py").status_code == 404


def test_what_goes_wrong_is_a_page_for_people_and_a_problem_for_programs(api: Api, visitor: Visitor) -> None:
    visitor.log_in()
    page = visitor.get("/jobs/unknown")
    assert page.status_code == 404
    assert page.headers["Content-Type"].startswith("text/html")
    assert "no job 'unknown'" in words(page)
    assert visitor.get("/jobs?state=asleep").status_code == 422
    assert "there is nothing at /nothing-here" in words(visitor.get("/nothing-here"))
    assert visitor.get("/jobs/unknown", Accept="*/*").headers["Content-Type"] == "application/problem+json"
    api.problem("GET", "/v1/jobs/unknown", 404, headers={"Accept": "text/html"})
