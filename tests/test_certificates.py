"""What a chain says, what refuses it and what only warns."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mdconnector.certificates import (
    MAX_CHAIN_BYTES,
    MAX_CHAIN_CERTIFICATES,
    CertificateFacts,
    Credential,
    RevocationReason,
    Verdict,
    chain_to_pem,
    facts_of,
    fits,
    make_credential,
    make_csr,
    read_chain,
    read_leaf,
    verify_set,
)
from mdconnector.errors import CertificateError
from mdconnector.keys import KeySpec, PrivateKey, generate_key, key_to_pem
from mdconnector.managed_domain import ManagedDomain, SourceLine
from tests.authority import DAY, EC_SPEC, RSA_SPEC, Authority

NAMES = ("shop.example.org", "www.shop.example.org")
DOMAIN = ManagedDomain(NAMES[0], NAMES, SourceLine("shop.conf", 3), configured_key_specs=(EC_SPEC,))
CA = Authority()
NOW = datetime.now(UTC)


def verify(
    *credentials: Credential,
    domain: ManagedDomain = DOMAIN,
    live: tuple[CertificateFacts, ...] = (),
    now: datetime = NOW,
) -> Verdict:
    return verify_set(domain, credentials, live=live, now=now)


def credential_of(*chain: x509.Certificate, key: object) -> Credential:
    return make_credential(EC_SPEC, key, chain_to_pem(chain))  # type: ignore[arg-type] # a test's key


def signed_by(
    key: PrivateKey | ed25519.Ed25519PrivateKey,
    public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey,
    *,
    subject: str,
    issuer: str,
) -> x509.Certificate:
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (subject, issuer)]
    return x509.CertificateBuilder(
        subject_name=names[0],
        issuer_name=names[1],
        public_key=public_key,
        serial_number=7,
        not_valid_before=NOW - DAY,
        not_valid_after=NOW + 900 * DAY,
    ).sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def test_a_good_set_is_neither_refused_nor_warned_about() -> None:
    key = generate_key(EC_SPEC)
    intermediate = Authority("Intermediate")
    signed = signed_by(
        Authority().key, intermediate.key.public_key(), subject="Intermediate", issuer="root"
    )
    verdict = verify(credential_of(intermediate.leaf(NAMES, key), signed, key=key))
    assert verdict == Verdict((), ())


def test_a_leaf_of_another_key_is_never_a_credential() -> None:
    with pytest.raises(CertificateError, match="does not belong"):
        credential_of(CA.leaf(NAMES, generate_key(EC_SPEC)), key=generate_key(EC_SPEC))


def refusal_of(*credentials: Credential, **options: object) -> str:
    verdict = verify(*credentials, **options)  # type: ignore[arg-type] # a table's row
    assert verdict.refusals
    return "; ".join(verdict.refusals)


def test_a_missing_name_refuses() -> None:
    assert "does not cover www.shop.example.org" in refusal_of(CA.credential(NAMES[:1]))


def test_a_missing_key_type_refuses() -> None:
    domain = DOMAIN._replace(configured_key_specs=(EC_SPEC, RSA_SPEC))
    assert "no rsa2048 certificate" in refusal_of(CA.credential(NAMES), domain=domain)


def test_an_expired_leaf_refuses() -> None:
    old = CA.credential(NAMES, not_before=NOW - 100 * DAY)
    assert "expired" in refusal_of(old)


def test_a_leaf_of_tomorrow_refuses_and_one_of_half_an_hour_does_not() -> None:
    assert "not valid before" in refusal_of(CA.credential(NAMES, not_before=NOW + DAY))
    soon = CA.credential(NAMES, not_before=NOW + timedelta(minutes=30))
    assert not verify(soon).refusals


def test_a_chain_that_did_not_sign_refuses() -> None:
    key = generate_key(EC_SPEC)
    foreign = Authority()
    credential = credential_of(CA.leaf(NAMES, key), foreign.root, key=key)
    assert "did not sign" in refusal_of(credential)


def test_a_ca_certificate_refuses_unless_it_is_self_made() -> None:
    key = generate_key(EC_SPEC)
    assert "CA certificate" in refusal_of(
        credential_of(CA.leaf(NAMES, key, ca=True), CA.root, key=key)
    )
    self_made = CA.leaf(NAMES, key, ca=True, self_signed=True)
    verdict = verify(credential_of(self_made, key=key))
    assert not verdict.refusals
    assert any("self-signed" in warning for warning in verdict.warnings)


def test_a_certificate_for_clients_refuses() -> None:
    key = generate_key(EC_SPEC)
    leaf = CA.leaf(NAMES, key, purpose=ExtendedKeyUsageOID.CLIENT_AUTH)
    assert "serverAuth" in refusal_of(credential_of(leaf, CA.root, key=key))


def test_a_weak_key_refuses() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    domain = DOMAIN._replace(configured_key_specs=(RSA_SPEC,))
    chain = chain_to_pem((CA.leaf(NAMES, key), CA.root))
    assert "too weak" in refusal_of(make_credential(RSA_SPEC, key, chain), domain=domain)


def test_a_set_older_than_the_live_one_refuses() -> None:
    live = CA.credential(NAMES, not_before=NOW - DAY).facts
    older = CA.credential(NAMES, not_before=NOW - 2 * DAY)
    assert "older than the live set" in refusal_of(older, live=(live,))


def test_extra_names_a_shorter_life_and_another_issuer_only_warn() -> None:
    live = CA.credential(NAMES, not_before=NOW - 10 * DAY, life=200 * DAY).facts
    other = Authority("Another CA")
    credential = other.credential((*NAMES, "more.example.org"), life=90 * DAY)
    verdict = verify(credential, live=(live,))
    text = "; ".join(verdict.warnings)
    assert not verdict.refusals
    assert "more.example.org" in text
    assert "shorter" in text
    assert "Another CA" in text


def test_must_staple_that_is_absent_only_warns() -> None:
    domain = DOMAIN._replace(must_staple=True)
    verdict = verify(CA.credential(NAMES), domain=domain)
    assert not verdict.refusals
    assert any("must-staple" in warning for warning in verdict.warnings)


def test_only_certificate_blocks_are_written_again() -> None:
    key = generate_key(EC_SPEC)
    leaf = CA.leaf(NAMES, key)
    pem = b"subject: x\n" + chain_to_pem((leaf,)) + key_to_pem(key) + chain_to_pem((CA.root,))
    assert chain_to_pem(read_chain(pem)) == chain_to_pem((leaf, CA.root))


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"x" * (1024 * 1024 + 1),
        chain_to_pem((CA.root,)) * 11,
    ],
    ids=["empty", "no DER", "too large", "too many"],
)
def test_a_chain_that_cannot_be_read_is_an_error(pem: bytes) -> None:
    with pytest.raises(CertificateError):
        read_chain(pem)


def test_facts_are_read_from_the_leaf() -> None:
    key = generate_key(EC_SPEC)
    facts = facts_of(read_leaf(chain_to_pem((CA.leaf(NAMES, key, must_staple=True), CA.root))))
    assert (facts.names, facts.key_label, facts.must_staple) == (NAMES, "secp256r1", True)
    assert facts.issuer == "Throw-away CA"


def test_the_csr_names_all_and_puts_the_first_into_the_cn() -> None:
    csr = x509.load_der_x509_csr(make_csr(NAMES, generate_key(EC_SPEC), must_staple=True))
    alternative = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert tuple(alternative.get_values_for_type(x509.DNSName)) == NAMES
    assert csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == NAMES[0]
    assert csr.extensions.get_extension_for_class(x509.TLSFeature).value


def test_a_first_name_longer_than_64_bytes_is_no_cn() -> None:
    name = "a" * 60 + ".example.org"
    csr = x509.load_der_x509_csr(make_csr((name,), generate_key(EC_SPEC), must_staple=False))
    assert not list(csr.subject)


def with_serial(serial: int, issuer_key_id: bytes | None) -> x509.Certificate:
    """Make a certificate of this number by an issuer of this key."""
    key = generate_key(EC_SPEC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "one.example")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now)
        .not_valid_after(now + DAY)
    )
    if issuer_key_id is not None:
        issuer = x509.AuthorityKeyIdentifier(issuer_key_id, None, None)
        builder = builder.add_extension(issuer, critical=False)
    return builder.sign(key, hashes.SHA256())


KEY_ID = bytes.fromhex("69885b6b87464041e1b37b847ba0ae2cde01c8d4")


@pytest.mark.parametrize(
    ("serial", "encoded"),
    [
        pytest.param(
            0x87654321, "AIdlQyE", id="a zero before what would be a sign (the RFC's own)"
        ),
        pytest.param(0x7F, "fw", id="no zero where none is needed"),
        pytest.param(0x80, "AIA", id="the first number that needs one"),
        pytest.param(0x0123456789, "ASNFZ4k", id="leading zero bits are not octets"),
    ],
)
def test_ari_id_is_the_issuers_key_and_the_serial_as_in_der(serial: int, encoded: str) -> None:
    assert facts_of(with_serial(serial, KEY_ID)).ari_id == f"aYhba4dGQEHhs3uEe6CuLN4ByNQ.{encoded}"


def test_a_certificate_that_names_no_issuers_key_has_no_ari_id() -> None:
    assert facts_of(with_serial(1, None)).ari_id == ""


# --- every word of a verdict --------------------------------------------------------------------


def test_refusals_say_which_certificate_and_what_is_wrong() -> None:
    expired = CA.credential(NAMES, not_before=NOW - 91 * DAY)
    until = expired.facts.not_after
    assert refusal_of(expired) == f"secp256r1: it expired on {until:%Y-%m-%d %H:%M} UTC"
    future = CA.credential(NAMES, not_before=NOW + DAY)
    start = future.facts.not_before
    assert refusal_of(future) == f"secp256r1: it is not valid before {start:%Y-%m-%d %H:%M} UTC"
    assert refusal_of() == "there is no secp256r1 certificate in it"
    short = CA.credential(NAMES[:1])
    assert refusal_of(short) == f"secp256r1: it does not cover {NAMES[1]}"


def test_a_certificate_is_valid_to_its_last_second_and_not_beyond() -> None:
    good = CA.credential(NAMES)
    assert verify(good, now=good.facts.not_after - timedelta(seconds=1)).refusals == ()
    assert "it expired on" in refusal_of(good, now=good.facts.not_after)
    assert verify(good, now=good.facts.not_before - timedelta(hours=1)).refusals == ()
    late = good.facts.not_before - timedelta(hours=1, seconds=1)
    assert "it is not valid before" in refusal_of(good, now=late)


def test_a_pair_of_two_keys_that_was_put_together_is_refused() -> None:
    good, other = CA.credential(NAMES), CA.credential(NAMES)
    mixed = good._replace(key=other.key)
    assert refusal_of(mixed) == "secp256r1: the certificate does not belong to its private key"


def test_a_key_of_another_kind_than_configured_is_refused() -> None:
    good = CA.credential(NAMES, RSA_SPEC)
    assert refusal_of(good._replace(spec=EC_SPEC)) == "secp256r1: its key is rsa2048"


def test_ca_and_client_certificates_are_refused_by_their_purpose() -> None:
    key = generate_key(EC_SPEC)
    of_ca = credential_of(CA.leaf(NAMES, key, ca=True), CA.root, key=key)
    assert refusal_of(of_ca) == "secp256r1: it is a CA certificate"
    client = CA.leaf(NAMES, key, purpose=ExtendedKeyUsageOID.CLIENT_AUTH)
    assert refusal_of(credential_of(client, CA.root, key=key)) == (
        "secp256r1: it is not meant for servers (no serverAuth)"
    )


def test_warnings_say_which_certificate_and_what_is_odd() -> None:
    live = CA.credential(NAMES, not_before=NOW - 30 * DAY, life=100 * DAY).facts
    extra = ("more.example.org",)
    assert verify(CA.credential(NAMES + extra)).warnings == (
        "secp256r1: it also names more.example.org",
        "secp256r1: its chain ends with a root certificate, which clients do not need",
    )
    root = "secp256r1: its chain ends with a root certificate, which clients do not need"
    shorter = "secp256r1: it lives shorter than the one before it"
    assert verify(CA.credential(NAMES), live=(live,)).warnings == (root,)
    assert verify(CA.credential(NAMES, life=89 * DAY), live=(live,)).warnings == (root, shorter)
    rsa_live = live._replace(key_label="rsa2048")
    assert verify(CA.credential(NAMES, life=9 * DAY), live=(rsa_live,)).warnings == (root,)
    both = (rsa_live, live)
    assert verify(CA.credential(NAMES, life=9 * DAY), live=both).warnings == (root, shorter)
    other = live._replace(issuer="Other CA")
    assert verify(CA.credential(NAMES), live=(other,)).warnings == (
        root,
        "secp256r1: another CA signed it: Throw-away CA, before it was Other CA",
    )


def test_must_staple_that_is_missing_is_a_warning() -> None:
    domain = DOMAIN._replace(must_staple=True)
    assert "secp256r1: it lacks must-staple, which MDMustStaple asks for" in (
        verify(CA.credential(NAMES), domain=domain).warnings
    )


def test_older_than_the_live_set_is_refused_and_as_old_is_not() -> None:
    good = CA.credential(NAMES)
    same = good.facts._replace()
    assert verify(good, live=(same,)).refusals == ()
    newer = good.facts._replace(not_before=good.facts.not_before + timedelta(seconds=1))
    assert verify(good, live=(newer,)).refusals == (
        "it is older than the live set, which still serves the configuration",
    )


def test_a_chain_of_the_greatest_size_is_read() -> None:
    pem = chain_to_pem(CA.credential(NAMES).chain)
    assert len(read_chain(pem + b"#" * (MAX_CHAIN_BYTES - len(pem)))) == 2
    with pytest.raises(CertificateError):
        read_chain(pem + b"#" * (MAX_CHAIN_BYTES + 1 - len(pem)))
    assert MAX_CHAIN_BYTES == 1024 * 1024
    assert pem == b"".join(chain_to_pem([one]) for one in read_chain(pem))


def test_a_name_of_64_bytes_is_the_common_name_and_a_longer_one_is_not() -> None:
    for length, expected in ((64, 1), (65, 0)):
        name = f"{'a' * (length - 12)}.example.org"
        key = generate_key(EC_SPEC)
        csr = x509.load_der_x509_csr(make_csr((name,), key, must_staple=True))
        assert len(csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)) == expected
        assert [one.critical for one in csr.extensions] == [False, False]


def test_an_issuer_without_a_name_of_its_own_is_told_by_all_it_has() -> None:
    key = generate_key(EC_SPEC)
    leaf = CA.leaf(NAMES, key)
    for attributes, expected in (
        ([(NameOID.COUNTRY_NAME, "DE"), (NameOID.ORGANIZATION_NAME, "Org")], "Org"),
        ([(NameOID.COUNTRY_NAME, "DE")], "C=DE"),
    ):
        name = x509.Name([x509.NameAttribute(oid, text) for oid, text in attributes])
        certificate = x509.CertificateBuilder(
            issuer_name=name,
            subject_name=leaf.subject,
            public_key=key.public_key(),
            serial_number=7,
            not_valid_before=NOW - DAY,
            not_valid_after=NOW + DAY,
        ).sign(CA.key, hashes.SHA256())
        assert facts_of(certificate).issuer == expected


def test_a_credential_shows_neither_key_nor_chain() -> None:
    good = CA.credential(NAMES)
    assert repr(good) == f"Credential(secp256r1, serial {good.facts.serial:x})"


def test_reasons_to_revoke_have_the_names_of_rfc_5280() -> None:
    assert {one.label: int(one) for one in RevocationReason} == {
        "unspecified": 0,
        "keyCompromise": 1,
        "affiliationChanged": 3,
        "superseded": 4,
        "cessationOfOperation": 5,
        "privilegeWithdrawn": 9,
    }
    assert RevocationReason.labelled("keyCompromise") is RevocationReason.KEY_COMPROMISE
    with pytest.raises(ValueError, match="'x' is no reason to revoke"):
        RevocationReason.labelled("x")


def remade(certificate: x509.Certificate, old: bytes, new: bytes) -> bytes:
    """Return a certificate as PEM with other bytes of the same length in it."""
    der = certificate.public_bytes(Encoding.DER)
    assert old in der
    assert len(old) == len(new)
    body = base64.encodebytes(der.replace(old, new))
    return b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"


def test_chain_with_a_name_that_is_no_text_is_malformed_and_no_error_of_ours() -> None:
    good = CA.credential(("a.example",))
    name = CA.subject.rfc4514_string().removeprefix("CN=").encode()
    chain = chain_to_pem(good.chain[:1]) + remade(CA.root, name, b"\xff" * len(name))
    with pytest.raises(CertificateError, match="malformed"):
        make_credential(good.spec, good.key, chain)


MALFORMED = {
    "its version is 6": (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x06"),
    "two extensions of one kind": (b"\x06\x03U\x1d\x25", b"\x06\x03U\x1d\x11"),
    "a name of a kind that nobody uses": (b"\x82\x10shop.example.org", b"\xa3\x10shop.example.org"),
    "a key of an unknown curve": (
        b"\x2a\x86\x48\xce\x3d\x03\x01\x07",
        b"\x2a\x86\x48\xce\x3d\x03\x01\x77",
    ),
}


@pytest.mark.parametrize(("old", "new"), MALFORMED.values(), ids=MALFORMED)
def test_a_leaf_with_odd_parts_is_malformed_and_no_error_of_ours(old: bytes, new: bytes) -> None:
    good = CA.credential(NAMES)
    with pytest.raises(CertificateError, match="malformed"):
        make_credential(good.spec, good.key, remade(good.chain[0], old, new))


UNKNOWN = {
    "curve": (b"\x2a\x86\x48\xce\x3d\x03\x01\x07", b"\x2a\x86\x48\xce\x3d\x03\x01\x77"),
    "signature": (b"\x2a\x86\x48\xce\x3d\x04\x03\x02", b"\x2a\x86\x48\xce\x3d\x04\x03\x77"),
}


@pytest.mark.parametrize(("old", "new"), UNKNOWN.values(), ids=UNKNOWN)
def test_an_intermediate_of_an_unknown_kind_is_refused(old: bytes, new: bytes) -> None:
    intermediate = Authority("Intermediate")
    signed = signed_by(
        Authority().key, intermediate.key.public_key(), subject="Intermediate", issuer="root"
    )
    key = generate_key(EC_SPEC)
    chain = chain_to_pem([intermediate.leaf(NAMES, key)]) + remade(signed, old, new)
    assert verify(make_credential(EC_SPEC, key, chain)).refusals == (
        "secp256r1: the key or the signature of certificate 2 of its chain is too weak",
    )


def bare_leaf(
    key: object, *, issuer: str, signer: Authority, more: x509.ExtensionType | None = None
) -> x509.Certificate:
    """Return a leaf that says nothing but its names, and one thing more."""
    builder = x509.CertificateBuilder(
        issuer_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]),
        subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAMES[0])]),
        public_key=key.public_key(),  # type: ignore[attr-defined] # a test's key
        serial_number=7,
        not_valid_before=NOW - DAY,
        not_valid_after=NOW + 90 * DAY,
    ).add_extension(
        x509.SubjectAlternativeName([x509.DNSName(name) for name in NAMES]), critical=False
    )
    if more is not None:
        builder = builder.add_extension(more, critical=False)
    return builder.sign(signer.key, hashes.SHA256())


def test_a_leaf_that_names_its_issuer_but_not_its_key_has_no_ari_id() -> None:
    key = generate_key(EC_SPEC)
    by_name = x509.AuthorityKeyIdentifier(None, [x509.DirectoryName(CA.subject)], 7)
    leaf = bare_leaf(key, issuer="CA", signer=CA, more=by_name)
    assert credential_of(leaf, key=key).facts.ari_id == ""


def test_a_leaf_that_says_nothing_of_its_purpose_is_taken() -> None:
    """RFC 5280: without them it is no CA, and good for everything."""
    key = generate_key(EC_SPEC)
    credential = credential_of(bare_leaf(key, issuer="CA", signer=CA), key=key)
    assert verify(credential) == Verdict((), ())
    assert credential.facts.ari_id == ""


def test_a_leaf_that_names_itself_as_its_issuer_and_is_not_is_no_self_made_one() -> None:
    key = generate_key(EC_SPEC)
    credential = credential_of(bare_leaf(key, issuer=NAMES[0], signer=CA), key=key)
    assert verify(credential).warnings == ()


def test_a_pair_that_does_not_fit_names_the_certificate() -> None:
    leaf = CA.leaf(NAMES, generate_key(EC_SPEC))
    with pytest.raises(CertificateError) as caught:
        credential_of(leaf, key=generate_key(EC_SPEC))
    fingerprint = leaf.fingerprint(hashes.SHA256()).hex()[:16]
    assert str(caught.value) == (
        f"the secp256r1 certificate does not belong to its private key (certificate {fingerprint})"
    )


def test_a_key_fits_its_own_certificate_and_no_other() -> None:
    specs = (EC_SPEC, EC_SPEC, KeySpec("EC", curve="secp384r1"), RSA_SPEC, RSA_SPEC)
    keys = [generate_key(spec) for spec in specs]
    for key in keys:
        leaf = read_leaf(chain_to_pem((CA.leaf(NAMES, key),)))
        assert [fits(one, leaf) for one in keys] == [one is key for one in keys]


def test_a_certificate_of_a_kind_of_key_that_we_do_not_use_cannot_be_read() -> None:
    other = ed25519.Ed25519PrivateKey.generate().public_key()
    with pytest.raises(CertificateError, match=r"^the public key is neither RSA nor of an ellip"):
        facts_of(signed_by(RSA_KEY, other, subject="a", issuer="b"))


def test_a_chain_that_is_too_long_says_what_is_allowed() -> None:
    with pytest.raises(CertificateError) as caught:
        read_chain(b"x" * (MAX_CHAIN_BYTES + 1))
    assert str(caught.value) == f"the chain has more than {MAX_CHAIN_BYTES} bytes"


def test_each_missing_key_type_and_name_is_told() -> None:
    both = DOMAIN._replace(configured_key_specs=(RSA_SPEC, EC_SPEC))
    assert verify(CA.credential(("other.example",)), domain=both).refusals == (
        "there is no rsa2048 certificate in it",
        f"secp256r1: it does not cover {', '.join(NAMES)}",
    )


def test_a_live_certificate_of_another_kind_is_no_measure_for_the_rest() -> None:
    live = CA.credential(NAMES, life=400 * DAY).facts
    others = (live._replace(key_label="rsa2048"), live)
    warnings = verify(CA.credential(NAMES), live=others).warnings
    assert warnings.count("secp256r1: it lives shorter than the one before it") == 1


def test_a_self_made_certificate_is_told_and_a_lone_leaf_is_not() -> None:
    key = generate_key(EC_SPEC)
    lone = credential_of(CA.leaf(NAMES, key), key=key)
    assert verify(lone).warnings == ()
    own = credential_of(CA.leaf(NAMES, key, self_signed=True), key=key)
    assert verify(own).warnings == ("secp256r1: it is self-signed; browsers will not trust it",)


# --- what cannot be read, and what is too weak ---------------------------------------------------

CANNOT_BE_READ = "the certificate cannot be read: it is malformed"


def patched(certificate: x509.Certificate, old: bytes, new: bytes) -> x509.Certificate:
    """Return a certificate that can still be read, with other bytes in it."""
    return x509.load_pem_x509_certificate(remade(certificate, old, new))


@pytest.mark.parametrize(
    ("pem", "message"),
    [
        (b"", "there is no PEM certificate in it"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", CANNOT_BE_READ),
        (chain_to_pem((CA.root,)) * 11, "the chain has more than 10 certificates"),
    ],
)
def test_a_chain_that_cannot_be_read_says_why(pem: bytes, message: str) -> None:
    with pytest.raises(CertificateError) as caught:
        read_chain(pem)
    assert str(caught.value) == message


def test_a_chain_of_as_many_certificates_as_may_be_is_read() -> None:
    assert len(read_chain(chain_to_pem((CA.root,)) * MAX_CHAIN_CERTIFICATES)) == 10


def test_names_and_issuers_that_are_no_text_are_malformed() -> None:
    good = CA.leaf(NAMES, generate_key(EC_SPEC))
    name = NAMES[1].encode()
    with pytest.raises(CertificateError) as caught:
        facts_of(patched(good, name, b"\xff" * len(name)))
    assert str(caught.value) == CANNOT_BE_READ
    issuer = b"Throw-away CA"
    with pytest.raises(CertificateError) as caught:
        read_chain(chain_to_pem((patched(good, issuer, b"\xff" * len(issuer)),)))
    assert str(caught.value) == CANNOT_BE_READ


def test_a_certificate_without_alternative_names_is_for_no_name() -> None:
    assert facts_of(with_serial(1, None)).names == ()
    assert not facts_of(with_serial(1, None)).covers("one.example")


RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SIGNED_WITH_RSA = bytes.fromhex("2a864886f70d0101")
SHA256, SHA1, MD2 = (SIGNED_WITH_RSA + bytes([last]) for last in (11, 5, 2))
P256, NO_CURVE = bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030109")


@pytest.mark.parametrize("algorithm", [SHA1, MD2], ids=["SHA-1", "one that nobody knows"])
def test_a_leaf_with_a_weak_signature_is_refused(algorithm: bytes) -> None:
    key = generate_key(EC_SPEC)
    strong = signed_by(RSA_KEY, key.public_key(), subject="a", issuer="b")
    domain = DOMAIN._replace(names=())
    assert verify(credential_of(strong, key=key), domain=domain).refusals == ()
    weak = patched(strong, SHA256, algorithm)
    assert refusal_of(credential_of(weak, key=key), domain=domain) == (
        "secp256r1: its key or its signature is too weak"
    )


def test_a_leaf_with_a_short_elliptic_curve_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP224R1())
    assert "secp256r1: its key or its signature is too weak" in refusal_of(
        credential_of(CA.leaf(NAMES, key), CA.root, key=key)
    )


WEAK_IN_CHAIN = "secp256r1: the key or the signature of certificate {} of its chain is too weak"


@pytest.mark.parametrize(
    "weak",
    [
        patched(
            signed_by(RSA_KEY, CA.key.public_key(), subject="Throw-away CA", issuer="b"),
            SHA256,
            SHA1,
        ),
        patched(
            signed_by(RSA_KEY, CA.key.public_key(), subject="Throw-away CA", issuer="b"),
            P256,
            NO_CURVE,
        ),
        signed_by(
            RSA_KEY,
            ec.generate_private_key(ec.SECP224R1()).public_key(),
            subject="Throw-away CA",
            issuer="b",
        ),
        signed_by(
            RSA_KEY,
            ed25519.Ed25519PrivateKey.generate().public_key(),
            subject="Throw-away CA",
            issuer="b",
        ),
    ],
    ids=["SHA-1", "a curve that nobody knows", "a short curve", "a kind that we do not use"],
)
def test_a_weak_link_in_the_chain_is_told_by_its_place(weak: x509.Certificate) -> None:
    key = generate_key(EC_SPEC)
    leaf = CA.leaf(NAMES, key)
    assert refusal_of(credential_of(leaf, weak, CA.root, key=key)) == WEAK_IN_CHAIN.format(2)
    assert refusal_of(credential_of(leaf, CA.root, weak, key=key)) == WEAK_IN_CHAIN.format(3)


def test_what_a_root_says_of_itself_may_be_weakly_signed() -> None:
    root = signed_by(RSA_KEY, RSA_KEY.public_key(), subject="root", issuer="root")
    key = generate_key(EC_SPEC)
    leaf = signed_by(RSA_KEY, key.public_key(), subject="a", issuer="root")
    old = patched(root, SHA256, SHA1)
    domain = DOMAIN._replace(names=())
    assert verify(credential_of(leaf, old, key=key), domain=domain).refusals == ()


def test_the_link_that_did_not_sign_is_told_by_its_place() -> None:
    key = generate_key(EC_SPEC)
    leaf, other = CA.leaf(NAMES, key), Authority().root
    told = "secp256r1: certificate {} of its chain did not sign the one before it"
    assert refusal_of(credential_of(leaf, other, key=key)) == told.format(2)
    assert refusal_of(credential_of(leaf, CA.root, other, key=key)) == told.format(3)


def test_a_ca_certificate_that_another_signed_is_refused_though_it_stands_alone() -> None:
    key = generate_key(EC_SPEC)
    alone = credential_of(CA.leaf(NAMES, key, ca=True), key=key)
    assert refusal_of(alone) == "secp256r1: it is a CA certificate"


def test_a_certificate_that_only_has_its_own_name_as_issuer_is_not_self_signed() -> None:
    key = generate_key(EC_SPEC)
    forged = signed_by(RSA_KEY, key.public_key(), subject="a", issuer="a")
    domain = DOMAIN._replace(names=())
    assert verify(credential_of(forged, key=key), domain=domain).warnings == ()


def test_all_names_that_were_not_asked_for_are_told() -> None:
    warnings = verify(CA.credential((*NAMES, "x.example", "y.example"))).warnings
    assert warnings[0] == "secp256r1: it also names x.example, y.example"


def test_an_rsa_certificate_is_no_measure_for_one_of_an_elliptic_curve() -> None:
    live = CA.credential(NAMES, RSA_SPEC, not_before=NOW - 9 * DAY, life=400 * DAY).facts
    domain = DOMAIN._replace(configured_key_specs=(EC_SPEC, RSA_SPEC))
    set_of_both = (CA.credential(NAMES), CA.credential(NAMES, RSA_SPEC))
    assert [
        text
        for text in verify(*set_of_both, domain=domain, live=(live,)).warnings
        if "shorter" in text
    ] == ["rsa2048: it lives shorter than the one before it"]


def test_facts_without_an_ari_id_are_of_a_certificate_that_has_none() -> None:
    facts = CertificateFacts("rsa2048", NAMES, NOW, NOW, 1, "ff", "CA", False)
    assert facts.ari_id == ""


def test_an_ari_id_needs_the_issuers_key_and_a_number() -> None:
    assert facts_of(with_serial(0x010117, KEY_ID)).ari_id.endswith(".AQEX")
    named = x509.AuthorityKeyIdentifier(None, [x509.DirectoryName(CA.subject)], 5)
    key = generate_key(EC_SPEC)
    certificate = (
        x509.CertificateBuilder(CA.subject, CA.subject, key.public_key(), 7, NOW, NOW + DAY)
        .add_extension(named, critical=False)
        .sign(key, hashes.SHA256())
    )
    assert facts_of(certificate).ari_id == ""
    assert facts_of(with_serial(1, KEY_ID)).ari_id.endswith(".AQ")


@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
def test_a_certificate_with_the_number_zero_has_no_ari_id() -> None:
    before_serial = bytes.fromhex("a00302010202 01")
    one = with_serial(1, KEY_ID)
    zero = patched(one, before_serial + b"\1", before_serial + b"\0")
    assert facts_of(zero).ari_id == ""
