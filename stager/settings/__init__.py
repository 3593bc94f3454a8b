"""Settings: read once, checked once, frozen.

Each comes from, first found first taken: the command line, ``STAGER_*`` in the environment, the
settings file (``$STAGER_CONFIG``, else ``$XDG_CONFIG_HOME/stager/config.toml``), the default here.
"""

from __future__ import annotations

import json
import os
import tomllib
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as NotJsonError

from stager.errors import SettingsError
from stager.settings.access import AccessSettings

Seconds = Annotated[float, Field(gt=0, le=10_000_000)]
Days = Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False)]
Percent = Annotated[float, Field(gt=0, le=100)]
Count = Annotated[int, Field(ge=1, le=4096)]


def _xdg(variable: str, default: str) -> Path:
    base = os.environ.get(variable, "")
    return (Path(base) if os.path.isabs(base) else _expanded(Path("~")) / default) / "stager"  # noqa: PTH117 - text, may be empty


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:  # no such user, or one without a home
        raise SettingsError(
            f"{path} can't be found", cause=str(error), remedy="write the path in full"
        ) from None


def settings_file() -> Path:
    """The settings file that is read if it exists."""
    named = os.environ.get("STAGER_CONFIG")
    return _expanded(Path(named)) if named else _xdg("XDG_CONFIG_HOME", ".config") / "config.toml"


class Settings(AccessSettings, BaseSettings):
    """All settings; units are in the names."""

    model_config = SettingsConfigDict(
        env_prefix="STAGER_",
        extra="forbid",
        frozen=True,
        validate_default=True,
    )

    cache_dir: Path = Field(default_factory=lambda: _xdg("XDG_CACHE_HOME", ".cache"))
    """Root of the file cache."""
    shards: str = Field(default="2+2", pattern=r"^(flat|[1-8](\+[1-8]){0,3})$")
    """Hexadecimal digits per directory level (``flat``: no levels), for a cache that does not exist yet."""
    state_dir: Path = Field(default_factory=lambda: _xdg("XDG_STATE_HOME", ".local/state"))
    """Database, token and lock of the server; a local disk, never the share."""
    database_url: str = ""
    """SQLAlchemy URL; empty: SQLite in `state_dir`."""

    credentials_dir: str = ""
    """Where credentials are kept, sealed: a local disk, never the share; empty: `state_dir`/credentials."""
    credentials_key_file: str = ""
    """File with the private keys that open them, for processes that fetch; empty: ``key`` in `credentials_dir`."""
    credentials_public_key_file: str = ""
    """File with the public key that seals them; empty: ``key.pub`` in `credentials_dir`."""

    accelerator_location: str = Field(default="", pattern=r"^(/[A-Za-z0-9._~/-]*)?$")
    """Internal location of an nginx in front, below which it has the cache's root and sends files from it; empty: none."""

    farm: Literal["threads", "process", "aio", "celery"] = "threads"
    """Where fetches run: threads of the server, a process of their own, async I/O, Celery workers."""
    fetch_threads: Count = 8
    """Transfers at once in the server, or in each worker process."""
    fetch_window: Count = 64
    """Seats released to Celery workers at once; what waits beyond them stays in the database."""
    fetch_processes: Annotated[int, Field(ge=0, le=256)] = 0
    """Processes of `stager fetch` with many URLs; 0: one per core."""
    origin_connections: Count = 6
    """Transfers at once from one origin, at most; an origin in trouble gets fewer."""
    segments: Annotated[int, Field(ge=0, le=64)] = 0
    """Connections that a large file is brought by where one is slow, at most; 0: as many as `origin_connections` leaves
    free, but one on each Celery worker, as these do not see each other's."""
    ageing_seconds: Seconds = 60.0
    """A fetch that waits this long gains one point of priority."""
    min_free_bytes: Annotated[int, Field(ge=0)] = 0
    """A fetch is not begun that would leave less than this free on the cache's file system."""
    min_free_inodes: Annotated[int, Field(ge=0)] = 1000
    """Likewise of names for files (inodes), where the file system counts them; each file of the cache takes two or more."""
    max_cache_bytes: Annotated[int, Field(ge=0)] = 0
    """The cache is made smaller when it holds more than this; 0: only the file system limits it."""
    max_used_percent: Percent = 95.0
    """The cache is made smaller when more than this of its file system is in use (by anybody); 100: never."""
    low_percent: Percent = 90.0
    """How far it is made smaller: to so much of what `max_cache_bytes` and `max_used_percent` allow."""
    input_days: Days = 180.0
    """An input that nobody used for so long goes; 0: never for its age."""
    result_promise_days: Days = 30.0
    """A result stays at least so long, whatever else needs room."""
    result_days: Days = 365.0
    """A result goes after so long; 0: never for its age."""
    owner_quota_bytes: Annotated[int, Field(ge=0)] = 0
    """What one owner's files may take; beyond it they go first, the longest unused ones; 0: no limit."""
    owner_quotas: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """The same for single owners, such as ``{"imaging" = 5_000_000_000_000}``; 0: no limit."""
    protected: tuple[str, ...] = ()
    """URLs or keys (``*`` and ``?`` are patterns) that only a command may evict."""
    keeper_seconds: Seconds = 60.0
    """Between two looks at the limits of the cache; a fetch that needs room does not wait for the next one."""
    grace_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 600.0
    """What is evicted waits in the trash for so long, where that is used: who has it open on another host can read on."""
    trash: Literal["auto", "always"] = "auto"
    """Where what is evicted waits: on network file systems; or always, as on the host that exports the cache to others."""
    verify_days: Days = 30.0
    """Each object is read and compared with its digest once in so many days; 0: only on command."""
    verify_bytes_per_second: Annotated[int, Field(ge=1)] = 20_000_000
    """At most so fast, when it is done by the server."""
    connect_timeout_seconds: Seconds = 10.0
    """Longest wait for a connection."""
    read_timeout_seconds: Seconds = 60.0
    """Longest silence of an origin."""
    low_speed_bytes_per_second: Annotated[int, Field(ge=0)] = 100
    """A transfer slower than this over `low_speed_seconds` is broken off and resumed; 0: never."""
    low_speed_seconds: Seconds = 60.0
    """Window of `low_speed_bytes_per_second`."""
    max_redirects: Annotated[int, Field(ge=0, le=50)] = 10
    """Redirects followed for one request."""
    max_head_bytes: Annotated[int, Field(ge=1024, le=1 << 24)] = 65_536
    """Longest head of an origin's answer."""
    max_file_bytes: Annotated[int, Field(ge=0)] = 10_000_000_000_000
    """A larger file is refused, before its first byte where the origin says how large it is; 0: none is."""
    max_fetch_seconds: Seconds = 86_400.0
    """Longest time of one try; what came is kept for the next one that somebody asks for."""
    max_job_inputs: Annotated[int, Field(ge=1)] = 10_000
    """A job with more inputs is not taken."""
    max_job_bytes: Annotated[int, Field(ge=0)] = 100_000_000_000_000
    """A job whose inputs are larger in all fails, before it runs; 0: none does."""
    retry_attempts: Count = 6
    """Tries in a row without progress."""
    retry_first_seconds: Seconds = 0.5
    """Wait before the second try; it doubles from try to try, and half of it is drawn at random."""
    retry_longest_seconds: Seconds = 300.0
    """Longest wait between two tries, also when the origin asks for more."""
    retry_deadline_seconds: Seconds = 86_400.0
    """From the first try to giving up."""
    unproven: Literal["refuse", "accept"] = "refuse"
    """What to do with a body that has neither length nor digest."""
    absent_seconds: Annotated[float, Field(ge=0, le=3600)] = 5.0
    """How long a file that its origin does not have (404, 410) is not asked for again; 0: it is at once."""
    html_hosts: tuple[str, ...] = ()
    """Hosts (``*`` is a pattern) whose pages are data, even if they look like a login."""
    fresh_min_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 60.0
    """How long a copy is used without asking when the origin says nothing."""
    fresh_max_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 86_400.0
    """Longest guess from Last-Modified (a tenth of the age)."""
    grant_seconds: Annotated[float, Field(gt=0, le=86_400.0)] = 300.0
    """For so long after an origin gave or confirmed a restricted file to a user that user's jobs get it unasked."""
    ca_bundle: str = ""
    """File with the certificates to trust; empty: the usual ones."""
    file_roots: tuple[Path, ...] = ()
    """Directories of the host that fetches, under which `file:` URLs may be read; none: nowhere."""
    allowed_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    """Networks that fetches may reach although they are not public, with commas; ``127.0.0.0/8``: this machine."""
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """The same for single hosts: ``*.portal.example 10.20.0.0/16 443``; several with semicolons."""
    allowed_ports: str = "80, 443, 1024-65535"
    """Ports that fetches may connect to; ``none``: only what `allowed_origins` lists."""
    sftp_known_hosts: str = ""
    """File with the keys of SSH servers; empty: `~/.ssh/known_hosts` and `/etc/ssh/ssh_known_hosts`."""
    endpoints: dict[str, str] = Field(default_factory=dict)
    """Addresses of object stores and WebDAV servers, by scheme or bucket, such as ``{"s3" = "https://s3.example.org"}``; else the makers' own."""

    other_schemes: Annotated[tuple[Literal["gs", "smb", "webdav"], ...], NoDecode] = ()
    """Schemes that are read besides the usual ones, with commas: ``gs``, ``smb``, ``webdav``; none: none of them."""
    unchecked_schemes: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Schemes that are read through fsspec, as the site itself, wherever its library connects to; each with what the
    constructor of its file system is given: ``{"abfs" = {account_name = "site"}}``."""

    dispatch: Literal["local", "celery", "command", "webhook"] = "local"
    """Where jobs run: this machine, Celery workers, a batch system, another job server."""
    job_slots: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Jobs handed over at once; 0: one per core for `local`, no limit elsewhere."""
    dispatch_submit: str = ""
    """Command that hands a job script to the batch system, such as ``sbatch --parsable {script}``."""
    dispatch_status: str = ""
    """Command that prints those of ``{batch_ids}`` that are not over."""
    dispatch_cancel: str = ""
    """Command that cancels ``{batch_id}``."""
    dispatch_poll_seconds: Seconds = 10.0
    """Between two looks for the ends of jobs in a batch system."""
    webhook_url: str = ""
    """Where ready jobs are posted."""
    webhook_secret_file: str = ""
    """File with the secret that signs them."""
    locality_wait_seconds: Annotated[float, Field(ge=0)] = 10.0
    """How long a job waits for the node that holds most of its bytes."""
    job_grace_seconds: Seconds = 10.0
    """From the request to end (SIGTERM) to the end (SIGKILL) of a cancelled job."""

    redis_url: str = "redis://127.0.0.1:6379/0"
    """Redis of a farm: ``redis://``, ``rediss://`` (TLS) or ``unix://``; a password in it is kept out of sight."""
    redis_password_file: str = ""
    """File with the password of Redis; empty: the one in `redis_url`, if any."""
    redis_ca_bundle: str = ""
    """File with the certificates to trust for ``rediss://``; empty: the usual ones."""
    node: str = Field(default="", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$|^$")
    """Name of this host among the workers; empty: its host name."""
    node_cache_dir: str = ""
    """A compute node's own file cache, which it announces; empty: it has none."""
    node_sources: Annotated[tuple[Literal["share", "server", "origin"], ...], NoDecode] = ()
    """From where that cache is filled with what jobs need, with commas, the first one first: ``share`` (`cache_dir`),
    ``server`` (by HTTP), ``origin``; none: it is not."""
    node_share: bool = True
    """Whether a compute node sees `cache_dir`; else jobs run in its own cache, and `server` gets what they leave."""
    node_cache_bytes: Annotated[int, Field(ge=0)] = 0
    """That cache is made smaller when it holds more than this; 0: only its file system limits it (`max_used_percent`)."""
    worker_processes: Annotated[int, Field(ge=0, le=256)] = 0
    """Celery worker processes that `stager worker` starts; 0: one per core."""
    lease_seconds: Seconds = 30.0
    """A fetch or job of a worker that gave no sign of life for so long is taken away from it."""
    reconcile_seconds: Seconds = 60.0
    """Between two looks for what fell between the parts."""
    flower_url: str = ""
    """Address of Flower, shown with the list of workers."""
    metrics_open: bool = False
    """Whether `/metrics` is shown without a token, to whoever reaches the server."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is logged: this and what is worse."""
    log_format: Literal["auto", "text", "json"] = "auto"
    """auto: text on a terminal, JSON elsewhere."""

    @field_validator("cache_dir", "state_dir", mode="after")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return _expanded(value).absolute()

    @field_validator("file_roots", mode="after")
    @classmethod
    def _from_the_top(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        roots = tuple(_expanded(path) for path in value)
        if not all(path.is_absolute() for path in roots):
            raise ValueError("absolute paths are needed")
        return roots

    @field_validator(
        "allowed_networks",
        "allowed_origins",
        "other_schemes",
        "host_names",
        "node_sources",
        "proxy_networks",
        mode="before",
    )
    @classmethod
    def _parts(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str):
            mark = ";" if info.field_name == "allowed_origins" else ","
            return [part.strip() for part in value.split(mark) if part.strip()]
        return value

    @field_validator("cache_dir", "state_dir", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if value == "":
            raise ValueError("a path is needed")  # else it would be the current directory
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the base class fixes the signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line (as arguments), then environment; the file is merged in `load_settings`."""
        return init_settings, env_settings

    @property
    def cores(self) -> int:
        """Cores that this process may use."""
        return len(os.sched_getaffinity(0))


def load_settings(**given: Any) -> Settings:
    """Read the settings; `given` (values from the command line; None means not given) goes first.

    Raises:
        SettingsError: an unknown setting, a value that makes no sense, an unreadable file.
    """
    path = settings_file()
    in_file = _read_file(path)
    known = Settings.model_fields
    for name in in_file:
        if name not in known:
            raise SettingsError(f"unknown setting {name!r} in {path}", remedy=_suggestion(name))
    for variable in os.environ:
        name = variable.removeprefix("STAGER_").lower()
        if variable.startswith("STAGER_") and name not in known and name not in _OTHER_VARIABLES:
            raise SettingsError(f"unknown setting {variable} in the environment", remedy=_suggestion(name))
    in_environment = {variable.upper() for variable in os.environ}
    merged = {k: v for k, v in in_file.items() if f"STAGER_{k.upper()}" not in in_environment}
    merged |= {k: v for k, v in given.items() if v is not None}
    try:
        return Settings(**merged)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        where = (
            "command line"
            if given.get(name) is not None
            else str(path)
            if name in merged
            else f"STAGER_{name.upper()}"
        )
        raise SettingsError(
            f"setting {name} = {first['input']!r} ({where})",
            cause=first["msg"],
            remedy="see the reference of settings",
        ) from None
    except NotJsonError as error:
        raise _not_json(str(error)) from None


def _not_json(said: str) -> SettingsError:
    """The error for the first variable with a list or a table that is not written as one."""
    for name, field in Settings.model_fields.items():
        variable = f"STAGER_{name.upper()}"
        text = os.environ.get(variable)
        shape = get_origin(field.annotation)
        example = '["ONE", "TWO"]' if shape is tuple else '{"NAME": VALUE}' if shape is dict else None
        if text is None or example is None or field.metadata:  # with metadata it is read from plain text
            continue
        try:
            json.loads(text)
        except ValueError:
            return SettingsError(
                f"setting {name} = {text!r} ({variable})",
                cause="it is not JSON",
                remedy=f"write {variable}='{example}'",
            )
    return SettingsError("a setting in the environment can't be read", cause=said)


_OTHER_VARIABLES = frozenset({"config", "token", "job_id", "job_dir", "job_name", "inputs", "results"})
"""``STAGER_*`` variables that are not settings: where the settings are, the client's token, and what a job is told."""


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if os.environ.get("STAGER_CONFIG"):
            raise SettingsError(
                f"settings file {path} does not exist", cause="STAGER_CONFIG names it"
            ) from None
        return {}
    except (OSError, ValueError) as error:
        raise SettingsError(f"settings file {path} can't be read", cause=str(error)) from None


def _suggestion(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, Settings.model_fields, n=1)
    return f"did you mean {near[0]!r}?" if near else "see the reference of settings"


@lru_cache(maxsize=1)
def current_settings() -> Settings:
    """The settings of this process, read at the first call."""
    return load_settings()


def config(key: str, missing: Any = None) -> Any:
    """The value of setting `key`, or `missing` when there is no such setting.

    Raises:
        SettingsError: the settings can't be read.
    """
    settings = current_settings()
    return getattr(settings, key) if key in Settings.model_fields else missing
