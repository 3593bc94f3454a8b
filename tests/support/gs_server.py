"""gcp-storage-emulator's server, asking who asks: ``python -m tests.support.gs_server PORT ROOT TOKEN``."""

from __future__ import annotations

import sys
from functools import partial
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from typing import Any

from gcp_storage_emulator.handlers.buckets import create_bucket
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage


def main(port: str, root: str, token: str) -> None:
    """Serve until killed."""

    class Handler(RequestHandler):  # type: ignore[misc]  # without types
        def parse_request(self) -> bool:
            if not super().parse_request():
                return False
            if self.headers.get("Authorization") == f"Bearer {token}":
                return True
            self.send_error(HTTPStatus.UNAUTHORIZED)
            return False

    storage: Any = Storage(data_dir=root)
    if "bucket" not in storage.buckets:
        create_bucket("bucket", storage)
    ThreadingHTTPServer(("127.0.0.1", int(port)), partial(Handler, storage)).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
