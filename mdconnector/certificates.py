"""Certificates as facts: what a chain says, whether it fits, and the CSR for a new one.

Rules: only certificate blocks of a PEM file are ever looked at or written again; times are aware
UTC; what refuses a set and what only warns is decided in `verify_set`, for staging and promotion
alike.
"""

import base64
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import IntEnum
from itertools import pairwise
from typing import NamedTuple, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from mdconnector.errors import CertificateError
from mdconnector.keys import KeySpec, PrivateKey, label_of_key
from mdconnector.managed_domain import ManagedDomain, name_covers

_ExtensionT = TypeVar("_ExtensionT", bound=x509.ExtensionType)

MAX_CHAIN_BYTES = 1024 * 1024
MAX_CHAIN_CERTIFICATES = 10
MAX_COMMON_NAME_BYTES = 64
CLOCK_SLACK = timedelta(hours=1)

UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""what the library raises for a malformed certificate, or only when a part of it is asked for"""

_CERTIFICATE_BLOCK = re.compile(
    rb"-----BEGIN CERTIFICATE-----\r?\n[A-Za-z0-9+/=\r\n]+-----END CERTIFICATE-----"
)


class RevocationReason(IntEnum):
    """Why a certificate ends before its time: what of RFC 5280 §5.3.1 is a holder's to say."""

    UNSPECIFIED = 0
    KEY_COMPROMISE = 1
    AFFILIATION_CHANGED = 3
    SUPERSEDED = 4
    CESSATION_OF_OPERATION = 5
    PRIVILEGE_WITHDRAWN = 9

    @property
    def label(self) -> str:
        """RFC 5280's own name: keyCompromise."""
        first, *others = self.name.lower().split("_")
        return first + "".join(word.capitalize() for word in others)

    @classmethod
    def labelled(cls, label: str) -> "RevocationReason":
        """Return the reason that RFC 5280 calls so. Raises ValueError."""
        for reason in cls:
            if reason.label == label:
                return reason
        raise ValueError(f"'{label}' is no reason to revoke")


class CertificateFacts(NamedTuple):
    """What one leaf certificate says about itself."""

    key_label: str
    """`rsa2048`, `secp256r1`"""
    names: tuple[str, ...]
    """the DNS names of its subjectAltName, lower case"""
    not_before: datetime
    not_after: datetime
    serial: int
    sha256: str
    """fingerprint, lower-case hexadecimal"""
    issuer: str
    must_staple: bool
    ari_id: str = ""
    """by which its CA knows it (RFC 9773 §4.1); empty where it names no issuer's key"""

    def covers(self, name: str) -> bool:
        """Say whether the certificate is valid for a DNS name."""
        return any(name_covers(pattern, name) for pattern in self.names)


class InstalledCertificate(NamedTuple):
    """What lies on disk for one key spec: facts, a fault that spoils it, or neither (missing)."""

    spec: KeySpec
    facts: CertificateFacts | None = None
    fault: str | None = None
    suggested: datetime | None = None
    """when to renew it by the CA's word (ARI), chosen once"""
    must_staple_is_settled: bool = False
    """it was ordered for this very configuration, and the CA made it otherwise"""
    window_is_settled: bool = False
    """MDRenewWindow was open already when the last set came, so the default is taken for it"""
    revoked_at: datetime | None = None
    """when `mdconnector revoke` had it revoked"""


def split_chain(pem: bytes) -> tuple[bytes, ...]:
    """Return the certificate blocks of a PEM file, in order; everything else in it is dropped."""
    if len(pem) > MAX_CHAIN_BYTES:
        raise CertificateError(f"the chain has more than {MAX_CHAIN_BYTES} bytes")
    blocks = tuple(_CERTIFICATE_BLOCK.findall(pem))
    if not blocks:
        raise CertificateError("there is no PEM certificate in it")
    if len(blocks) > MAX_CHAIN_CERTIFICATES:
        raise CertificateError(f"the chain has more than {MAX_CHAIN_CERTIFICATES} certificates")
    return blocks


def read_leaf(pem: bytes) -> x509.Certificate:
    """Return the first certificate of a PEM file. Raises CertificateError."""
    return _parse(split_chain(pem)[0])


def read_chain(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Return all certificates of a PEM file, leaf first. Raises CertificateError."""
    chain = tuple(_parse(block) for block in split_chain(pem))
    for certificate in chain:
        _require_readable(certificate)
    return chain


def chain_to_pem(chain: Iterable[x509.Certificate]) -> bytes:
    """Return the chain as PEM: certificate blocks alone, 64 columns, a final newline."""
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in chain)


def facts_of(certificate: x509.Certificate) -> CertificateFacts:
    """Read what a leaf says about itself. Raises CertificateError for what cannot be read."""
    try:
        public_key = certificate.public_key()
        if not isinstance(public_key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
            raise CertificateError("the public key is neither RSA nor of an elliptic curve")
        extensions = {one.oid: one.value for one in certificate.extensions}
        return CertificateFacts(
            key_label=label_of_key(public_key),
            names=_dns_names(extensions.get(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            serial=certificate.serial_number,
            sha256=certificate.fingerprint(hashes.SHA256()).hex(),
            issuer=_issuer(certificate),
            must_staple=_must_staple(extensions.get(ExtensionOID.TLS_FEATURE)),
            ari_id=_ari_id(
                extensions.get(ExtensionOID.AUTHORITY_KEY_IDENTIFIER), certificate.serial_number
            ),
        )
    except UNREADABLE as error:
        raise CertificateError("the certificate cannot be read: it is malformed") from error


def fits(key: PrivateKey, certificate: x509.Certificate) -> bool:
    """Say whether a private key belongs to a certificate whose facts could be read."""
    return key.public_key() == certificate.public_key()


class Credential(NamedTuple):
    """A private key, its certificate chain (leaf first), and the key spec they stand for."""

    spec: KeySpec
    key: PrivateKey
    chain: tuple[x509.Certificate, ...]
    facts: CertificateFacts

    def __repr__(self) -> str:
        return f"Credential({self.spec.label}, serial {self.facts.serial:x})"


def make_credential(spec: KeySpec, key: PrivateKey, chain_pem: bytes) -> Credential:
    """Join a key and a PEM chain. Raises CertificateError where they do not belong together."""
    chain = read_chain(chain_pem)
    facts = facts_of(chain[0])
    if not fits(key, chain[0]):
        raise CertificateError(
            f"the {spec.label} certificate does not belong to its private key "
            f"(certificate {facts.sha256[:16]})"
        )
    return Credential(spec, key, chain, facts)


class Verdict(NamedTuple):
    """What the verification of a set found: any refusal keeps it out, warnings are only told."""

    refusals: tuple[str, ...]
    warnings: tuple[str, ...]


def verify_set(
    domain: ManagedDomain,
    credentials: tuple[Credential, ...],
    *,
    live: tuple[CertificateFacts, ...],
    now: datetime,
) -> Verdict:
    """Judge a set of certificates for a managed domain before it is staged or promoted.

    `live` are the certificates that serve the configuration now; empty where none does.
    """
    refusals: list[str] = []
    warnings: list[str] = []
    by_label = {credential.spec.file_suffix: credential for credential in credentials}
    for spec in domain.key_specs:
        credential = by_label.get(spec.file_suffix)
        if credential is None:
            refusals.append(f"there is no {spec.label} certificate in it")
            continue
        refusals += (f"{spec.label}: {text}" for text in _refusals(domain, credential, now))
        warnings += (f"{spec.label}: {text}" for text in _warnings(domain, credential, live))
    if credentials and live:
        newest = max(facts.not_before for facts in live)
        oldest_new = min(credential.facts.not_before for credential in credentials)
        if oldest_new < newest:
            refusals.append("it is older than the live set, which still serves the configuration")
    return Verdict(tuple(refusals), tuple(warnings))


def _refusals(domain: ManagedDomain, credential: Credential, now: datetime) -> Iterable[str]:
    facts, leaf = credential.facts, credential.chain[0]
    if not fits(credential.key, leaf):
        yield "the certificate does not belong to its private key"
    if not credential.spec.describes(leaf.public_key()):
        yield f"its key is {facts.key_label}"
    missing = [name for name in domain.names if not facts.covers(name)]
    if missing:
        yield f"it does not cover {', '.join(missing)}"
    if now + CLOCK_SLACK < facts.not_before:
        yield f"it is not valid before {facts.not_before:%Y-%m-%d %H:%M} UTC"
    if now >= facts.not_after:
        yield f"it expired on {facts.not_after:%Y-%m-%d %H:%M} UTC"
    if _has_weak_key(leaf) or _has_weak_signature(leaf):
        yield "its key or its signature is too weak"
    yield from _purpose_refusals(leaf, self_made=len(credential.chain) == 1)
    yield from _chain_refusals(credential.chain)


def _warnings(
    domain: ManagedDomain, credential: Credential, live: tuple[CertificateFacts, ...]
) -> Iterable[str]:
    facts = credential.facts
    extra = [name for name in facts.names if not any(name_covers(n, name) for n in domain.names)]
    if extra:
        yield f"it also names {', '.join(extra)}"
    if domain.must_staple and not facts.must_staple:
        yield "it lacks must-staple, which MDMustStaple asks for"
    if len(credential.chain) == 1 and _is_self_signed(credential.chain[0]):
        yield "it is self-signed; browsers will not trust it"
    if _is_self_signed(credential.chain[-1]) and len(credential.chain) > 1:
        yield "its chain ends with a root certificate, which clients do not need"
    for old in live:
        if old.key_label.startswith("rsa") != facts.key_label.startswith("rsa"):
            continue
        if facts.not_after - facts.not_before < (old.not_after - old.not_before) * 0.9:
            yield "it lives shorter than the one before it"
        if old.issuer != facts.issuer:
            yield f"another CA signed it: {facts.issuer}, before it was {old.issuer}"


def _has_weak_key(certificate: x509.Certificate) -> bool:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return True
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size < 2048
    return not isinstance(key, ec.EllipticCurvePublicKey) or key.key_size < 256


def _has_weak_signature(certificate: x509.Certificate) -> bool:
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return True
    return isinstance(algorithm, hashes.SHA1 | hashes.MD5)


def _purpose_refusals(leaf: x509.Certificate, *, self_made: bool) -> Iterable[str]:
    constraints = _extension(leaf, x509.BasicConstraints)
    if constraints is not None and constraints.ca and not (self_made and _is_self_signed(leaf)):
        yield "it is a CA certificate"
    purposes = _extension(leaf, x509.ExtendedKeyUsage)
    if purposes is not None and ExtendedKeyUsageOID.SERVER_AUTH not in purposes:
        yield "it is not meant for servers (no serverAuth)"


def _chain_refusals(chain: tuple[x509.Certificate, ...]) -> Iterable[str]:
    for number, issuer in enumerate(chain[1:], start=2):
        # nobody looks at what a root says of itself; OpenSSL loads no chain with another one
        is_root = issuer.subject == issuer.issuer
        if _has_weak_key(issuer) or (_has_weak_signature(issuer) and not is_root):
            yield f"the key or the signature of certificate {number} of its chain is too weak"
            return
    for number, (child, parent) in enumerate(pairwise(chain), start=2):
        try:
            child.verify_directly_issued_by(parent)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            yield f"certificate {number} of its chain did not sign the one before it"
            return


def _is_self_signed(certificate: x509.Certificate) -> bool:
    if certificate.subject != certificate.issuer:
        return False
    try:
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def make_csr(names: tuple[str, ...], key: PrivateKey, *, must_staple: bool) -> bytes:
    """Make a CSR (DER): all names as SANs, the first as CN where it fits in 64 bytes.

    mod_md: md_crypt.c, md_cert_req_create; must-staple is RFC 7633's TLS feature status_request.
    """
    subject = []
    if len(names[0].encode()) <= MAX_COMMON_NAME_BYTES:
        subject.append(x509.NameAttribute(NameOID.COMMON_NAME, names[0]))
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name(subject))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]),
            critical=False,
        )
    )
    if must_staple:
        feature = x509.TLSFeature([x509.TLSFeatureType.status_request])
        builder = builder.add_extension(feature, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _parse(block: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(block)
    except UNREADABLE as error:
        raise CertificateError("the certificate cannot be read: it is malformed") from error


def _require_readable(certificate: x509.Certificate) -> None:
    """Have parsed at once what is parsed only when it is asked for."""
    try:
        _ = certificate.subject, certificate.issuer, certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return  # a weak one is what it is then
    except ValueError as error:
        raise CertificateError("the certificate cannot be read: it is malformed") from error


def _extension(certificate: x509.Certificate, kind: type[_ExtensionT]) -> _ExtensionT | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _dns_names(names: x509.ExtensionType | None) -> tuple[str, ...]:
    if not isinstance(names, x509.SubjectAlternativeName):
        return ()
    return tuple(name.lower() for name in names.get_values_for_type(x509.DNSName))


def _must_staple(feature: x509.ExtensionType | None) -> bool:
    return isinstance(feature, x509.TLSFeature) and x509.TLSFeatureType.status_request in feature


def _ari_id(issuer: x509.ExtensionType | None, serial: int) -> str:
    if not isinstance(issuer, x509.AuthorityKeyIdentifier):
        return ""
    if not issuer.key_identifier or serial <= 0:
        return ""
    # as in DER: a first octet from 0x80 on would be a sign, so a zero comes before it
    octets = serial.to_bytes(serial.bit_length() // 8 + 1)
    return f"{_base64url(issuer.key_identifier)}.{_base64url(octets)}"


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")


def _issuer(certificate: x509.Certificate) -> str:
    for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        attributes = certificate.issuer.get_attributes_for_oid(oid)
        if attributes:
            return str(attributes[0].value)
    return certificate.issuer.rfc4514_string()
