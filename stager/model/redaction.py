"""Secrets out of free text, such as a log line or another program's error message."""

from __future__ import annotations

import re

from stager.errors import InputError
from stager.model.urls import parse_url, refused_url

HIDDEN = "***"
_URL = re.compile(r"(?i)\b[a-z][a-z0-9+.-]*://[^\s'\"<>]+")
_AUTHORIZATION = re.compile(
    r"(?i)(\bauthorization['\"]?\s*[:=]\s*['\"]?)(?:(?:basic|bearer|digest|negotiate)\s+)?[^\s'\",;]+"
    r"|(\b(?:basic|bearer)\s+)[A-Za-z0-9._~+/=-]{8,}"
)
_ASSIGNMENT = re.compile(
    r"(?i)(\b[\w-]*(?:token|secret|password|passwd|passphrase|api[-_]?key|signature|cookie)['\"]?\s*[:=]\s*['\"]?)"
    r"[^\s'\",;&]+"
)
_TOKEN = re.compile(r"\bstg_[A-Za-z0-9_-]{16,}")
"""Of a user, wherever it comes up; see `stager.model.accounts`."""
SECRET_NAME = re.compile(
    r"(?i).*(?:token|secret|password|passwd|passphrase|api[-_]?key|signature|cookie|authorization|credential).*"
)
"""Names of values that are not shown."""


def redacted_text(text: str) -> str:
    """`text` without user names and passwords in URLs, secret query parameters, and credentials in headers."""
    if text.isalnum():  # an id, a digest, a word: most of what there is in a log
        return text
    text = _URL.sub(lambda found: _shown(found.group()), text)
    text = _AUTHORIZATION.sub(lambda found: (found.group(1) or found.group(2)) + HIDDEN, text)
    text = _TOKEN.sub(HIDDEN, text)
    return _ASSIGNMENT.sub(lambda found: found.group(1) + HIDDEN, text)


def _shown(url: str) -> str:
    try:
        return parse_url(url).redacted
    except InputError:  # not one that we fetch; rather too little of it than a secret
        return refused_url(url)[1:-1]
