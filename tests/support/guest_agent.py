"""Does inside a guest what the test asks for (see hosts.py).

    python -m tests.support.guest_agent NAME ADDRESS CONTROL

It calls the test process at CONTROL (``address:port``), says its name and the port where it listens, and
ends when that connection ends: a guest never outlives its test. Each request is one connection: a line
of JSON there, a line of JSON back.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

Request = dict[str, Any]
_started: dict[int, subprocess.Popen[bytes]] = {}


def _run(request: Request) -> Request:
    """A command to its end."""
    process = _popen(request, subprocess.PIPE, subprocess.PIPE)
    try:
        out, err = process.communicate(request["stdin"].encode(), request["timeout"])
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        return _ended(None, out, err)
    return _ended(process.returncode, out, err)


def _start(request: Request) -> Request:
    """A command that goes on; what it says is kept in files."""
    with _output("new", "out").open("wb") as out, _output("new", "err").open("wb") as err:
        process = _popen(request, out, err)
    for kind in ("out", "err"):
        _output("new", kind).rename(_output(process.pid, kind))
    _started[process.pid] = process
    if process.stdin is not None:
        with process.stdin as pipe:
            pipe.write(request["stdin"].encode())
    return {"pid": process.pid}


def _wait(request: Request) -> Request:
    """For the end of what was started; status null while it runs."""
    pid = request["pid"]
    try:
        status = _started[pid].wait(request["timeout"])
    except subprocess.TimeoutExpired:
        status = None
    return _ended(status, _output(pid, "out").read_bytes(), _output(pid, "err").read_bytes())


def _signal(request: Request) -> Request:
    """To what was started, or to its whole process group."""
    process = _started[request["pid"]]
    if process.poll() is None:
        (os.killpg if request["group"] else os.kill)(process.pid, request["number"])
    return {}


def _call(request: Request) -> Request:
    """A function of a module of the project, in this process: starting another one takes seconds here."""
    module, _, name = request["function"].partition(":")
    function = getattr(importlib.import_module(module), name)
    return {"result": function(*request["arguments"], **request["keywords"])}


_ACTIONS: dict[str, Callable[[Request], Request]] = {
    "run": _run,
    "start": _start,
    "wait": _wait,
    "signal": _signal,
    "call": _call,
}
_starting = threading.Lock()


def _popen(request: Request, out: Any, err: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        request["command"],
        stdin=subprocess.PIPE,
        stdout=out,
        stderr=err,
        env=os.environ | request["env"],
        cwd=request["cwd"],
        start_new_session=True,
    )


def _output(pid: object, kind: str) -> Path:
    return Path(f"/run/agent.{pid}.{kind}")


def _ended(status: int | None, out: bytes, err: bytes) -> Request:
    return {"status": status, "stdout": out.decode(errors="replace"), "stderr": err.decode(errors="replace")}


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        request = json.loads(self.rfile.readline())
        try:
            if request["action"] == "start":
                with _starting:  # the names of its output are taken one at a time
                    answer = _start(request)
            else:
                answer = _ACTIONS[request["action"]](request)
        except Exception:  # noqa: BLE001  # the test shows it
            answer = {"error": traceback.format_exc()}
        self.wfile.write(json.dumps(answer).encode() + b"\n")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64


def main() -> None:
    name, address, control = sys.argv[1:]
    host, _, port = control.partition(":")
    server = _Server((address, 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with socket.create_connection((host, int(port)), timeout=30) as test:
        test.sendall(json.dumps({"name": name, "port": server.server_address[1]}).encode() + b"\n")
        test.settimeout(None)
        test.recv(1)  # nothing comes but the end


if __name__ == "__main__":
    main()
