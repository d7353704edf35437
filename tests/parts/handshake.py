"""What a server on loopback shows in a TLS handshake."""

from __future__ import annotations

import socket
import ssl
from typing import Literal

from cryptography import x509

_CIPHERS = {"rsa": "aRSA", "ec": "aECDSA"}


def served_certificate(
    host: str,
    port: int,
    server_name: str,
    key_type: Literal["rsa", "ec"] | None = None,
    *,
    roots_pem: str | None = None,
) -> x509.Certificate:
    """Return the leaf that is served for a name; raise ssl.SSLError or OSError if none is.

    `key_type` asks for a certificate of that kind; `roots_pem` has the chain and the name verified.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if roots_pem is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=roots_pem)
    if key_type is not None:
        # TLS 1.3 has no cipher suites by key type, and Python no way to set signature algorithms.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS[key_type])
    with (
        socket.create_connection((host, port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=server_name) as connection,
    ):
        der = connection.getpeercert(binary_form=True)
    if der is None:
        raise ssl.SSLError(f"{server_name} at port {port} shows no certificate")
    return x509.load_der_x509_certificate(der)


def names_of(certificate: x509.Certificate) -> frozenset[str]:
    """Return the DNS names of a certificate."""
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return frozenset(extension.value.get_values_for_type(x509.DNSName))
