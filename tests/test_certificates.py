"""What a chain says, what refuses it and what only warns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mdconnector.certificates import (
    MAX_CHAIN_BYTES,
    CertificateFacts,
    Credential,
    RevocationReason,
    Verdict,
    chain_to_pem,
    facts_of,
    make_credential,
    make_csr,
    read_chain,
    read_leaf,
    verify_set,
)
from mdconnector.errors import CertificateError
from mdconnector.keys import generate_key, key_to_pem
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


def test_a_good_set_is_neither_refused_nor_warned_about() -> None:
    key = generate_key(EC_SPEC)
    other = Authority()
    intermediate = Authority("Intermediate")
    signed = x509.CertificateBuilder(
        issuer_name=other.subject,
        subject_name=intermediate.subject,
        public_key=intermediate.key.public_key(),
        serial_number=7,
        not_valid_before=NOW - DAY,
        not_valid_after=NOW + 900 * DAY,
    ).sign(other.key, other.root.signature_hash_algorithm)  # type: ignore[arg-type] # SHA-256
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


def test_chain_with_a_name_that_is_no_text_is_malformed_and_no_error_of_ours() -> None:
    good = CA.credential(("a.example",))
    name = CA.subject.rfc4514_string().removeprefix("CN=").encode()
    der = CA.root.public_bytes(Encoding.DER)
    bad = x509.load_der_x509_certificate(der.replace(name, b"\xff" * len(name)))
    chain = chain_to_pem((good.chain[0], bad))
    with pytest.raises(CertificateError, match="malformed"):
        make_credential(good.spec, good.key, chain)


def test_a_pair_that_does_not_fit_names_the_certificate() -> None:
    leaf = CA.leaf(NAMES, generate_key(EC_SPEC))
    with pytest.raises(CertificateError) as caught:
        credential_of(leaf, key=generate_key(EC_SPEC))
    fingerprint = leaf.fingerprint(hashes.SHA256()).hex()[:16]
    assert str(caught.value) == (
        f"the secp256r1 certificate does not belong to its private key (certificate {fingerprint})"
    )


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
