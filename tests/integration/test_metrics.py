"""Figures for Prometheus, as Prometheus reads them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as classic

from stager.metrics import METRICS, Kind
from stager.model.jobs import JobInput, JobSpec, JobState
from tests.support.needs import needs
from tests.support.origin import Origin, content
from tests.support.processes import PATIENCE, ServerProcess

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "stager.json"
KNOWN = {
    name
    for one in METRICS
    for name in (
        (f"{one.name}_bucket", f"{one.name}_sum", f"{one.name}_count")
        if one.kind is Kind.HISTOGRAM
        else (one.name,)
    )
}
OF_PROCESSES = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"}

Sample = Callable[..., float]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that has brought one file, had one at hand, failed to bring one, and keeps one job waiting."""
    with (
        Origin() as origin,
        ServerProcess(tmp_path_factory.mktemp("server")) as running,
        running.client() as client,
    ):
        there = origin.serve("/there.dat", content(b"x" * 1000))
        absent = origin.url("/absent.dat")
        for url in (there, there, absent):
            (job,) = client.jobs.submit([JobSpec(("true",), (JobInput(url),))])
            client.jobs.wait(job, PATIENCE)
        client.jobs.submit([JobSpec(("true",), after=("never",))])
        yield running


def get(server: ServerProcess, path: str = "/metrics", **headers: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(server.url + path, headers=headers, timeout=PATIENCE)


def authorized(server: ServerProcess) -> dict[str, str]:
    return {"Authorization": f"Bearer {(server.root / 'state' / 'token').read_text().strip()}"}


@pytest.fixture
def samples(server: ServerProcess) -> Sample:
    """Looks up one value by name and labels."""
    found = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in classic(get(server, **authorized(server)).text)
        for sample in family.samples
    }
    return lambda name, **labels: found[name, frozenset(labels.items())]


def test_jobs_and_fetches_are_counted_once_each(samples: Sample) -> None:
    assert samples("stager_jobs_submitted_total") == 4
    assert samples("stager_jobs", state=JobState.WAITING) == 1
    assert samples("stager_jobs_dispatched_total") == 2
    assert samples("stager_jobs_ended_total", state="done") == 2
    assert samples("stager_jobs_ended_total", state="failed") == 1
    assert samples("stager_job_ready_seconds_count") == samples("stager_job_dispatch_seconds_count") == 2
    assert samples("stager_fetches_ready_total", source="origin") == 1
    assert samples("stager_fetches_ready_total", source="cache") == 1
    assert samples("stager_staged_bytes_total", source="cache") == 1000
    assert samples("stager_received_bytes_total") == 1000
    assert samples("stager_fetch_errors_total", error="origin-refused") == 1
    assert samples("stager_fetches_failed_total", error="origin-refused") == 1
    assert samples("stager_fetches", state="queued") == 0


def test_how_things_stand_is_read_when_somebody_asks(samples: Sample) -> None:
    assert samples("stager_cache_usable") == 1
    assert samples("stager_cache_free_bytes") > 0
    assert samples("stager_oldest_waiting_job_age_seconds") > 0
    assert samples("stager_mapper_answer_seconds") < 2
    assert samples("stager_event_loop_lag_seconds") >= 0
    assert samples("stager_state_write_seconds_count") > 0


def test_requests_are_told_apart_by_route_and_never_by_what_they_name(
    samples: Sample, server: ServerProcess
) -> None:
    assert samples("stager_http_requests_total", method="POST", route="/v1/jobs", status="201") == 4
    assert samples("stager_http_request_seconds_count", method="POST", route="/v1/jobs") == 4
    get(server, "/v1/jobs/some-id", **authorized(server))
    get(server, "/no/such/place")
    text = get(server, **authorized(server)).text
    assert 'route="/v1/jobs/{job}",status="404"' in text
    assert 'route="none",status="404"' in text
    assert "some-id" not in text
    assert "/no/such/place" not in text


def test_whoever_accepts_openmetrics_gets_it(server: ServerProcess) -> None:
    answer = get(server, **authorized(server), Accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert "stager_jobs" in {family.name for family in openmetrics(answer.text)}  # type: ignore[no-untyped-call]


def test_no_metric_is_shown_that_is_not_in_the_list(server: ServerProcess) -> None:
    shown = {s.name for family in classic(get(server, **authorized(server)).text) for s in family.samples}
    assert {name for name in shown if not name.startswith("process_")} <= KNOWN
    assert shown >= OF_PROCESSES


def test_figures_want_the_token_unless_the_site_shows_them_to_everybody(
    server: ServerProcess, tmp_path: Path
) -> None:
    assert get(server).status_code == 401
    assert get(server, "/metrics/").status_code == 401
    with ServerProcess(tmp_path, STAGER_METRICS_OPEN="true") as open_one:
        assert get(open_one).status_code == 200
        assert get(open_one, "/v1/status").status_code == 401


@pytest.mark.parametrize("file", [RULES, DASHBOARD], ids=lambda path: path.name)
def test_what_is_shipped_for_prometheus_and_grafana_names_only_metrics_that_exist(file: Path) -> None:
    if file is RULES:
        rules = [rule for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]
        asked = [rule["expr"] for rule in rules]
        described = " ".join(str(rule["annotations"]) for rule in rules)
        assert set(re.findall(r"\bstager_\w+", described)) <= KNOWN | {one.name for one in METRICS}
    else:
        panels = json.loads(file.read_text())["panels"]
        asked = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    named = set(re.findall(r"\b(?:stager|process)_\w+", " ".join(asked)))
    assert named
    assert named <= KNOWN | OF_PROCESSES


def test_prometheus_accepts_the_rules_and_finds_nothing_to_say_about_the_names(server: ServerProcess) -> None:
    needs(shutil.which("promtool"), "promtool (package prometheus) is not installed")
    text = get(server, **authorized(server)).text
    for command, given in (
        (["check", "rules", str(RULES)], ""),
        (["check", "config", "--syntax-only", str(RULES.with_name("prometheus.yml"))], ""),
        (["check", "metrics"], text),
    ):
        done = subprocess.run(
            ["promtool", *command], input=given, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
