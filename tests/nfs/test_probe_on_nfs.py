"""What a probe finds between two hosts on a real NFS mount."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.guests import Done, Guest
from tests.support.hosts import STAGER, Hosts

pytestmark = pytest.mark.timeout(300)


def probed(hosts: Hosts, protocol: str, name: str, *options: str) -> list[dict[str, Any]]:
    """The findings of both hosts, by name."""
    where = {guest.mount(protocol, *options) for guest in hosts.guests}
    (hosts.export / name).mkdir()
    command = [
        *STAGER,
        "cache",
        "probe",
        "--json",
        "--with-peer",
        "--peer-seconds",
        "120",
        f"{where.pop()}/{name}",
    ]
    on = [(guest, guest.start(command)) for guest in hosts.guests]
    found = [_findings(guest, running.wait(200)) for guest, running in on]
    assert list((hosts.export / name).iterdir()) == []
    return found


def _findings(guest: Guest, done: Done) -> dict[str, Any]:
    assert done.status in {0, 1}, f"{guest.name}: {done.stderr}{done.stdout}"
    report = json.loads(done.stdout)
    return {one["name"]: one for one in report["findings"]} | {
        f"set {one['name']}": one for one in report["recommendations"]
    }


@pytest.mark.parametrize("protocol", ["3", "4.1"])
def test_two_hosts_measure_late_look_ups_and_who_wins(hosts: Hosts, protocol: str) -> None:
    first, second = probed(hosts, protocol, f"probe{protocol}")
    for found in (first, second):
        assert found["file system"]["value"]["network"] is True
        assert found["file system"]["value"]["vers"] == protocol
        assert found["stale look-ups"]["verdict"] == "limited", found["stale look-ups"]
        assert found["stale look-ups"]["value"] > 5
        assert found["set lookupcache"]["value"] == "positive"
        assert found["files without a name"]["value"] is False
        for name in ("exclusive create", "hard link as claim", "rename as claim", "rename over a file"):
            assert found[name]["verdict"] == "ok", found[name]
            assert found[f"{name} by two hosts"]["verdict"] == "ok", found[f"{name} by two hosts"]
    assert first["stale look-ups"] == second["stale look-ups"]


def test_lookupcache_positive_makes_names_seen_at_once_and_is_not_recommended_again(hosts: Hosts) -> None:
    for found in probed(hosts, "4.1", "positive", "lookupcache=positive"):
        assert found["stale look-ups"]["verdict"] == "ok", found["stale look-ups"]
        assert "set lookupcache" not in found
