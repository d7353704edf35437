"""mdconnector.challenges.tls_alpn_01: files that a real mod_md answers with."""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mdconnector.challenges import challenge_files, tls_alpn_01
from mdconnector.keys import DEFAULT_KEY_SPEC, KeySpec, key_from_pem, public_bytes
from mdconnector.store.tree import Store
from tests.challenges.conftest import ANSWER
from tests.parts import Apache

SHOP = "shop.example.org"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
P256 = KeySpec("EC", curve="secp256r1")
X25519 = KeySpec("EC", curve="X25519")
EXTENSION = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")


def files_of(store: Store) -> dict[str, Path]:
    return {path.name: path for path in (store.path / "challenges" / SHOP).iterdir()}


def make(store: Store, *specs: KeySpec, now: datetime = NOW) -> None:
    _, write = tls_alpn_01.prepare(SHOP, ANSWER, specs, store, now)
    write()


def test_there_is_a_pair_for_the_default_name_and_each_spec_of_the_server(store: Store) -> None:
    make(store, P256, X25519)
    assert sorted(files_of(store)) == [
        "acme-tls-alpn-01-privkey.pem",
        "acme-tls-alpn-01-privkey.secp256r1.pem",
        "acme-tls-alpn-01-pubcert.pem",
        "acme-tls-alpn-01-pubcert.secp256r1.pem",
    ]


def test_certificate_has_the_form_of_rfc_8737(store: Store) -> None:
    make(store, DEFAULT_KEY_SPEC, P256)
    for suffix, kind in (("", rsa.RSAPrivateKey), (".secp256r1", ec.EllipticCurvePrivateKey)):
        key_file = files_of(store)[f"acme-tls-alpn-01-privkey{suffix}.pem"]
        chain_file = files_of(store)[f"acme-tls-alpn-01-pubcert{suffix}.pem"]
        certificate = x509.load_pem_x509_certificate(chain_file.read_bytes())
        key = key_from_pem(key_file.read_bytes())
        assert isinstance(key, kind)
        assert public_bytes(key) == public_bytes(certificate.public_key())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert list(names) == [x509.DNSName(SHOP)]
        proof = certificate.extensions.get_extension_for_oid(EXTENSION)
        assert proof.critical
        assert isinstance(proof.value, x509.UnrecognizedExtension)
        assert proof.value.value == b"\x04\x20" + hashlib.sha256(ANSWER.encode()).digest()
        assert certificate.not_valid_before_utc <= NOW < certificate.not_valid_after_utc
        assert certificate.not_valid_after_utc == NOW + timedelta(days=7)


def test_key_is_for_its_owner_only(store: Store) -> None:
    make(store)
    modes = {name: path.stat().st_mode & 0o7777 for name, path in files_of(store).items()}
    assert modes == {"acme-tls-alpn-01-privkey.pem": 0o600, "acme-tls-alpn-01-pubcert.pem": 0o644}


def test_pair_of_an_older_token_is_overwritten_and_all_is_removed(store: Store) -> None:
    make(store)
    before = files_of(store)["acme-tls-alpn-01-pubcert.pem"].read_bytes()
    trace, write = tls_alpn_01.prepare(SHOP, ANSWER, (), store, NOW)
    write()
    assert files_of(store)["acme-tls-alpn-01-pubcert.pem"].read_bytes() != before
    challenge_files.remove(store, trace)
    assert files_of(store) == {}


def test_note_of_what_was_made_holds_no_key(store: Store) -> None:
    trace, _ = tls_alpn_01.prepare(SHOP, ANSWER, (), store, NOW)
    assert [name for name, _ in trace.digests] == [
        "acme-tls-alpn-01-privkey.pem",
        "acme-tls-alpn-01-pubcert.pem",
    ]
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for _, digest in trace.digests)


@pytest.mark.apache
def test_running_apache_answers_with_the_certificate(
    make_apache: Callable[..., Apache], store: Store
) -> None:
    apache = make_apache(
        store=store.path,
        sites={
            "shop": f"""
                MDomain {SHOP}
                <VirtualHost *:${{HTTPS_PORT}}>
                    ServerName {SHOP}
                    SSLEngine on
                    Protocols http/1.1 acme-tls/1
                </VirtualHost>"""
        },
    )
    with apache:
        make(store, now=datetime.now(UTC))
        served = challenge_certificate(apache)
        assert served.extensions.get_extension_for_oid(EXTENSION).critical
        make(store, P256, now=datetime.now(UTC))
        assert challenge_certificate(apache) != served


def challenge_certificate(apache: Apache) -> x509.Certificate:
    """Shake hands as a CA does for tls-alpn-01."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["acme-tls/1"])
    with (
        socket.create_connection((apache.address, apache.ssl_port), 10) as connection,
        context.wrap_socket(connection, server_hostname=SHOP) as shaken,
    ):
        assert shaken.selected_alpn_protocol() == "acme-tls/1"
        return x509.load_der_x509_certificate(shaken.getpeercert(binary_form=True) or b"")
