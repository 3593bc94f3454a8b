"""TLS as transfers want it: verified, and with a client certificate where there is one."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from stager.errors import CredentialUnreadableError, SettingsError
from stager.transfer.classify import os_cause
from stager.transfer.decisions import ClientCertificate


def tls_context(ca_bundle: str, certificate: ClientCertificate | None = None) -> ssl.SSLContext:
    """Verifies certificate and host name; shows `certificate` to who asks for one.

    Raises:
        SettingsError: the bundle can't be read.
        CredentialUnreadableError: the certificate, or its key, is none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A body without framing is whole only if the origin says so by close_notify.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    bundle = ca_bundle or DEFAULT_CA_BUNDLE_PATH
    try:
        context.load_verify_locations(**({"capath": bundle} if Path(bundle).is_dir() else {"cafile": bundle}))
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(
            f"certificates in {bundle} can't be read",
            cause=os_cause(error),
            remedy="set ca_bundle to a PEM file or a directory of them",
        ) from None
    if certificate is not None:
        _show(certificate, context)
    return context


def _show(certificate: ClientCertificate, context: ssl.SSLContext) -> None:
    """OpenSSL's binding reads files only: this one is in memory, has no name, and is gone at once."""
    fd = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(fd, f"{certificate.chain}\n{certificate.key}\n".encode())
        # Without a passphrase OpenSSL would ask for one at the terminal.
        context.load_cert_chain(f"/proc/self/fd/{fd}", password=lambda: certificate.passphrase)
    except (OSError, ValueError) as error:  # ssl.SSLError is one
        raise CredentialUnreadableError(
            "the client certificate can't be used",
            cause=os_cause(error),
            remedy="give it again, with the key that belongs to it and the passphrase of that",
        ) from None
    finally:
        os.close(fd)
