"""Site files for Apaches under test, and what certificates in files say."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cryptography import x509

from mdconnector.keys import public_bytes


def site(*names: str, keys: str = "secp256r1", settings: Iterable[str] = ()) -> str:
    """Return an SSL vhost and its managed domain; `settings` stand in the domain's section."""
    aliases = f"    ServerAlias {' '.join(names[1:])}\n" if names[1:] else ""
    inside = "".join(f"    {line}\n" for line in settings)
    return (
        f"<MDomainSet {names[0]}>\n    MDPrivateKeys {keys}\n{inside}</MDomainSet>\n"
        "<VirtualHost *:${HTTPS_PORT}>\n"
        f"    ServerName {names[0]}\n{aliases}    SSLEngine on\n"
        "</VirtualHost>\n"
    )


def leaf_of(chain: Path) -> x509.Certificate:
    """Return the first certificate of a chain file."""
    return x509.load_pem_x509_certificates(chain.read_bytes())[0]


def public_key_of(certificate: x509.Certificate) -> bytes:
    """Return the public key of a certificate, to compare it with others."""
    return public_bytes(certificate.public_key())
