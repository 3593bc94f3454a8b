"""A browser of few words: keeps its cookie, sends forms as pages do, reads what the page says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import unescape
from typing import Any, Self
from urllib.parse import urlencode

import requests

from tests.support.api import PATIENCE, TOKEN

FORM = "application/x-www-form-urlencoded"
HTML = "text/html,application/xhtml+xml"


class Visitor:
    """Looks at the pages of a server.

    Args:
        url: of the server.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.trust_env = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def get(self, path: str, **headers: str) -> requests.Response:
        return self._ask("GET", path, headers)

    def post(self, path: str, form: Mapping[str, str] | None = None, **headers: str) -> requests.Response:
        given = {"Sec-Fetch-Site": "same-origin", "Origin": self.url, "Content-Type": FORM} | headers
        return self._ask("POST", path, given, data=urlencode(dict(form or {})))

    def send(self, path: str, form: Mapping[str, str] | None = None) -> requests.Response:
        """A form with the word that its page would have had."""
        return self.post(path, {"csrf": self.csrf(), **(form or {})})

    def csrf(self) -> str:
        found = re.search(r'name="csrf" value="([^"]+)"', self.get("/jobs").text)
        assert found is not None
        return found[1]

    def log_in(self, token: str = TOKEN) -> requests.Response:
        return self.post("/login", {"token": token})

    def _ask(self, method: str, path: str, headers: Mapping[str, str], **more: Any) -> requests.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.session.request(
            method,
            self.url + path,
            headers={"Accept": HTML} | named,
            allow_redirects=False,
            timeout=PATIENCE,
            **more,
        )
        assert answer.content is not None
        return answer


def words(page: requests.Response | str) -> str:
    """What a page says, without its tags."""
    text = page if isinstance(page, str) else page.text
    text = re.sub(r"</?(?:a|b|code|span|time|wbr)\b[^>]*>", "", text)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", text)).split())
