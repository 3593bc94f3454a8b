"""A file behind a login, two users of the server: what is for one of them reaches the other by no way there is."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest

from stager.model.credential_scope import Scope
from stager.model.credentials import Kind, NewCredential
from stager.model.jobs import JobState
from stager.model.principals import Role
from tests.support.origin import Origin
from tests.support.until import until
from tests.support.vault import basic, guarded, place
from tests.support.world import PATIENCE, TOKEN, World, world

DATA = b"behind a login, for ann alone"
DIGEST = sha256(DATA).hexdigest()


class Site(NamedTuple):
    """What the tests need: the server, the file, two users' tokens, and ann's job that has read it."""

    made: World
    origin: Origin
    url: str
    ann: str
    bob: str
    job: str


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root: Path = tmp_path_factory.mktemp("users")
    with Origin() as origin, world(root, allowed_networks=("127.0.0.0/8",)) as made:
        admits = basic("ann")
        fresh = {"Cache-Control": "max-age=9999"}
        url = origin.serve(
            "/data",
            guarded(DATA, lambda headers: headers.get("authorization") == admits, etag='"1"', headers=fresh),
        )
        scope = Scope(place(origin.base), "/", "ann", allow_http=True)
        parts = {"user": "ann", "password": "canary-password"}
        made.server.credentials.add(NewCredential(scope, Kind.BASIC, parts))
        ann, bob = made.user("ann", Role.USER), made.user("bob", Role.USER)
        script = 'cat inputs/data; cat inputs/data > "$STAGER_RESULTS/copy"'
        body = {"command": ["/bin/sh", "-c", script], "inputs": [{"url": url, "name": "data"}]}
        (job,) = made("POST", "/v1/jobs", ann, json=body).json()["ids"]
        assert made.server.jobs.wait(job, PATIENCE).state is JobState.DONE
        yield Site(made, origin, url, ann, bob, job)


def ways(site: Site) -> dict[str, str]:
    """Calls that give, or tell of, the file or what was made of it."""
    key, job = quote(site.url, safe=""), site.job
    result = quote(f"result:{job}/copy", safe="")
    return {
        "content by key": f"/v1/cache/content/{key}",
        "content by key, host in capitals": f"/v1/cache/content/{quote(site.url.replace('http:', 'HTTP:'), safe='')}",
        "object by digest": f"/v1/objects/{DIGEST}",
        "object by digest in capitals": f"/v1/objects/{DIGEST.upper()}",
        "shown by key": f"/v1/cache/files/{key}",
        "shown by digest": f"/v1/cache/files/{DIGEST}",
        "shown by the beginning of the digest": f"/v1/cache/files/{DIGEST[:10]}",
        "the job": f"/v1/jobs/{job}",
        "the job by an ending of its id": f"/v1/jobs/{job[-8:]}",
        "the log": f"/v1/jobs/{job}/logs/stdout",
        "the results": f"/v1/jobs/{job}/results",
        "a result": f"/v1/jobs/{job}/results/copy",
        "a result by its key": f"/v1/cache/content/{result}",
        "a result shown by its key": f"/v1/cache/files/{result}",
    }


def test_the_user_who_has_proved_it_reads_it(site: Site) -> None:
    for way in ("content by key", "object by digest", "the log", "a result"):
        assert site.made("GET", ways(site)[way], site.ann).content == DATA, way


def test_no_other_user_learns_anything_of_it(site: Site) -> None:
    for way, path in ways(site).items():
        for method in ("GET", "HEAD"):
            answer = site.made(method, path, site.bob)
            assert answer.status_code in {404, 405}, (way, answer.text)
            assert DATA not in answer.content, way
            assert DIGEST not in str(answer.headers), way
    nobodys = "0" * 64
    missing = site.made("GET", f"/v1/objects/{nobodys}", site.bob).json()
    hidden = site.made("GET", f"/v1/objects/{DIGEST}", site.bob).json()
    for part in ("status", "code", "what", "cause", "remedy"):
        assert str(missing[part]).replace(nobodys, DIGEST) == str(hidden[part]), "as if there were none"


def test_no_list_of_another_users_has_it(site: Site) -> None:
    host = site.origin.base.partition("//")[2]
    for path in ("/v1/cache/files", "/v1/grants", "/v1/credentials"):
        until(
            lambda path=path: host in site.made("GET", path, TOKEN).text,  # type: ignore[misc]
            f"{path} has it for who may see all",
        )
    for path in (
        "/v1/jobs",
        "/v1/cache/files",
        "/v1/grants",
        "/v1/credentials",
        "/v1/cache/pins",
        "/v1/stage",
    ):
        text = site.made("GET", path, site.bob).text
        assert site.url not in text
        assert site.job not in text
        assert DIGEST not in text
    told = site.made("POST", "/v1/archiveinfo", site.bob, json={"paths": [site.url]}).json()
    assert told == [{"path": site.url, "locality": "TAPE"}], "as if it had to be fetched"


def test_another_users_job_does_not_get_it_by_its_digest_nor_by_naming_who_may(site: Site) -> None:
    command = ["/bin/sh", "-c", "cat inputs/data"]
    for one in ({"url": site.url, "name": "data"}, {"url": site.url, "name": "data", "sha256": DIGEST}):
        body = {"command": command, "inputs": [one]}
        (job,) = site.made("POST", "/v1/jobs", site.bob, json=body).json()["ids"]
        shown = site.made("GET", f"/v1/jobs/{job}?wait=0.5", site.bob).json()
        assert shown["state"] == "waiting"
        assert site.made("GET", f"/v1/jobs/{job}/logs/stdout", site.bob).content == b""
        assert site.made("POST", "/v1/jobs", site.bob, json=body | {"owner": "ann"}).status_code == 403
        site.made("POST", f"/v1/jobs/{job}/cancel", site.bob)


def test_a_pin_a_stage_request_or_a_file_of_his_own_leads_no_other_user_to_it(site: Site) -> None:
    key = quote(site.url, safe="")
    assert site.made("POST", "/v1/cache/pins", site.bob, json={"file": site.url}).status_code == 404
    assert site.made("POST", "/v1/cache/pins", site.bob, json={"file": DIGEST}).status_code == 404
    assert site.made("PUT", f"/v1/cache/files/{key}", site.bob, data=b"poison").status_code == 403
    assert site.made("GET", ways(site)["content by key"], site.ann).content == DATA
    stage = site.made("POST", "/v1/stage", site.bob, json={"files": [site.url]}).json()["id"]
    files = site.made("GET", f"/v1/stage/{stage}?wait=0.5", site.bob).json()["all_files"]
    assert files[0]["state"] != "ready"
    assert DIGEST not in str(files)


def test_when_the_grant_ends_it_is_there_for_him_no_more(site: Site) -> None:
    assert site.made("DELETE", "/v1/grants?user=ann", site.bob).status_code == 403
    assert site.made("DELETE", f"/v1/grants?grant={quote(site.url, safe='')}", site.bob).status_code == 404
    assert site.made("GET", ways(site)["content by key"], site.ann).status_code == 200
    assert site.made("DELETE", f"/v1/grants?grant={quote(site.url, safe='')}", site.ann).status_code == 200
    assert site.made("GET", ways(site)["content by key"], site.ann).status_code == 404
    assert site.made("GET", ways(site)["a result"], site.ann).content == DATA, "what his job left is his"
