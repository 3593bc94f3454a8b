"""What holds for every test: nothing of the machine's or the user's own configuration reaches it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest

from stager import steps
from stager.settings import current_settings

# The machine is shared and slow at times; how long one example takes says nothing about the code.
hypothesis.settings.register_profile("everyday", deadline=None, print_blob=True)
hypothesis.settings.register_profile(
    "ci", parent=hypothesis.settings.get_profile("everyday"), derandomize=True
)
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # begun in the background: what a test starts would ignore it too
    signal.signal(signal.SIGINT, signal.default_int_handler)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") == "true" else "everyday")

_PREFIXES = ("STAGER_", "XDG_")
_NAMES = frozenset(
    {
        "ALL_PROXY",
        "COLUMNS",
        "CURL_CA_BUNDLE",
        "FORCE_COLOR",
        "FTP_PROXY",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "LINES",
        "NETRC",
        "NO_COLOR",
        "NO_PROXY",
        "REQUESTS_CA_BUNDLE",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
    }
)


@pytest.fixture(autouse=True)
def _own_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """An empty home, no proxies, no settings but that origins on this machine may be reached; nothing is left behind."""
    for name in os.environ:
        if name.startswith(_PREFIXES) or name.upper() in _NAMES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("STAGER_ALLOWED_NETWORKS", "127.0.0.0/8")
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    current_settings.cache_clear()
    yield
    current_settings.cache_clear()
    steps.observe(None)
