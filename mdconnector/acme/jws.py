"""What the account key signs and proves: requests, External Account Binding, challenges.

Rules: pure. A key signs by the algorithm of its kind, RS256 or one of ES256, ES384 and ES512; HS256
signs with the binding's key. No value of either ever stands in a message. Accounts that mdconnector
uses have RSA keys; those of other clients, and certificates' own keys, need not.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from josepy.b64 import b64encode
from josepy.jwa import ES256, ES384, ES512, HS256, RS256, JWASignature
from josepy.jwk import JWKEC, JWKRSA

from mdconnector.errors import CertificateError, ChallengeError, ConfigurationError
from mdconnector.keys import PrivateKey, random_numbers

MIN_HMAC_BYTES = 16

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

# RFC 8555 §8.3: at least 128 bits of entropy, so 22 characters; the upper limit is ours, because a
# token becomes a file's name.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{22,256}")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")


def sign_request(
    payload: Mapping[str, object] | None,
    *,
    key: PrivateKey,
    url: str,
    nonce: str,
    kid: str | None = None,
) -> bytes:
    """Return the body of one ACME request: a flattened JWS (RFC 8555 §6.2).

    Without `payload` it is a POST-as-GET (§6.3); without `kid`, the account's URL, the public key
    itself goes along.
    """
    algorithm = _algorithm(key)
    protected: dict[str, object] = {"alg": algorithm.name, "nonce": nonce, "url": url}
    if kid is None:
        protected["jwk"] = public_jwk(key)
    else:
        protected["kid"] = kid
    content = b"" if payload is None else _json(payload)
    signed = _signing_input(protected, content)
    with random_numbers():
        return _json(_flattened(signed, algorithm.sign(key, signed)))


def key_change(
    new_key: PrivateKey, *, old_key: PrivateKey, account_url: str, url: str
) -> dict[str, str]:
    """Return the payload of a keyChange request: the new key's word for it (RFC 8555 §7.3.5).

    `url` is that of keyChange; the request itself is signed with the old key.
    """
    algorithm = _algorithm(new_key)
    protected = {"alg": algorithm.name, "jwk": public_jwk(new_key), "url": url}
    signed = _signing_input(
        protected, _json({"account": account_url, "oldKey": public_jwk(old_key)})
    )
    return _flattened(signed, algorithm.sign(new_key, signed))


def external_account_binding(
    account_key: PrivateKey, *, kid: str, hmac: str, url: str
) -> dict[str, str]:
    """Return the member `externalAccountBinding` of a newAccount request (RFC 8555 §7.3.4).

    `url` is that of newAccount. Raises ConfigurationError for an HMAC key that `decode_hmac`
    refuses.
    """
    protected = {"alg": HS256.name, "kid": kid, "url": url}
    signed = _signing_input(protected, _json(public_jwk(account_key)))
    return _flattened(signed, HS256.sign(decode_hmac(hmac), signed))


def decode_hmac(text: str) -> bytes:
    """Decode the HMAC key of MDExternalAccountBinding.

    Padding at the end is accepted, though mod_md stops reading there: the bytes are the same.
    Raises ConfigurationError, never with the value in it.
    """
    unpadded = text.rstrip("=")
    hint = (
        "copy it again from the CA's portal into MDExternalAccountBinding, as it stands there, "
        "without blanks or line breaks"
    )
    if not _BASE64URL.fullmatch(unpadded):
        raise ConfigurationError(
            "the HMAC key of MDExternalAccountBinding is not base64url: "
            f"it holds {_kind_of_wrong_character(unpadded)}",
            hint=hint,
        )
    try:
        decoded = base64.urlsafe_b64decode(unpadded + "=" * (-len(unpadded) % 4))
    except binascii.Error:
        raise ConfigurationError(
            "the HMAC key of MDExternalAccountBinding is not base64url: a character is missing",
            hint=hint,
        ) from None
    if len(decoded) < MIN_HMAC_BYTES:
        raise ConfigurationError(
            f"the HMAC key of MDExternalAccountBinding is only {len(decoded)} bytes long, "
            f"fewer than {MIN_HMAC_BYTES}",
            hint=hint,
        )
    return decoded


def public_jwk(key: PrivateKey | PublicKey) -> dict[str, str]:
    """Return the public key as a JWK, its members in the order of RFC 7638."""
    if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        return public_jwk(key.public_key())
    if isinstance(key, rsa.RSAPublicKey):
        members = JWKRSA(key=key).to_json()
        return {name: str(members[name]) for name in ("e", "kty", "n")}
    members = JWKEC(key=key).to_json()
    return {name: str(members[name]) for name in ("crv", "kty", "x", "y")}


def thumbprint(key: PrivateKey | PublicKey) -> str:
    """Return the account key's thumbprint (RFC 7638) as base64url."""
    return _base64url(hashlib.sha256(_json(public_jwk(key))).digest())


def is_token(text: str) -> bool:
    """Say whether a challenge's token is as RFC 8555 §8 allows, and so may be a file's name."""
    return _TOKEN.fullmatch(text) is not None


def key_authorization(token: str, key: PrivateKey) -> str:
    """Return what proves control of a name (RFC 8555 §8.1). Raises ChallengeError."""
    if not is_token(token):
        raise ChallengeError(
            "the CA's challenge carries a token that RFC 8555 does not allow",
            hint="nothing was written; report it to the CA",
        )
    return f"{token}.{thumbprint(key)}"


def dns01_value(authorization: str) -> str:
    """Return the TXT record's text for a key authorization (RFC 8555 §8.4)."""
    return _base64url(hashlib.sha256(authorization.encode("ascii")).digest())


def der_text(der: bytes) -> str:
    """Return a CSR or a certificate as RFC 8555 wants it: base64url of its DER (§7.4, §7.6)."""
    return _base64url(der)


def _algorithm(key: PrivateKey) -> JWASignature:
    if isinstance(key, rsa.RSAPrivateKey):
        return RS256
    found = _ALGORITHMS.get(key.curve.name)
    if found is None:
        raise CertificateError(f"a key on the curve {key.curve.name} cannot sign for an ACME CA")
    return found


_ALGORITHMS: dict[str, JWASignature] = {
    ec.SECP256R1.name: ES256,
    ec.SECP384R1.name: ES384,
    ec.SECP521R1.name: ES512,
}


def _signing_input(protected: Mapping[str, object], payload: bytes) -> bytes:
    return b64encode(_json(protected)) + b"." + b64encode(payload)


def _flattened(signed: bytes, signature: bytes) -> dict[str, str]:
    protected, _, payload = signed.decode("ascii").partition(".")
    return {"protected": protected, "payload": payload, "signature": _base64url(signature)}


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _base64url(value: bytes) -> str:
    return b64encode(value).decode("ascii")


def _kind_of_wrong_character(text: str) -> str:
    if any(character.isspace() for character in text):
        return "a blank or a line break"
    if "+" in text or "/" in text:
        return "'+' or '/' of plain base64 (base64url has '-' and '_' there)"
    if "=" in text:
        return "'=' before its end"
    return "a character that base64url does not have"
