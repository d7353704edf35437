"""A throw-away CA in the test process, for certificates that Pebble would not sign."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mdconnector.certificates import Credential, chain_to_pem, make_credential
from mdconnector.keys import KeySpec, PrivateKey, generate_key

DAY = timedelta(days=1)
EC_SPEC = KeySpec("EC", curve="secp256r1")
RSA_SPEC = KeySpec("RSA", 2048)


class Authority:
    """One CA key with a self-signed root; each leaf is what the arguments say."""

    def __init__(self, name: str = "Throw-away CA") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        start = datetime.now(UTC) - 400 * DAY
        self.root = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name(self.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + 4000 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    def leaf(
        self,
        names: tuple[str, ...],
        key: PrivateKey,
        *,
        not_before: datetime | None = None,
        life: timedelta = 90 * DAY,
        ca: bool = False,
        purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
        must_staple: bool = False,
        self_signed: bool = False,
    ) -> x509.Certificate:
        """Sign a leaf for the names."""
        start = not_before or datetime.now(UTC) - DAY
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if self_signed else self.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + life)
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
            )
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
        )
        if must_staple:
            feature = x509.TLSFeature([x509.TLSFeatureType.status_request])
            builder = builder.add_extension(feature, critical=False)
        return builder.sign(key if self_signed else self.key, hashes.SHA256())

    def credential(
        self,
        names: tuple[str, ...],
        spec: KeySpec = EC_SPEC,
        *,
        not_before: datetime | None = None,
        life: timedelta = 90 * DAY,
    ) -> Credential:
        """Make a key and a chain (leaf and root) for the names."""
        key = generate_key(spec)
        chain = (self.leaf(names, key, not_before=not_before, life=life), self.root)
        return make_credential(spec, key, chain_to_pem(chain))
