"""A PostgreSQL of the test's own: a cluster in a private directory that only its socket file leads to."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tests.support.needs import needs

PATIENCE = 60
"""Seconds in which the server is up, or down."""


def _programs() -> Path | None:
    """Where ``initdb`` and ``pg_ctl`` are: on Debian not in the path."""
    installed = [*Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    found = shutil.which("initdb")
    if found is not None:
        installed.append(Path(found).resolve())
    return installed[-1].parent if installed else None


@contextmanager
def cluster() -> Iterator[str]:
    """A running server with an empty database: its SQLAlchemy URL."""
    programs = _programs()
    needs(programs is not None, "PostgreSQL is not installed")
    needs(find_spec("psycopg"), "its driver psycopg is not installed")
    assert programs is not None
    user = pwd.getpwnam("nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name)
    root = Path(tempfile.mkdtemp(prefix="stager-pg-"))
    os.chown(root, user.pw_uid, user.pw_gid)

    def run(*words: str) -> None:
        identity = (
            {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        )
        with (root / "said").open("a") as said:
            done = subprocess.run(
                words,
                cwd=root,
                stdout=said,
                stderr=said,
                check=False,
                timeout=PATIENCE,
                **identity,  # type: ignore[call-overload]
            )
        assert done.returncode == 0, (root / "said").read_text()

    data = str(root / "data")
    control = [str(programs / "pg_ctl"), f"--pgdata={data}", f"--log={root / 'log'}", "--wait"]
    try:
        run(str(programs / "initdb"), f"--pgdata={data}", "--username=stager", "--auth=trust", "--no-sync",
            "--encoding=UTF8", "--locale=C")  # fmt: skip
        options = f"-c listen_addresses= -c unix_socket_directories={root} -c fsync=off"
        run(*control, f"--options={options}", "start")
        try:
            yield f"postgresql+psycopg://stager@/postgres?host={root}"
        finally:
            run(*control, "--mode=immediate", "stop")
    finally:
        shutil.rmtree(root)


def empty(url: str, name: str, options: str = "") -> str:
    """Makes one more database in that cluster: its URL."""
    from sqlalchemy import create_engine, text

    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}" {options}'))
    engine.dispose()
    return url.replace("/postgres?", f"/{name}?")
