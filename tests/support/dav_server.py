"""WsgiDAV's server as a process: ``python -m tests.support.dav_server PORT ROOT PASSWORD``."""

from __future__ import annotations

import sys
import warnings

warnings.simplefilter("ignore")  # its own

from cheroot.wsgi import Server  # noqa: E402
from wsgidav.wsgidav_app import WsgiDAVApp  # noqa: E402


def main(port: str, root: str, password: str) -> None:
    """Serve until killed; without a password anybody may read."""
    users = {"ada": {"password": password}} if password else True
    app = WsgiDAVApp(
        {
            "provider_mapping": {"/": {"root": root, "readonly": True}},
            "simple_dc": {"user_mapping": {"*": users}},
            "http_authenticator": {"accept_digest": False, "default_to_digest": False},
            "verbose": 1,
        }
    )
    Server(("127.0.0.1", int(port)), app).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
