"""One large object over HTTP: the server, nginx with the same file, and the server with nginx sending for it.

Read by curl on the same machine, from files in memory, in turns; prints medians, extremes and ratios to nginx.

    python benchmarks/objects.py [--mebibytes 1024] [--runs 7]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import time
from pathlib import Path

from support import Nginx, environment, memory_directory

from stager.cache.store import FileCache
from tests.support.processes import ServerProcess

GOAL = 0.7
"""Of nginx's rate."""
ACCELERATED_GOAL = 0.95
"""With nginx sending: equal, but for what measuring twice differs by."""
_PROXY = """
location /v1 {{ proxy_pass {server}; proxy_set_header X-Sendfile-Type X-Accel-Redirect; }}
location /cached/ {{ internal; alias {cache}/; etag off; add_header ETag $upstream_http_etag; }}
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    size = options.mebibytes << 20
    with memory_directory() as directory:
        root = directory / "server"
        root.mkdir()
        with ServerProcess(root, STAGER_ACCELERATOR_LOCATION="/cached") as server:
            sha256 = _store(root, directory / "file", options.mebibytes)
            for path in (root, root / "cache"):
                path.chmod(0o755)  # nginx's workers run as another user
            more = _PROXY.format(server=server.url, cache=root / "cache")
            token = (root / "state" / "token").read_text().strip()
            with Nginx(directory, more=more) as nginx:
                (directory / "file").rename(nginx.sources / "file")
                urls = {
                    "nginx": f"{nginx.url}/file",
                    "stager": f"{server.url}/v1/objects/{sha256}",
                    "stager, sent by nginx": f"{nginx.url}/v1/objects/{sha256}",
                }
                _compare(urls, token, size, options.runs)


def _store(root: Path, file: Path, mebibytes: int) -> str:
    block = os.urandom(1 << 20)
    with file.open("wb") as out:
        for _ in range(mebibytes):
            out.write(block)
    file.chmod(0o644)
    return FileCache(root / "cache").put("file", file).object


def _compare(urls: dict[str, str], token: str, size: int, runs: int) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in urls}
    for run in range(runs + 1):
        for name, url in urls.items():
            took = _read(url, token, size)
            if run:  # the first warms up
                seconds[name].append(took)
    rates = {name: size / statistics.median(one) / 1e9 for name, one in seconds.items()}
    for name, rate in rates.items():
        low, high = size / max(seconds[name]) / 1e9, size / min(seconds[name]) / 1e9
        print(f"{name:24} {rate:6.2f} GB/s ({low:.2f} to {high:.2f})  {rate / rates['nginx']:.2f} of nginx")
    for name, goal in (("stager", GOAL), ("stager, sent by nginx", ACCELERATED_GOAL)):
        met = rates[name] >= goal * rates["nginx"]
        print(f"  goal for {name}: {goal} of nginx: {'met' if met else 'NOT MET'}")


def _read(url: str, token: str, size: int) -> float:
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code} %{size_download}"]
    began = time.perf_counter()
    done = subprocess.run(
        [*command, "-H", f"Authorization: Bearer {token}", url],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    took = time.perf_counter() - began
    if done.stdout != f"200 {size}":
        raise RuntimeError(f"{url}: {done.stdout}")
    return took


if __name__ == "__main__":
    main()
