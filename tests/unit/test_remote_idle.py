"""Connections of FTP, SFTP and S3 that nobody uses any more."""

from __future__ import annotations

from typing import Any, cast

import pytest

from stager.model.urls import parse_url
from stager.transfer.remote import transport
from stager.transfer.remote.base import Backend, Site
from stager.transfer.remote.transport import NOBODY, RemoteTransport


class Connection:
    """Knows whether it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


def test_connections_to_origins_that_are_not_asked_again_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    remote = RemoteTransport(Site())
    made = [Connection() for _ in range(50)]
    for number, one in enumerate(made):
        remote.give_back(parse_url(f"sftp://h{number}.test/f"), NOBODY, cast("Backend", cast("Any", one)))
    assert not any(one.closed for one in made)
    now += transport.IDLE_SECONDS + 1
    assert remote.lease(parse_url("sftp://h0.test/f"), NOBODY) is None
    last = Connection()
    remote.give_back(parse_url("sftp://other.test/f"), NOBODY, cast("Backend", cast("Any", last)))
    assert [one.closed for one in made] == [True] * 50
    assert not last.closed
    remote.close()
    assert last.closed
