"""Managed sites for an Apache under test, and what its store and its handshakes show of them."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.parts import Apache, served_certificate


def managed_site(
    name: str, *, keys: str = "secp256r1", settings: str = "", aliases: str = "", inside: str = ""
) -> str:
    """Return an SSL vhost with its managed domain.

    `settings` are lines of the domain's section, `inside` those of the vhost.
    """
    alias_line = f"ServerAlias {aliases}\n" if aliases else ""
    return (
        f"<MDomainSet {name}>\nMDPrivateKeys {keys}\n{settings}</MDomainSet>\n"
        f"<VirtualHost *:${{HTTPS_PORT}}>\nServerName {name}\n{alias_line}SSLEngine on\n"
        f"{inside}</VirtualHost>\n"
    )


def leaf_in(folder: Path, file_name: str = "pubcert.secp256r1.pem") -> x509.Certificate:
    """Return the first certificate of a chain file."""
    return x509.load_pem_x509_certificates((folder / file_name).read_bytes())[0]


def live_leaf(apache: Apache, name: str) -> x509.Certificate:
    """Return the elliptic curve leaf that lies in domains/."""
    return leaf_in(apache.store / "domains" / name)


def served_leaf(apache: Apache, name: str) -> x509.Certificate:
    """Return the leaf that Apache shows for a name in a handshake of its own choice."""
    return served_certificate(apache.address, apache.ssl_port, name)


def key_of(leaf: x509.Certificate) -> str:
    """Return the key type in the words of MDPrivateKeys."""
    key = leaf.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.curve.name
    return type(key).__name__
