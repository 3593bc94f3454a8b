"""The audit log: what is written of it, what never is, and how long it stays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stager.clock import ManualClock
from stager.errors import StateError
from stager.model.audit import AuditEntry
from stager.service import audit as module
from stager.service.audit import AuditLog
from stager.service.ids import IdMaker
from stager.state.store import Store

ENTRY = AuditEntry("", 1e9, "ada", "user", "t1", "POST /v1/jobs", "job1", 201, "r1", "127.0.0.1")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path / 'state.db'}")
    yield store
    store.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def log(store: Store, clock: ManualClock) -> AuditLog:
    return AuditLog(store.audit, clock, IdMaker(clock), days=10)


def test_what_is_noted_is_there_once_it_is_written_newest_first(log: AuditLog) -> None:
    log.note(ENTRY)
    log.note(replace(ENTRY, who="bob", at=1e9 + 1))
    assert log.entries() == [], "who asks waits for no writing"
    log.write()
    log.write()
    found = log.entries()
    assert [replace(one, id="") for one in found] == [replace(ENTRY, who="bob", at=1e9 + 1), ENTRY]
    assert [one.who for one in log.entries(who="ada")] == ["ada"]
    assert [one.who for one in log.entries(since=1e9 + 1)] == ["bob"]
    assert [one.who for one in log.entries(before=found[0].id)] == ["ada"]
    assert len(log.entries(limit=1)) == 1


def test_no_secret_is_written(log: AuditLog) -> None:
    secrets = ("hunter2hunter2", "stg_" + "A" * 43)
    log.note(replace(ENTRY, subject=f"/v1/cache/content/https://u:{secrets[0]}@h.test/x?sig={secrets[0]}"))
    log.note(replace(ENTRY, subject=f"/v1/tokens/{secrets[1]}"))
    log.write()
    for one in log.entries():
        assert not any(secret in one.subject for secret in secrets)
        assert one.subject.startswith("/v1/")


def test_a_flood_of_refusals_is_a_few_lines(log: AuditLog, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(500):
        log.note(replace(ENTRY, status=401, who="", subject=f"/v1/x\n{number}"))
    log.write()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 21
    assert "480 more" in lines[-1]
    assert not any("\n" in line for line in lines)
    assert len(log.entries(limit=1000)) == 500


def test_what_can_not_be_written_waits_and_what_is_too_much_is_said(
    log: AuditLog, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_entries: object) -> None:
        raise StateError("the disk is full")

    monkeypatch.setattr(module, "MOST_WAITING", 3)
    with monkeypatch.context() as failing:
        failing.setattr(store.audit, "add", refuse)
        for _ in range(5):
            log.note(ENTRY)
        with pytest.raises(StateError):
            log.write()
    log.write()
    assert len(log.entries()) == 3
    assert "2 entries of the audit log are lost" in caplog.text


def test_what_is_too_old_goes(log: AuditLog, clock: ManualClock) -> None:
    log.note(replace(ENTRY, at=clock.time()))
    log.write()
    clock.advance(9 * 86_400)
    log.note(replace(ENTRY, who="bob", at=clock.time()))
    log.write()
    assert len(log.entries()) == 2
    clock.advance(2 * 86_400)
    log.write()
    assert [one.who for one in log.entries()] == ["bob"]
