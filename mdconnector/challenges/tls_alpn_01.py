"""tls-alpn-01 (RFC 8737) by mod_md's files, for vhosts that offer the protocol acme-tls/1.

Rules: mod_md looks for the answer under the names of the key specs that the server has, so there is
one pair for each and one under the default name. Old pairs are overwritten: mod_md would keep them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID, ObjectIdentifier

from mdconnector.challenges.challenge_files import ChallengeFile, trace_of, write
from mdconnector.challenges.traces import ChallengeFiles
from mdconnector.keys import DEFAULT_KEY_SPEC, KeySpec, generate_key, key_to_pem
from mdconnector.store.tree import Store

FILE_PREFIX = "acme-tls-alpn-01-"
_COMMON_NAME = "tls-alpn-01-challenge"
_ACME_IDENTIFIER = ObjectIdentifier("1.3.6.1.5.5.7.1.31")
_DER_OCTET_STRING_OF_32 = b"\x04\x20"
_LIFETIME = timedelta(days=7)
_CLOCK_SLACK = timedelta(hours=1)


def prepare(
    identifier: str, answer: str, specs: Sequence[KeySpec], store: Store, now: datetime
) -> tuple[ChallengeFiles, Callable[[], tuple[str, ...]]]:
    """Return the files to be made, and the function that makes them."""
    by_suffix = {spec.file_suffix: spec for spec in (*specs, DEFAULT_KEY_SPEC) if spec.is_supported}
    files = tuple(
        file for spec in by_suffix.values() for file in _pair(spec, identifier, answer, now)
    )

    def make() -> tuple[str, ...]:
        write(store, identifier, files)
        return ()

    return trace_of(store, identifier, files), make


def _pair(
    spec: KeySpec, identifier: str, answer: str, now: datetime
) -> tuple[ChallengeFile, ChallengeFile]:
    key = generate_key(spec)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _COMMON_NAME)])
    proof = _DER_OCTET_STRING_OF_32 + hashlib.sha256(answer.encode("ascii")).digest()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SLACK)
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(identifier)]), critical=False)
        .add_extension(x509.UnrecognizedExtension(_ACME_IDENTIFIER, proof), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain = certificate.public_bytes(serialization.Encoding.PEM)
    return (
        ChallengeFile(f"{FILE_PREFIX}{spec.privkey_name}", key_to_pem(key), 0o600),
        ChallengeFile(f"{FILE_PREFIX}{spec.pubcert_name}", chain),
    )
