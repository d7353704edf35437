"""Keys: kinds, file names, PEM forms."""

from __future__ import annotations

import pytest

from mdconnector.errors import CertificateError
from mdconnector.keys import (
    KeySpec,
    generate_account_key,
    generate_key,
    key_from_pem,
    key_to_pem,
    label_of_key,
    public_bytes,
)

PASSPHRASE = bytes([0, 255, 10]) + b"x" * 45
EC_KEY = generate_key(KeySpec("EC", curve="secp256r1"))


@pytest.mark.parametrize(
    ("spec", "privkey", "label"),
    [
        (KeySpec("Default"), "privkey.pem", "rsa2048"),
        (KeySpec("RSA", 4096), "privkey.pem", "rsa4096"),
        (KeySpec("EC", curve="secp256r1"), "privkey.secp256r1.pem", "secp256r1"),
        (KeySpec("EC", curve="P-256"), "privkey.p-256.pem", "p-256"),
    ],
)
def test_files_are_named_as_mod_md_names_them(spec: KeySpec, privkey: str, label: str) -> None:
    assert (spec.privkey_name, spec.label) == (privkey, label)


@pytest.mark.parametrize(
    ("spec", "label"),
    [
        (KeySpec("RSA", 2048), "rsa2048"),
        (KeySpec("RSA", 3072), "rsa3072"),
        (KeySpec("RSA", 4096), "rsa4096"),
        (KeySpec("EC", curve="secp256r1"), "secp256r1"),
        (KeySpec("EC", curve="secp384r1"), "secp384r1"),
    ],
)
def test_a_key_is_made_of_the_kind_that_was_asked_for(spec: KeySpec, label: str) -> None:
    key = generate_key(spec)
    assert label_of_key(key) == label
    assert spec.describes(key.public_key())


def test_an_unknown_curve_is_refused_with_the_known_ones_named() -> None:
    with pytest.raises(CertificateError) as caught:
        generate_key(KeySpec("EC", curve="secp521r1"))
    assert "secp256r1" in (caught.value.hint or "")


def test_account_keys_are_the_kind_that_mod_md_can_use() -> None:
    assert label_of_key(generate_account_key()) == "rsa3072"


def test_an_encrypted_key_comes_back_with_its_pass_phrase() -> None:
    pem = key_to_pem(EC_KEY, PASSPHRASE)
    assert b"ENCRYPTED" in pem
    assert public_bytes(key_from_pem(pem, PASSPHRASE)) == public_bytes(EC_KEY)


def test_a_plain_key_is_read_though_a_pass_phrase_is_given() -> None:
    assert public_bytes(key_from_pem(key_to_pem(EC_KEY), PASSPHRASE)) == public_bytes(EC_KEY)


@pytest.mark.parametrize(
    ("pem", "passphrase"),
    [
        (b"", None),
        (b"garbage", None),
        (key_to_pem(EC_KEY, PASSPHRASE), b"another"),
        (key_to_pem(EC_KEY, PASSPHRASE), None),
    ],
    ids=["empty", "garbage", "other pass phrase", "no pass phrase"],
)
def test_a_key_that_cannot_be_read_is_an_error_without_its_text(
    pem: bytes, passphrase: bytes | None
) -> None:
    with pytest.raises(CertificateError) as caught:
        key_from_pem(pem, passphrase)
    assert "garbage" not in str(caught.value)
