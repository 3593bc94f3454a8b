"""The server's certificate: read again when it changes, for connections to come."""

from __future__ import annotations

import logging
import ssl
import threading
from pathlib import Path

from stager.errors import SettingsError

log = logging.getLogger(__name__)

WATCH_SECONDS = 60.0
"""Between two looks whether there is another certificate."""
_Stamp = tuple[tuple[int, int], ...]


class Certificate:
    """A certificate in use.

    Args:
        certificate: file with it and its chain.
        key: file with its private key.

    Attributes:
        context: for the server's connections.

    Raises:
        SettingsError: they can't be used.
    """

    def __init__(self, certificate: str, key: str) -> None:
        if not certificate or not key:
            missing = "tls_key" if certificate else "tls_certificate"
            raise SettingsError(
                f"{missing} is not set",
                cause="certificate and key are needed, one without the other is of no use",
                remedy="set both, or neither",
            )
        self._paths = Path(certificate).expanduser(), Path(key).expanduser()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._stamp = self._stamp_now()
        self._load()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="certificate", daemon=True)

    def look(self, *, anew: bool = False) -> bool:
        """Take the certificate that is there now, if it has changed (or `anew`); whether it did.

        One that can't be used is logged, and the old one stays.
        """
        try:
            stamp = self._stamp_now()
            if stamp == self._stamp and not anew:
                return False
            self._load()
        except SettingsError as error:
            log.error("the old certificate stays: %s", error)  # noqa: TRY400 - a line is enough
            return False
        self._stamp = stamp
        log.info("%s: another certificate from now on", self._paths[0])
        return True

    def start(self) -> None:
        """Look from time to time."""
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        while not self._closed.wait(WATCH_SECONDS):
            self.look()

    def _stamp_now(self) -> _Stamp:
        try:
            return tuple((found.st_mtime_ns, found.st_ino) for found in (path.stat() for path in self._paths))
        except OSError as error:
            raise _unusable(f"{error.filename}: {error.strerror}") from None

    def _load(self) -> None:
        certificate, key = self._paths
        try:
            # first apart: a context that has met a wrong pair has half of it
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
            self.context.load_cert_chain(certificate, key, password="")
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise _unusable(f"{certificate}, {key}: {getattr(error, 'reason', None) or error}") from None


def _unusable(cause: str) -> SettingsError:
    return SettingsError(
        "the server's certificate can't be used",
        cause=cause,
        remedy="check tls_certificate and tls_key: PEM files, a key without a passphrase that belongs to the certificate",
    )
