"""Jobs at another job server: signed, repeated until taken, reported back."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest

from stager.cache.store import FileCache
from stager.errors import CommandFailedError, ConflictError, JobError, SettingsError
from stager.mapper.dispatch.posting import Webhook
from stager.mapper.dispatch.runs import Outcome
from stager.mapper.dispatch.signing import read_secret, signature
from stager.mapper.dispatch.webhook import WebhookDispatcher
from stager.model.backoff import RetryPolicy
from stager.model.events import DispatchInput, JobStarted
from tests.support.places import PATIENCE, Heard, order, until

SECRET = b"0123456789abcdef0123456789abcdef"
DONE = Outcome(0, None, 1.5)


@dataclass
class Post:
    """One post as it came."""

    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def message(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Other:
    """The other side: answers with one of `answers` after the other; the last one stays."""

    answers: list[tuple[int, dict[str, str]]] = field(default_factory=lambda: [(202, {})])
    posts: list[Post] = field(default_factory=list)
    before_answer: Callable[[dict[str, Any]], None] = lambda _: None

    def __enter__(self) -> Self:
        other = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                post = Post({k.lower(): v for k, v in self.headers.items()}, body, time.monotonic())
                status, headers = other.answers.pop(0) if len(other.answers) > 1 else other.answers[0]
                other.posts.append(post)
                other.before_answer(post.message)
                if status == 0:
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in {"Content-Length": "0", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook/with-a-canary?key=canary"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def other() -> Iterator[Other]:
    with Other() as running:
        yield running


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(tmp_path / "cache")


Make = Callable[[], WebhookDispatcher]


@pytest.fixture
def make(tmp_path: Path, cache: FileCache, heard: Heard, other: Other) -> Iterator[Make]:
    made: list[WebhookDispatcher] = []

    def new() -> WebhookDispatcher:
        retry = RetryPolicy(attempts=4, first_seconds=0.01)
        made.append(
            WebhookDispatcher(
                cache, tmp_path / "runs", heard, webhook=Webhook(other.url, SECRET), retry=retry
            )
        )
        return made[-1]

    yield new
    for dispatcher in made:
        dispatcher.close()


def test_the_order_says_all_that_is_needed_to_run_the_job(make: Make, other: Other, cache: FileCache) -> None:
    entry = cache.put("k", b"four")
    make().hand_over(
        order("true", DispatchInput("a.dat", entry.object, 4, "f1"), results=("*.json",), name="fit")
    )
    until(lambda: other.posts)
    message = other.posts[0].message
    directory = str(cache.root / "jobs" / "job1")
    environment = message.pop("environment")
    assert message == {
        "state": "run",
        "job": "job1",
        "epoch": 1,
        "name": "fit",
        "request_id": "",
        "owner": "ada",
        "command": ["/bin/sh", "-c", "true"],
        "inputs": [{"name": "a.dat", "sha256": entry.object, "size": 4, "path": f"{directory}/inputs/a.dat"}],
        "results": ["*.json"],
        "directory": directory,
    }
    assert set(environment) == {
        "MODE", "STAGER_JOB_ID", "STAGER_JOB_NAME", "STAGER_JOB_DIR", "STAGER_INPUTS", "STAGER_RESULTS",
    }  # fmt: skip
    assert Path(message["inputs"][0]["path"]).read_bytes() == b"four"


def test_a_post_is_signed_over_its_id_its_time_and_its_body(make: Make, other: Other) -> None:
    make().hand_over(order("true"))
    until(lambda: other.posts)
    post = other.posts[0]
    assert post.headers["idempotency-key"] == post.headers["webhook-id"] == "job1:1"
    stamp = post.headers["webhook-timestamp"]
    assert abs(int(stamp) - time.time()) < 60
    expected = hmac.new(SECRET, b"job1:1." + stamp.encode() + b"." + post.body, hashlib.sha256).digest()
    assert post.headers["webhook-signature"] == "v1," + base64.b64encode(expected).decode()


def test_a_signature_is_the_one_of_the_conventions_own_example() -> None:
    """From the reference libraries of Standard Webhooks."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    message, stamp = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330
    assert signature(secret, message, stamp, b'{"test": 2432232314}') == (
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


@pytest.mark.parametrize("status", [0, 408, 425, 429, 500, 502, 503])
def test_what_may_pass_is_posted_again_under_the_same_key(
    make: Make, other: Other, heard: Heard, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    other.answers = [(status, {}), (status, {}), (204, {})]
    make().hand_over(order("true"))
    until(lambda: len(other.posts) == 3)
    assert {post.headers["idempotency-key"] for post in other.posts} == {"job1:1"}
    assert len({post.body for post in other.posts}) == 1
    assert heard.kinds() == []
    assert "127.0.0.1 did not take job job1" in caplog.text
    assert "canary" not in caplog.text


@pytest.mark.parametrize("as_date", [False, True])
def test_the_other_side_says_when_to_come_again(make: Make, other: Other, as_date: bool) -> None:
    wait = formatdate(time.time() + 2, usegmt=True) if as_date else "1"
    other.answers = [(429, {"Retry-After": wait}), (202, {})]
    make().hand_over(order("true"))
    until(lambda: len(other.posts) == 2)
    assert other.posts[1].at - other.posts[0].at > 0.9


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (400, {}, "400 Bad Request; see the log of the server behind webhook_url"),
        (401, {}, "401 Unauthorized; check that both sides have the same webhook secret"),
        (404, {}, "404 Not Found"),
        (
            307,
            {"Location": "http://127.0.0.1:1/elsewhere"},
            "307 Temporary Redirect; write the final address",
        ),
    ],
)
def test_a_lasting_refusal_fails_the_job_and_names_host_status_and_remedy(
    make: Make, other: Other, heard: Heard, status: int, headers: dict[str, str], said: str
) -> None:
    other.answers = [(status, headers)]
    make().hand_over(order("true"))
    ended = heard.ended()
    assert isinstance(ended.error, CommandFailedError)
    assert f"127.0.0.1 did not take job job1: {said}" in str(ended.error)
    assert "canary" not in str(ended.error)
    assert ended.error.details["status"] == status
    assert len(other.posts) == 1


def test_after_the_last_try_the_job_fails(make: Make, other: Other, heard: Heard) -> None:
    other.answers = [(503, {})]
    make().hand_over(order("true"))
    assert "503 Service Unavailable" in str(heard.ended().error)
    assert len(other.posts) == 4


def test_a_host_that_is_not_there_is_a_passing_trouble() -> None:
    webhook = Webhook("http://127.0.0.1:1/canary", SECRET)
    answer = webhook.post("k", {})
    webhook.close()
    assert (answer.status, answer.passing, answer.cause) == (0, True, "Connection refused")


def test_reports_move_the_job_and_are_told_once(
    make: Make, other: Other, heard: Heard, cache: FileCache
) -> None:
    dispatcher = make()
    dispatcher.hand_over(order("true"))
    until(lambda: other.posts)
    assert dispatcher.report("job1", 1, None)
    heard.wait_for(JobStarted)
    assert not dispatcher.report("job1", 1, None)
    (cache.root / "jobs" / "job1" / "results" / "fit.json").write_text("{}")
    assert dispatcher.report("job1", 1, DONE)
    ended = heard.ended()
    assert not dispatcher.report("job1", 1, DONE)
    assert not dispatcher.report("job1", 1, None)
    assert (ended.exit_code, ended.seconds, [r.name for r in ended.results]) == (0, 1.5, ["fit.json"])
    assert heard.kinds() == ["JobStarted", "JobEnded"]
    with pytest.raises(ConflictError, match="has ended already: with status 0"):
        dispatcher.report("job1", 1, Outcome(1, None, 0.0))


def test_a_report_on_a_run_that_was_never_posted_is_refused(make: Make) -> None:
    with pytest.raises(ConflictError, match="run 1 of job job9 was not handed over"):
        make().report("job9", 1, None)


def test_a_report_may_come_before_the_answer_to_the_post(make: Make, other: Other, heard: Heard) -> None:
    dispatcher = make()
    other.answers = [(0, {}), (500, {})]  # taken, and nothing was heard of that but the report
    other.before_answer = lambda _: (dispatcher.report("job1", 1, DONE), None)[1]
    dispatcher.hand_over(order("true"))
    assert heard.ended().error is None
    assert len(other.posts) == 1


def test_what_was_reported_to_a_server_that_died_is_known_to_the_next(
    make: Make, other: Other, heard: Heard
) -> None:
    first = make()
    first.hand_over(order("true"))
    until(lambda: other.posts)
    first._hand_overs.close()  # it says nothing more, as after a kill
    assert first.report("job1", 1, DONE)
    first.close()
    assert heard.kinds() == []
    make().hand_over(order("true"))
    assert heard.ended().exit_code == 0
    assert len(other.posts) == 1


def test_a_restarted_server_does_not_post_again_what_was_taken(
    make: Make, other: Other, heard: Heard, tmp_path: Path
) -> None:
    first = make()
    first.hand_over(order("true"))
    note = tmp_path / "runs" / "job1.1.json"
    until(lambda: note.exists() and json.loads(note.read_text()).get("taken"))
    first.close()
    second = make()
    second.hand_over(order("true"))
    second.hand_over(order("true", job="job2"))
    until(lambda: len(other.posts) == 2)
    assert [post.message["job"] for post in other.posts] == ["job1", "job2"]
    second.report("job1", 1, DONE)
    heard.ended()


def test_a_restarted_server_posts_again_what_may_not_have_come(make: Make, other: Other) -> None:
    other.answers = [(503, {})]
    first = make()
    first.hand_over(order("true"))
    until(lambda: other.posts)
    first.close()
    before = len(other.posts)
    other.answers = [(202, {})]
    make().hand_over(order("true"))
    until(lambda: len(other.posts) > before)
    assert {post.headers["webhook-id"] for post in other.posts} == {"job1:1"}


@pytest.mark.parametrize("status", [200, 204, 404, 409, 410])
def test_a_cancel_is_over_when_the_other_side_says_so(
    make: Make, other: Other, heard: Heard, status: int
) -> None:
    dispatcher = make()
    other.answers = [(202, {}), (503, {}), (status, {})]
    dispatcher.hand_over(order("true"))
    until(lambda: other.posts)
    dispatcher.stop("job1", 1)
    ended = heard.ended()
    assert str(ended.error) == "cancelled"
    assert other.posts[-1].message == {"state": "cancel", "job": "job1", "epoch": 1}
    assert [post.headers["webhook-id"] for post in other.posts[1:]] == ["job1:1:cancel"] * 2


def test_a_cancel_that_takes_time_is_over_with_the_report_of_the_end(
    make: Make, other: Other, heard: Heard
) -> None:
    dispatcher = make()
    dispatcher.hand_over(order("true"))
    until(lambda: other.posts)
    dispatcher.stop("job1", 1)
    until(lambda: len(other.posts) == 2)
    assert heard.kinds() == []
    dispatcher.report("job1", 1, Outcome(143, None, 1.0))
    assert heard.ended().exit_code == 143


def test_a_cancel_never_overtakes_the_job(make: Make, other: Other, heard: Heard) -> None:
    on_its_way, go = threading.Event(), threading.Event()

    def wait(message: dict[str, Any]) -> None:
        if message["state"] == "run":
            on_its_way.set()
            assert go.wait(PATIENCE)

    other.before_answer = wait
    other.answers = [(202, {}), (200, {})]
    dispatcher = make()
    dispatcher.hand_over(order("true"))
    assert on_its_way.wait(PATIENCE)
    dispatcher.stop("job1", 1)
    dispatcher.hand_over(order("true", job="job2"))  # the executor gets on
    assert [post.message["state"] for post in other.posts[:1]] == ["run"]
    go.set()
    assert isinstance(heard.ended().error, JobError)
    mine = [post.message["state"] for post in other.posts if post.message["job"] == "job1"]
    assert mine == ["run", "cancel"]


@pytest.mark.parametrize(
    "url", ["", "ftp://host/x", "https:///x", "http://user:word@host/x", "jobs.example.org/x"]
)
def test_a_url_that_can_not_be_posted_to_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(SettingsError, match="setting webhook_url is no address") as raised:
        Webhook(url, SECRET)
    assert "word" not in str(raised.value).replace("password", "")


def test_a_secret_may_be_plain_or_as_the_convention_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("0123456789abcdef0123456789\n")
    assert read_secret(str(path)) == b"0123456789abcdef0123456789"
    path.write_text("whsec_" + base64.b64encode(SECRET).decode())
    assert read_secret(str(path)) == SECRET


@pytest.mark.parametrize("content", [None, b"", b"tiny-canary", b"\xff" * 40, b"whsec_%%%%"])
def test_a_secret_that_is_none_is_refused_and_not_shown(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as raised:
        read_secret(str(path))
    assert str(path) in str(raised.value)
    assert not content or content.decode("latin-1") not in str(raised.value)


def test_no_secret_at_all_is_named_as_the_setting_that_is_missing() -> None:
    with pytest.raises(SettingsError, match="setting webhook_secret_file is empty"):
        read_secret("")
