"""pyftpdlib's server as a process: ``python -m tests.support.ftp_server PORT ROOT PASSWORD RATE LOG``.

Writes a line per command to LOG, and one for each file that it sent, or part of one: ``SENT bytes``.
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")  # its own

from pyftpdlib.authorizers import DummyAuthorizer  # noqa: E402
from pyftpdlib.handlers import DTPHandler, FTPHandler  # noqa: E402
from pyftpdlib.servers import FTPServer  # noqa: E402


def main(port: str, root: str, password: str, rate: str, log: str) -> None:
    """Serve until killed."""
    said = Path(log).open("a", buffering=1, encoding="utf-8")  # noqa: SIM115 - until the end

    class Data(DTPHandler):  # type: ignore[misc]  # without types
        def send(self, data: bytes) -> int:
            count: int = super().send(data)
            if int(rate):
                time.sleep(count / int(rate))
            return count

        def close(self) -> None:
            if not self._closed and self.file_obj is not None and not self.receive:
                said.write(f"SENT {self.tot_bytes_sent}\n")
            super().close()

    class Handler(FTPHandler):  # type: ignore[misc]
        dtp_handler = Data
        auth_failed_timeout = 0
        use_sendfile = False  # it knows no limit

        def pre_process_command(self, line: str, cmd: str, arg: str) -> None:
            said.write(f"{cmd} {'' if cmd == 'PASS' else arg}\n")
            super().pre_process_command(line, cmd, arg)

    if "no-rest" in root:
        Handler.proto_cmds = {name: what for name, what in Handler.proto_cmds.items() if name != "REST"}
    authorizer: Any = DummyAuthorizer()
    if password:
        authorizer.add_user("ada", password, root, perm="elr")
    else:
        authorizer.add_anonymous(root, perm="elr")
    Handler.authorizer = authorizer
    FTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
