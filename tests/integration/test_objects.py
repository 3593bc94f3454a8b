"""Bytes over HTTP: by digest and by key, whole and in parts, under conditions, for many who are slow."""

from __future__ import annotations

import base64
import http.client
import os
import random
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import pytest
import requests

from stager.cache.store import FileCache
from tests.support.needs import needs
from tests.support.ports import free_port
from tests.support.processes import ServerProcess
from tests.support.until import until

DATA = random.Random(6).randbytes(3 << 20)  # several blocks, more than a socket holds
DIGEST = sha256(DATA).hexdigest()
TAG = f'"{DIGEST}"'
READERS = 200
LARGE = 32 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("server")
    with ServerProcess(root, STAGER_ACCELERATOR_LOCATION="/cached") as running:
        FileCache(root / "cache").put("https://h.test/runs/scan 7.nxs", DATA)
        yield running


@pytest.fixture(scope="module")
def cache(server: ServerProcess) -> FileCache:
    return FileCache(server.root / "cache")


def token(server: ServerProcess) -> dict[str, str]:
    return {"Authorization": f"Bearer {(server.root / 'state' / 'token').read_text().strip()}"}


def ask(
    server: ServerProcess,
    method: str = "GET",
    path: str = f"/v1/objects/{DIGEST}",
    *,
    url: str = "",
    **headers: str,
) -> requests.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.request(method, (url or server.url) + path, headers=token(server) | named, timeout=30)


def connected(server: ServerProcess, path: str, *, buffer: int = 0) -> socket.socket:
    """A connection that has asked for `path` and reads nothing yet."""
    host, port = server.url.removeprefix("http://").split(":")
    reader = socket.socket()
    if buffer:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    reader.settimeout(60)
    reader.connect((host, int(port)))
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", *(f"{a}: {b}" for a, b in token(server).items())]
    reader.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    return reader


def memory(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


PATHS = [f"/v1/objects/{DIGEST}", "/v1/cache/content/https://h.test/runs/scan%207.nxs"]


@pytest.mark.parametrize("path", PATHS)
def test_all_of_it_comes_with_its_digest(server: ServerProcess, path: str) -> None:
    answer = ask(server, path=path)
    assert (answer.status_code, answer.content == DATA) == (200, True)
    expected = {
        "ETag": TAG,
        "Repr-Digest": f"sha-256=:{base64.b64encode(sha256(DATA).digest()).decode()}:",
        "Accept-Ranges": "bytes",
        "Content-Length": str(len(DATA)),
        "Content-Type": "application/octet-stream",
        "X-Content-Type-Options": "nosniff",
    }
    assert {name: answer.headers[name] for name in expected} == expected
    assert answer.headers["Content-Disposition"].startswith("attachment")
    looked = ask(server, "HEAD", path)
    assert (looked.status_code, looked.content) == (200, b"")
    assert {name: looked.headers[name] for name in expected} == expected


def test_a_name_that_a_url_has_is_the_name_to_save_it_under(server: ServerProcess) -> None:
    assert ask(server, "HEAD", PATHS[1]).headers["Content-Disposition"] == (
        "attachment; filename*=UTF-8''scan%207.nxs"
    )


@pytest.mark.parametrize("path", PATHS)
def test_a_part_comes_as_a_part(server: ServerProcess, path: str) -> None:
    for asked, start, stop in (
        ("0-0", 0, 1),
        ("5-1000000", 5, 1_000_001),
        ("1000000-", 1_000_000, len(DATA)),
        ("-7", len(DATA) - 7, len(DATA)),
        ("100-200,150-400", 100, 401),
    ):
        answer = ask(server, path=path, Range=f"bytes={asked}")
        assert answer.status_code == 206, asked
        assert answer.content == DATA[start:stop], asked
        assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(DATA)}"
        assert answer.headers["ETag"] == TAG


def test_several_parts_come_in_one_answer_in_the_order_in_which_they_were_asked_for(
    server: ServerProcess,
) -> None:
    spans = [(2_000_000, 2_900_000), (0, 10), (500_000, 500_001)]
    answer = ask(server, Range="bytes=" + ", ".join(f"{first}-{last - 1}" for first, last in spans))
    assert answer.status_code == 206
    boundary = answer.headers["Content-Type"].partition("boundary=")[2].encode()
    pieces = answer.content.split(b"--" + boundary)
    assert pieces[0] == b""
    assert pieces[-1] == b"--\r\n"
    assert len(pieces) == 2 + len(spans)
    for piece, (start, stop) in zip(pieces[1:-1], spans, strict=True):
        head, _, body = piece.partition(b"\r\n\r\n")
        assert f"Content-Range: bytes {start}-{stop - 1}/{len(DATA)}".encode() in head
        assert body == DATA[start:stop] + b"\r\n"
    assert int(answer.headers["Content-Length"]) == len(answer.content)


def test_conditions_decide_before_a_byte_is_read(server: ServerProcess) -> None:
    unchanged = ask(server, If_None_Match=f'"x", W/{TAG}')
    assert (unchanged.status_code, unchanged.content, unchanged.headers["ETag"]) == (304, b"", TAG)
    assert ask(server, "HEAD", If_None_Match=TAG).status_code == 304
    assert ask(server, If_None_Match='"x"').status_code == 200
    other = ask(server, If_Match='"x"')
    assert (other.status_code, other.json()["type"]) == (412, "urn:stager:error:conflict")
    assert ask(server, If_Match='"x"', If_None_Match=TAG).status_code == 412, "If-Match goes first"
    assert ask(server, If_Match=TAG, Range="bytes=0-1").content == DATA[:2]
    assert ask(server, If_Range=TAG, Range="bytes=0-1").status_code == 206
    assert ask(server, If_Range='"x"', Range="bytes=0-1").status_code == 200


def test_a_range_that_can_not_be_sent_says_why(server: ServerProcess) -> None:
    beyond = ask(server, Range=f"bytes={len(DATA)}-")
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{len(DATA)}")
    assert f"the file has {len(DATA)} bytes" in beyond.json()["detail"]
    many = ask(server, Range="bytes=" + ",".join(f"{at}-{at}" for at in range(0, 200_000, 1000)))
    assert many.status_code == 416
    assert "200 ranges at once" in many.json()["detail"]
    assert ask(server, Range="lines=1-2").status_code == 200


def test_what_is_not_there_and_what_is_no_digest_are_said(server: ServerProcess) -> None:
    assert ask(server, path=f"/v1/objects/{'0' * 64}").status_code == 404
    assert ask(server, path="/v1/objects/abc").status_code == 422
    assert ask(server, path=f"/v1/objects/sha256:{DIGEST.upper()}").status_code == 200
    assert ask(server, path=f"/v1/objects/{DIGEST}", Authorization="Bearer x").status_code == 401


def test_an_empty_file_is_a_file(server: ServerProcess, cache: FileCache) -> None:
    entry = cache.put("empty", b"")
    for headers in ({}, {"Range": "bytes=0-"}, {"Range": "bytes=-1"}):
        answer = ask(server, path=f"/v1/objects/{entry.object}", **headers)
        assert (answer.status_code, answer.headers["Content-Length"]) == (200, "0")


def test_a_connection_is_good_for_more_after_a_large_file(server: ServerProcess) -> None:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
    for headers in ({}, {"Range": "bytes=1-2000000"}, {"Range": "bytes=0-0,2000000-2900000"}, {}):
        connection.request("GET", f"/v1/objects/{DIGEST}", headers=token(server) | headers)
        answer = connection.getresponse()
        body = answer.read()
        assert len(body) == int(answer.headers["Content-Length"])
        first = connection.sock.getsockname()
        connection.request("GET", "/v1/status", headers=token(server))
        assert connection.getresponse().read().startswith(b"{")
        assert connection.sock.getsockname() == first, "the same connection"
    connection.close()


def test_who_reads_goes_on_reading_what_is_evicted_meanwhile(server: ServerProcess, cache: FileCache) -> None:
    data = random.Random(1).randbytes(LARGE)
    entry = cache.put("to be evicted", data)
    with connected(server, f"/v1/objects/{entry.object}", buffer=65_536) as reader:
        file = reader.makefile("rb")
        while file.readline().strip():
            pass
        begun = file.read(100_000)
        assert cache.remove("to be evicted")
        assert not cache.has_object(entry.object)
        assert ask(server, path=f"/v1/objects/{entry.object}").status_code == 404
        assert begun + file.read(LARGE - len(begun)) == data


def test_hundreds_of_slow_readers_cost_no_memory_and_nobody_else_waits(
    server: ServerProcess, cache: FileCache
) -> None:
    entry = cache.put("large", random.Random(2).randbytes(LARGE))
    ask(server)
    files, before = open_files(server.pid), memory(server.pid)
    with ExitStack() as readers:
        for _ in range(READERS):
            reader = readers.enter_context(connected(server, f"/v1/objects/{entry.object}", buffer=16_384))
            assert reader.recv(4096).startswith(b"HTTP/1.1 200")
        assert open_files(server.pid) >= 2 * READERS, "all of them are being served"
        assert ask(server).content == DATA
        assert memory(server.pid) - before < 100 << 20
    until(
        lambda: open_files(server.pid) < files + READERS / 2, "the server closes what nobody reads any more"
    )


# -- a proxy that takes files over ------------------------------------------------------------------

_CONFIG = """
daemon off; worker_processes 1; pid {base}/nginx.pid; error_log {base}/nginx.log warn; {user}
events {{ worker_connections 64; }}
http {{
    access_log off; sendfile on;
    client_body_temp_path {base}/t1; proxy_temp_path {base}/t2; fastcgi_temp_path {base}/t3;
    uwsgi_temp_path {base}/t4; scgi_temp_path {base}/t5;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {server};
            proxy_set_header X-Sendfile-Type X-Accel-Redirect;
        }}
        location /cached/ {{
            internal;
            alias {cache}/;
            etag off;
            add_header ETag $upstream_http_etag;
            add_header Repr-Digest $upstream_http_repr_digest;
            add_header X-Content-Type-Options nosniff;
            add_header X-Served-By nginx;
        }}
    }}
}}
"""


@pytest.fixture(scope="module")
def proxy(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    needs(shutil.which("nginx"), "nginx")
    base, port = tmp_path_factory.mktemp("nginx"), free_port()
    user = "user root;" if os.geteuid() == 0 else ""  # the temporary directory of the tests is for us alone
    text = _CONFIG.format(base=base, port=port, server=server.url, cache=server.root / "cache", user=user)
    (base / "nginx.conf").write_text(text)
    process = subprocess.Popen(["nginx", "-p", str(base), "-c", str(base / "nginx.conf")])
    try:
        until((base / "nginx.pid").exists, "nginx starts")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def test_a_proxy_sends_the_file_and_the_answer_is_the_same(server: ServerProcess, proxy: str) -> None:
    for path in PATHS:
        by_us, by_nginx = ask(server, path=path), ask(server, path=path, url=proxy)
        assert by_nginx.headers["X-Served-By"] == "nginx"
        assert (by_nginx.status_code, by_nginx.content == DATA) == (200, True)
        for name in ("ETag", "Repr-Digest", "Content-Disposition", "Content-Type", "Content-Length"):
            assert by_nginx.headers[name] == by_us.headers[name], name
    part = ask(server, url=proxy, Range="bytes=5-1000000", If_Range=TAG)
    assert (part.status_code, part.content == DATA[5:1_000_001]) == (206, True)
    assert part.headers["X-Served-By"] == "nginx"
    several = ask(server, url=proxy, Range="bytes=0-9,1000-1009")
    assert several.status_code == 206
    assert DATA[:10] in several.content
    assert DATA[1000:1010] in several.content
    assert ask(server, url=proxy, Range="bytes=0-1", If_Range='"x"').status_code == 200
    assert ask(server, url=proxy, If_None_Match=TAG).status_code == 304
    assert ask(server, url=proxy, If_Match='"x"').status_code == 412
    assert ask(server, url=proxy, If_Match=TAG, Range="bytes=0-1").content == DATA[:2]
    assert ask(server, "HEAD", url=proxy).headers["ETag"] == TAG
    assert ask(server, url=proxy, Authorization="Bearer x").status_code == 401
    assert ask(server, url=proxy, path="/cached/layout.json").status_code == 404, "its location is internal"


def test_who_comes_without_a_proxy_gets_the_bytes(server: ServerProcess) -> None:
    assert "X-Accel-Redirect" not in ask(server).headers
    handed = ask(server, X_Sendfile_Type="X-Accel-Redirect")
    assert handed.content == b""
    assert handed.headers["X-Accel-Redirect"].startswith("/cached/objects/")


def test_a_proxy_gets_no_restricted_file(server: ServerProcess, cache: FileCache, proxy: str) -> None:
    entry = cache.put("secret", b"for one alone" * 50_000, restricted=True)
    answer = ask(server, path=f"/v1/objects/{entry.object}", url=proxy)
    assert (answer.status_code, len(answer.content)) == (200, entry.size)
    assert "X-Served-By" not in answer.headers
