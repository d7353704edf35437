"""Private keys: which kinds there are, what mod_md calls their files, and their PEM forms.

Rules: the kinds are those that mod_md knows and a public CA signs. Keys are PKCS#8 PEM; in staging
and accounts they are encrypted with the 48 bytes of md_store.json, everywhere else they are plain.
Nothing here prints, logs or stores a key.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mdconnector.errors import CertificateError

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

DEFAULT_RSA_BITS = 2048
MIN_RSA_BITS = 2048
ACCOUNT_KEY_BITS = 3072  # mod_md: md_acme_acct.h, MD_ACME_ACCT_PKEY_BITS; it can use no other kind

_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "secp256r1": ec.SECP256R1,
    "p-256": ec.SECP256R1,
    "prime256v1": ec.SECP256R1,
    "secp384r1": ec.SECP384R1,
    "p-384": ec.SECP384R1,
}


class KeySpec(NamedTuple):
    """One kind of private key, as MDPrivateKeys names it; a domain has one certificate for each.

    `curve` keeps the spelling of the configuration, because mod_md makes the file name of it.
    """

    kind: Literal["Default", "RSA", "EC"]
    bits: int = DEFAULT_RSA_BITS
    curve: str = ""

    @property
    def label(self) -> str:
        """The word for tables and JSON: `rsa2048`, `secp256r1`."""
        return self.curve.lower() if self.kind == "EC" else f"rsa{self.bits}"

    @property
    def file_suffix(self) -> str:
        """What stands between `privkey` and `.pem` (mod_md: md_store.c, pk_filename)."""
        return f".{self.curve.lower()}" if self.kind == "EC" else ""

    @property
    def privkey_name(self) -> str:
        """The key's file name in staging, domains and archive."""
        return f"privkey{self.file_suffix}.pem"

    @property
    def pubcert_name(self) -> str:
        """The chain's file name in staging, domains and archive."""
        return f"pubcert{self.file_suffix}.pem"

    @property
    def is_rsa(self) -> bool:
        """Say whether the key is RSA, by default or by name."""
        return self.kind != "EC"

    @property
    def is_supported(self) -> bool:
        """Say whether `generate_key` can make such a key."""
        return self.is_rsa or self.curve.lower() in _CURVES

    def describes(self, key: object) -> bool:
        """Say whether a key is of this kind; as in mod_md, the RSA size does not matter."""
        if self.is_rsa:
            return isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey)
        if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
            wanted = _CURVES.get(self.curve.lower())
            return wanted is not None and isinstance(key.curve, wanted)
        return False


DEFAULT_KEY_SPEC = KeySpec("RSA")


def label_of_key(key: object) -> str:
    """Return a key's label: `rsa2048`, `secp256r1`; `unknown` for any other kind."""
    if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        return f"rsa{key.key_size}"
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        return key.curve.name
    return "unknown"


def generate_key(spec: KeySpec) -> PrivateKey:
    """Make a new private key of the kind that `spec` names."""
    if spec.is_rsa:
        with random_numbers():
            return rsa.generate_private_key(public_exponent=65537, key_size=spec.bits)
    curve = _CURVES.get(spec.curve.lower())
    if curve is None:
        raise CertificateError(
            f"cannot make a key on the curve {spec.curve}",
            hint="use RSA 2048, RSA 3072, RSA 4096, secp256r1 or secp384r1 in MDPrivateKeys",
        )
    with random_numbers():
        return ec.generate_private_key(curve())


def generate_account_key() -> rsa.RSAPrivateKey:
    """Make a new account key: RSA 3072, the only kind that mod_md can use too."""
    with random_numbers():
        return rsa.generate_private_key(public_exponent=65537, key_size=ACCOUNT_KEY_BITS)


@contextmanager
def random_numbers() -> Iterator[None]:
    """Raise CertificateError where OpenSSL needs random numbers and the system gives none.

    It asks for them when a process makes a key, or signs, for the first time.
    """
    try:
        yield
    except InternalError as error:
        raise CertificateError(
            "no private key can be made or used: the system gives no random numbers",
            hint="see why getrandom and /dev/urandom fail on this host; the next run tries again",
        ) from error


def key_to_pem(key: PrivateKey, passphrase: bytes | None = None) -> bytes:
    """Return the key as PKCS#8 PEM, encrypted with AES-256-CBC where a pass phrase is given."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def key_from_pem(pem: bytes, passphrase: bytes | None = None) -> PrivateKey:
    """Read a private key, encrypted or plain; the pass phrase is used only where the PEM needs one.

    RSA keys are loaded without validation: comparing the public halves is our check, and it costs a
    thousandth. Raises CertificateError without any part of the key in its message.
    """
    encrypted = b"ENCRYPTED" in pem
    try:
        key = serialization.load_pem_private_key(
            pem, passphrase if encrypted else None, unsafe_skip_rsa_key_validation=True
        )
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        reason = "encrypted with another key" if encrypted else "no PEM private key"
        raise CertificateError(f"the private key cannot be read: {reason}") from error
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise CertificateError("the private key is neither RSA nor of an elliptic curve")
    return key


def public_bytes(key: object) -> bytes:
    """Return the DER SubjectPublicKeyInfo of a private or public key, for comparing keys."""
    public = (
        key.public_key() if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) else key
    )
    if not isinstance(public, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise CertificateError("the public key is neither RSA nor of an elliptic curve")
    return public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
