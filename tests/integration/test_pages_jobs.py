"""What the pages say of jobs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from stager.model.jobs import JobInput, JobSpec, JobState
from tests.support.api import Api, running_api
from tests.support.jobserver import shell, url
from tests.support.visitor import Visitor, words

PATIENCE = 60.0


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with running_api(tmp_path) as running:
        yield running


@pytest.fixture
def visitor(api: Api) -> Iterator[Visitor]:
    with Visitor(api.url) as visitor:
        visitor.log_in()
        yield visitor


def part(page: str, name: str) -> str:
    """What a part of a page says."""
    found = re.search(rf'id="{name}"[^>]*>(.*?)(?:</section>|<section|</ul>|</ol>)', page, re.DOTALL)
    assert found is not None, name
    return words(found[1])


def submit(api: Api, *specs: JobSpec) -> list[str]:
    return api.server.jobs.submit(specs)


def ended(api: Api, job: str) -> JobState:
    return api.server.jobs.wait(job, PATIENCE).state


def test_the_overview_of_an_empty_server_says_what_to_do(visitor: Visitor) -> None:
    page = visitor.get("/").text
    assert "Nothing is being transferred." in part(page, "transfers")
    assert "stager submit" in part(page, "waiting")
    assert "No job has failed." in part(page, "failed")
    assert part(page, "counts").startswith("0 waiting 0 ready 0 dispatched 0 running 0 done")


def test_the_overview_says_what_each_job_still_waits_for_and_why_others_failed(
    api: Api, visitor: Visitor
) -> None:
    server = api.server
    server.origin.content = {url("run7.nxs"): b"neutrons"}
    server.origin.gate.clear()
    (job,) = submit(api, shell("true", "run7.nxs", name="reduce-7", after=("calibrated",)))
    failed = submit(api, shell("exit 3", name="bad-fit"))
    assert ended(api, failed[0]) is JobState.FAILED
    page = visitor.get("/").text
    assert re.search(rf"reduce-7 {job} .*? ago run7.nxs, calibrated", part(page, "waiting"))
    assert re.search(r"bad-fit \S+ .*? ago status 3 see stager logs", part(page, "failed"))
    server.origin.gate.set()
    server.jobs.meet("calibrated")
    assert ended(api, job) is JobState.DONE
    page = visitor.get(f"/jobs/{job}").text
    assert "done with status 0" in part(page, "head")
    steps = part(page, "history")
    order = [
        steps.index(word)
        for word in ("submitted", "input staged: run7.nxs", "ready", "dispatched", "running", "done")
    ]
    assert order == sorted(order)
    assert re.search(r"run7.nxs \S+/run7.nxs ready 8 B 8 B transferred", part(page, "needs"))


def test_the_parts_that_move_are_to_be_had_alone(visitor: Visitor) -> None:
    live = visitor.get("/", X_Live="1").text
    assert "<html" not in live
    assert 'id="transfers" data-live' in live
    assert "csrf" not in live


def test_logs_and_results_are_on_the_page_of_the_job(api: Api, visitor: Visitor) -> None:
    script = (
        r"printf '\033[31mred\033[0m <b>bold</b>\r\nlast line\n'; echo trouble >&2; echo 42 > results/a+b.txt"
    )
    (job,) = submit(api, shell(script))
    assert ended(api, job) is JobState.DONE
    page = visitor.get(f"/jobs/{job}").text
    assert "red &lt;b&gt;bold&lt;/b&gt;\nlast line\n</pre>" in page
    assert "trouble" in part(page, "logs")
    assert visitor.get(f"/jobs/{job}/logs/stderr").text == "trouble\n"
    link = re.search(rf'href="(/jobs/{job}/results/[^"]+)"', page)
    assert link is not None
    answer = visitor.get(link[1])
    assert answer.content == b"42\n"
    assert answer.headers["Content-Disposition"].startswith("attachment")


def test_a_long_log_is_shown_from_its_end(api: Api, visitor: Visitor) -> None:
    (job,) = submit(api, shell("seq 1 20000"))
    assert ended(api, job) is JobState.DONE
    page = visitor.get(f"/jobs/{job}").text
    assert "The end of stdout" in page
    assert "\n20000\n</pre>" in page
    assert "\n1\n" not in page
    assert "all 106.3 KiB" in words(page)


def test_what_people_name_is_shown_as_text_and_nothing_else(api: Api, visitor: Visitor) -> None:
    name = "<script>alert(1)</script>\"'&{{7*7}}"
    (job,) = submit(
        api,
        JobSpec(
            ("sh", "-c", "exit 1", name),
            (JobInput("http://origin.test/%3Cimg%20src=x%3E?sig=topsecret", name="<i>x"),),
            environment=(("A", name),),
            name=name,
        ),
    )
    assert ended(api, job) is JobState.FAILED
    for path in ("/", "/jobs", f"/jobs/{job}"):
        page = visitor.get(path).text
        assert "<script>alert" not in page
        assert "<i>x" not in page
        assert "topsecret" not in page
        assert "{{7*7}}" in page
        assert "&lt;script&gt;alert(1)" in page


def test_jobs_are_listed_by_state_and_page_by_page(api: Api, visitor: Visitor) -> None:
    many = submit(api, *(shell("true", name=f"job-{n:03}", after=("never",)) for n in range(120)))
    seen: list[str] = []
    path = "/jobs?state=waiting"
    for _ in range(3):
        page = visitor.get(path).text
        seen += re.findall(r'<th scope="row"><a href="/jobs/(\w+)"', page)
        older = re.search(r'href="([^"]+)" rel="next"', page)
        if older is None:
            break
        path = older[1].replace("&amp;", "&")
    assert seen == many[::-1]
    assert "No job is done." in words(visitor.get("/jobs?state=done"))


def test_a_job_is_found_by_its_name_and_by_the_end_of_its_id(api: Api, visitor: Visitor) -> None:
    (job,) = submit(api, shell("true", name="reduce-7", after=("never",)))
    assert visitor.get("/jobs?find=reduce-7").headers["Location"] == f"/jobs/{job}"
    assert visitor.get(f"/jobs/{job[-6:]}").headers["Location"] == f"/jobs/{job}"
    assert visitor.get("/jobs?find=nobody").status_code == 404


def test_a_job_that_failed_is_retried_as_a_new_one(api: Api, visitor: Visitor) -> None:
    (job,) = submit(api, shell("exit 3", name="bad-fit"))
    assert ended(api, job) is JobState.FAILED
    assert "Retry it as a new job" in words(visitor.get(f"/jobs/{job}"))
    again = visitor.send(f"/jobs/{job}/retry").headers["Location"].removeprefix("/jobs/")
    assert again != job
    assert ended(api, again) is JobState.FAILED
    assert api.server.jobs.job(again).name == "bad-fit"
    (waiting,) = submit(api, shell("true", after=("never",)))
    assert "Retry it" not in words(visitor.get(f"/jobs/{waiting}"))
    assert visitor.send(f"/jobs/{waiting}/retry").status_code == 409


def test_a_precondition_is_met_with_a_button(api: Api, visitor: Visitor) -> None:
    (job,) = submit(api, shell("true", after=("approved",)))
    assert "It is met" in part(visitor.get(f"/jobs/{job}").text, "needs")
    assert visitor.send(f"/jobs/{job}/meet", {"name": "approved"}).headers["Location"] == f"/jobs/{job}"
    assert ended(api, job) is JobState.DONE
    assert visitor.send(f"/jobs/{job}/cancel").status_code == 409


def test_of_many_inputs_a_page_shows_some_and_those_first_that_are_missing(
    api: Api, visitor: Visitor
) -> None:
    names = [f"in{n:04}" for n in range(150)]
    api.server.origin.content = {url(name): b"x" for name in names}
    digest = sha256(b"x").hexdigest()
    there = tuple(JobInput(url(name), sha256=digest) for name in names)
    (first,) = submit(api, JobSpec(("true",), there))
    assert ended(api, first) is JobState.DONE
    api.server.origin.gate.clear()
    (job,) = submit(api, JobSpec(("true",), (*there, JobInput(url("missing")))))
    page = visitor.get(f"/jobs/{job}").text
    assert part(page, "needs").startswith("150 of 151 inputs ready. Input State Progress Note missing")
    more = visitor.get(f"/jobs/{job}?skip=100").text
    assert re.findall(r">(in\d{4})<br>", page + more) == names
    assert "2 inputs were there" not in page
    assert "150 inputs were there" in part(page, "history")
    api.server.jobs.cancel(job)
    api.server.origin.gate.set()
