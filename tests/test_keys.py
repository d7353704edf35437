"""Keys: kinds, file names, PEM forms."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InternalError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from mdconnector.errors import CertificateError
from mdconnector.keys import (
    ACCOUNT_KEY_BITS,
    DEFAULT_KEY_SPEC,
    MIN_RSA_BITS,
    KeySpec,
    generate_account_key,
    generate_key,
    key_from_pem,
    key_to_pem,
    label_of_key,
    public_bytes,
    random_numbers,
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


def test_chain_is_named_like_its_key() -> None:
    assert KeySpec("RSA").pubcert_name == "pubcert.pem"
    assert KeySpec("EC", curve="P-384").pubcert_name == "pubcert.p-384.pem"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (KeySpec("RSA", 1024), True),
        (KeySpec("EC", curve="SECP256R1"), True),
        (KeySpec("EC", curve="prime256v1"), True),
        (KeySpec("EC", curve="p-384"), True),
        (KeySpec("EC", curve="secp521r1"), False),
        (KeySpec("EC"), False),
    ],
)
def test_kind_that_can_be_made_is_supported(spec: KeySpec, expected: bool) -> None:
    assert spec.is_supported is expected


@pytest.mark.parametrize("curve", ["secp256r1", "p-256", "prime256v1"])
def test_every_name_of_a_curve_is_that_curve_and_no_other(curve: str) -> None:
    spec = KeySpec("EC", curve=curve)
    assert spec.describes(EC_KEY)
    assert spec.describes(generate_key(spec))
    assert not spec.describes(generate_key(KeySpec("EC", curve="p-384")))
    assert label_of_key(generate_key(KeySpec("EC", curve="p-384"))) == "secp384r1"


def test_other_kinds_are_neither_described_nor_labelled() -> None:
    other = ed25519.Ed25519PrivateKey.generate()
    assert not KeySpec("EC", curve="secp256r1").describes(other)
    assert not KeySpec("RSA").describes(other)
    assert not KeySpec("RSA").describes(EC_KEY)
    assert not KeySpec("EC", curve="secp521r1").describes(EC_KEY)
    assert label_of_key(other) == "unknown"
    with pytest.raises(
        CertificateError, match=r"^the public key is neither RSA nor of an elliptic"
    ):
        public_bytes(other)
    pem = other.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with pytest.raises(CertificateError, match=r"^the private key is neither RSA nor of an"):
        key_from_pem(pem)


def test_defaults_are_those_of_mod_md() -> None:
    assert KeySpec("RSA", 2048, "") == DEFAULT_KEY_SPEC
    assert (MIN_RSA_BITS, ACCOUNT_KEY_BITS) == (2048, 3072)
    assert (KeySpec("RSA").is_rsa, KeySpec("Default").is_rsa, KeySpec("EC").is_rsa) == (
        True,
        True,
        False,
    )


def test_a_key_that_cannot_be_read_says_whether_it_is_encrypted() -> None:
    with pytest.raises(CertificateError) as caught:
        key_from_pem(b"nonsense")
    assert str(caught.value) == "the private key cannot be read: no PEM private key"
    with pytest.raises(CertificateError) as caught:
        key_from_pem(key_to_pem(EC_KEY, PASSPHRASE), b"another")
    assert str(caught.value) == "the private key cannot be read: encrypted with another key"


def test_an_unknown_curve_says_what_to_write() -> None:
    with pytest.raises(CertificateError) as caught:
        generate_key(KeySpec("EC", curve="secp521r1"))
    assert str(caught.value) == "cannot make a key on the curve secp521r1"
    assert caught.value.hint == (
        "use RSA 2048, RSA 3072, RSA 4096, secp256r1 or secp384r1 in MDPrivateKeys"
    )


def test_a_key_of_another_kind_is_not_described() -> None:
    spec = KeySpec("EC", curve="secp256r1")
    assert spec.describes(ed25519.Ed25519PrivateKey.generate()) is False


def test_an_rsa_key_is_read_though_its_numbers_do_not_fit_together() -> None:
    numbers = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_numbers()
    odd = rsa.RSAPrivateNumbers(
        p=numbers.p,
        q=numbers.q,
        d=numbers.d,
        dmp1=numbers.dmp1 + 2,
        dmq1=numbers.dmq1,
        iqmp=numbers.iqmp,
        public_numbers=numbers.public_numbers,
    ).private_key(unsafe_skip_rsa_key_validation=True)
    assert public_bytes(key_from_pem(key_to_pem(odd))) == public_bytes(odd.public_key())


def test_want_of_random_numbers_is_an_error_with_what_to_look_at() -> None:
    with pytest.raises(CertificateError) as caught, random_numbers():
        raise InternalError("OpenSSL", [])
    assert str(caught.value) == (
        "no private key can be made or used: the system gives no random numbers"
    )
    assert caught.value.hint == (
        "see why getrandom and /dev/urandom fail on this host; the next run tries again"
    )
