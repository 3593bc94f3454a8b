"""Another job server: the receiver that the documentation shows, as a process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Self

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "webhooks.md"
SECRET = "receiver-and-server-know-it"
PATIENCE = 60.0


def documented_receiver() -> str:
    """The program in the documentation."""
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return str(block)


class ReceiverProcess:
    """A receiver on a free port.

    Args:
        root: for the secret.
        api: URL to which it reports.
        token: of that API.
    """

    def __init__(self, root: Path, api: str, token: str) -> None:
        self.secret_file = root / "webhook.secret"
        self.secret_file.write_text(SECRET + "\n")
        variables = {
            "WEBHOOK_SECRET_FILE": str(self.secret_file),
            "STAGER_API": api,
            "STAGER_API_TOKEN": token,
            "PORT": "0",
            "PATH": os.environ["PATH"],
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", documented_receiver()],
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{self.process.stdout.readline().split()[-1]}/hook"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self.process.pid, 9)  # and the jobs that it runs
        self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
