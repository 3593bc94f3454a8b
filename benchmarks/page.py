"""First paint of the page in Chromium, with a million files in the cache and a hundred thousand jobs.

The state is made by this program, as a server has it after years (see `page_state.py`); the server is a real one in
a process of its own. Each page is opened in a browser without anything in its cache; what is measured is the time
from the click until something is to be seen (first contentful paint), and the server's part of it.

    python benchmarks/page.py [--files 1000000] [--jobs 100000] [--runs 5] [--directory DIR] [--chromium PATH]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from page_state import HOSTS, fill
from playwright.sync_api import Browser, sync_playwright

from stager.settings import Settings

GOAL_SECONDS = 1.0
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
PAGES = (
    "/",
    "/jobs",
    "/jobs?state=waiting",
    "/jobs?state=failed",
    "/jobs?state=cancelled",
    "/cache",
    "/cache?sort=access",
    "/cache?sort=url",
    "/cache?sort=hits&reverse=true",
    f"/cache?host={HOSTS[0]}",
    "/cache?host=nothing.example.org",
    "/cache?kind=result",
    "/credentials",
)
PAINTED = """() => new Promise((tell) => {
    const look = () => {
        const [paint] = performance.getEntriesByName("first-contentful-paint");
        if (!paint) { requestAnimationFrame(look); return; }
        const [page] = performance.getEntriesByType("navigation");
        tell([paint.startTime / 1000, (page.responseEnd - page.requestStart) / 1000]);
    };
    look();
})"""


@contextmanager
def serving(settings: Settings) -> Iterator[tuple[str, str]]:
    """A server; its URL and token."""
    names = ("cache_dir", "state_dir", "port", "input_days", "result_days", "verify_days", "max_used_percent")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STAGER_")}
    environment |= {f"STAGER_{name.upper()}": str(getattr(settings, name)) for name in names}
    command = [sys.executable, "-m", "stager", "serve", "--json"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        assert server.stdout is not None
        try:
            url = json.loads(server.stdout.readline())["url"]
            yield url, (settings.state_dir / "token").read_text().strip()
        finally:
            server.terminate()


def measure(browser: Browser, url: str, token: str, path: str, runs: int) -> None:
    """Print one line."""
    found = []
    for _ in range(runs):
        context = browser.new_context()
        page = context.new_page()
        page.goto(url + "/login")
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(url + "/")
        page.goto("about:blank")
        page.goto(url + path, wait_until="commit")
        found.append(tuple(page.evaluate(PAINTED)))
        context.close()
    paints = [paint for paint, _ in found]
    answers = statistics.median(answer for _, answer in found)
    judged = "met" if max(paints) <= GOAL_SECONDS else "NOT MET"
    print(
        f"{path:36} first paint {statistics.median(paints):.3f} s (at most {max(paints):.3f} s), "
        f"answer {answers:.3f} s; goal: below {GOAL_SECONDS:g} s: {judged}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--directory", type=Path, help="where the state is made; by default a temporary one")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.directory, prefix="stager-bench-") as place:
        began = time.perf_counter()
        settings = fill(Path(place), files=given.files, jobs=given.jobs)
        print(
            f"{given.files:,} files, {given.jobs:,} jobs, made in {time.perf_counter() - began:.0f} s",
            flush=True,
        )
        with serving(settings) as (url, token), sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=given.chromium, args=ARGUMENTS)
            for path in PAGES:
                measure(browser, url, token, path, given.runs)
            browser.close()


if __name__ == "__main__":
    main()
