"""What happens while somebody looks; and what other sites can't make a browser do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Dialog, expect

from stager.model.jobs import JobSpec
from stager.model.principals import Role
from tests.browser.conftest import Open
from tests.support.world import PATIENCE, TOKEN, World


def submit(running: World, script: str, *, name: str = "", after: tuple[str, ...] = ()) -> str:
    spec = JobSpec(("/bin/sh", "-c", script), after=after, owner="ada", name=name)
    return running.server.jobs.submit([spec])[0]


def test_a_job_is_followed_from_waiting_to_done_without_loading_the_page_anew(
    look: Open, running: World, tmp_path: Path
) -> None:
    more, go = tmp_path / "more", tmp_path / "go"
    wait = "until [ -e {} ]; do sleep 0.05; done"
    script = f"echo first; {wait.format(more)}; echo second; {wait.format(go)}; echo 42 > results/x"
    name = running.name("live")
    job = submit(running, script, after=(name,))
    page = look(f"/jobs/{job}")
    page.evaluate("window.same = true")
    expect(page.locator("#head")).to_contain_text("waiting")
    running.server.jobs.meet(name)
    expect(page.locator("#head")).to_contain_text("running")
    log = page.get_by_role("region", name="stdout")
    expect(log).to_have_text("first\n")
    log.focus()
    more.touch()
    expect(log).to_have_text("first\nsecond\n")
    expect(log).to_be_focused()  # though it was written anew
    go.touch()
    expect(page.locator("#head")).to_contain_text("done")
    result = page.get_by_role("link", name="x", exact=True)
    with page.expect_download() as waited:
        result.click()
    assert Path(waited.value.path()).read_text() == "42\n"
    assert page.evaluate("window.same"), "it was loaded only once"


def test_the_overview_shows_what_comes_in_while_it_is_looked_at(look: Open, running: World) -> None:
    page = look("/")
    name = running.name("new-job")
    submit(running, "true", name=name, after=("never-met",))
    row = page.locator("#waiting").get_by_role("row").filter(has_text=name)
    expect(row).to_contain_text("never-met")


def test_what_can_not_be_undone_is_asked_first(look: Open, running: World) -> None:
    job = submit(running, "true", after=("never",))
    page = look(f"/jobs/{job}")
    asked: list[str] = []

    def no(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.dismiss()

    page.once("dialog", no)
    page.get_by_role("button", name="Cancel the job").click()
    assert asked == ["Cancel this job? Its process is ended."]
    assert running.server.jobs.state(job) == "waiting"
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.locator("#head")).to_contain_text("cancelled")


def test_a_purge_is_looked_at_and_then_done(look: Open, running: World) -> None:
    key = running.put("ada")
    page = look("/cache/purge")
    page.get_by_label("URLs or keys").fill(key)
    page.get_by_role("button", name="See what would go").click()
    expect(page.locator("#errand")).to_contain_text("Nothing has gone yet.")
    page.get_by_role("button", name="Purge 1 file").click()
    expect(page.locator("#errand")).to_contain_text("has gone")
    assert key not in {file.key for file in running.server.cache_site.files.ls(limit=None).files}


def test_a_credential_is_given_in_the_browser(look: Open, running: World) -> None:
    host = f"{running.name('portal')}.example.org"
    page = look(f"/credentials?host={host}&owner=ada")
    page.get_by_label("User").fill("ada")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Give it").click()
    expect(page.locator(".alert.good")).to_contain_text("kept, sealed")
    expect(page.get_by_role("row").filter(has_text=host)).to_contain_text("given")
    assert "correct horse" not in page.content()


def test_whoever_was_logged_out_meanwhile_is_led_to_the_login(
    look: Open, running: World, complaints: list[str]
) -> None:
    name = running.name("leaver")
    secret = running.user(name, Role.READER)
    page = look("/jobs", secret)
    running.server.accounts.change_user(name, disabled=True)
    page.wait_for_url(running.url + "/login?to=%2Fjobs")
    complaints[:] = [said for said in complaints if "401" not in said]


class Stranger(BaseHTTPRequestHandler):
    """Another site's page."""

    html = ""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.html.encode())

    def log_message(self, *_: object) -> None:
        """It is quiet."""


@pytest.fixture
def stranger() -> Iterator[int]:
    """The port of another site."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stranger)  # a browser opens connections in advance
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join(PATIENCE)
    server.server_close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_form_of_another_site_is_refused_though_the_browser_is_logged_in(
    look: Open,
    running: World,
    complaints: list[str],
    stranger: int,
    host: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = submit(running, "true", after=("never",))
    page = look("/jobs")
    csrf = page.locator("input[name=csrf]").first.get_attribute("value")
    form = f'<form method="post" action="{running.url}/jobs/{job}/cancel"><input name="csrf" value="{csrf}"></form>'
    monkeypatch.setattr(Stranger, "html", form + "<script>document.forms[0].submit()</script>")
    refused = (
        303 if host == "localhost" else 403
    )  # from another host's site the browser sends no cookie at all
    with page.expect_response(lambda answer: answer.url.endswith("/cancel")) as waited:
        page.goto(f"http://{host}:{stranger}/")
    assert waited.value.status == refused
    assert running.server.jobs.state(job) == "waiting"
    page.context.close()  # what it complains about is heard by now
    complaints.clear()


def test_another_site_can_not_frame_a_page(
    look: Open, running: World, complaints: list[str], stranger: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = look("/jobs")
    monkeypatch.setattr(Stranger, "html", f'<iframe src="{running.url}/jobs"></iframe>')
    with page.expect_console_message(lambda message: "frame-ancestors" in message.text):
        page.goto(f"http://127.0.0.1:{stranger}/")
    page.context.close()
    complaints.clear()


def test_a_login_link_opens_the_page_and_is_in_no_history(browser: Browser, running: World) -> None:
    path = running("POST", "/v1/logins", TOKEN).json()["path"]
    context = browser.new_context()
    page = context.new_page()
    page.goto(running.url + path)
    expect(page.locator("h1")).to_have_text("Overview")
    assert page.url == running.url + "/"
    page.go_back()
    assert "once" not in page.url
    context.close()
