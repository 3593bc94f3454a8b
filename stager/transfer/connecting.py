"""What it means that no connection came about."""

from __future__ import annotations

import os
import socket
import ssl

from stager.errors import FetchError, TlsError
from stager.model.urls import Url
from stager.transfer.classify import os_cause
from stager.transfer.exchange import broken_connection, no_connection
from stager.transfer.reach import RefusedError


def connect_error(url: Url, error: OSError | RefusedError) -> FetchError:
    """The error of a fetch of `url` whose origin could not be connected to."""
    if isinstance(error, RefusedError):
        return error.of(url)
    if isinstance(error, ssl.SSLCertVerificationError):
        return TlsError(
            f"{url.redacted} can't be fetched",
            cause=f"the certificate of {url.host} is not accepted: {error.verify_message}",
            remedy="check the host's name and date; for a site's own authority set ca_bundle",
            url=url.redacted,
        )
    if isinstance(error, socket.gaierror):
        return no_connection(url, f"host name {url.host} can't be resolved")
    if isinstance(error, ssl.SSLError):
        return broken_connection(url, os_cause(error))
    if isinstance(error, TimeoutError):
        return no_connection(url, f"{url.host} does not answer")
    # What libraries say themselves names addresses, at length.
    return no_connection(url, os.strerror(error.errno) if error.errno else os_cause(error))
