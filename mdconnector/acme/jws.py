"""What the account key signs and proves: requests, External Account Binding, challenges.

Rules: pure. RS256 signs with the account key, HS256 with the binding's key; no value of either ever
stands in a message.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric import rsa
from josepy.b64 import b64encode
from josepy.jwa import HS256, RS256
from josepy.jwk import JWKRSA

from mdconnector.errors import ChallengeError, ConfigurationError

MIN_HMAC_BYTES = 16

# RFC 8555 §8.3: at least 128 bits of entropy, so 22 characters; the upper limit is ours, because a
# token becomes a file's name.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{22,256}")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")


def sign_request(
    payload: Mapping[str, object] | None,
    *,
    key: rsa.RSAPrivateKey,
    url: str,
    nonce: str,
    kid: str | None = None,
) -> bytes:
    """Return the body of one ACME request: a flattened JWS (RFC 8555 §6.2).

    Without `payload` it is a POST-as-GET (§6.3); without `kid`, the account's URL, the public key
    itself goes along.
    """
    protected: dict[str, object] = {"alg": RS256.name, "nonce": nonce, "url": url}
    if kid is None:
        protected["jwk"] = public_jwk(key)
    else:
        protected["kid"] = kid
    content = b"" if payload is None else _json(payload)
    signed = _signing_input(protected, content)
    return _json(_flattened(signed, RS256.sign(key, signed)))


def external_account_binding(
    account_key: rsa.RSAPrivateKey, *, kid: str, hmac: str, url: str
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


def public_jwk(key: rsa.RSAPrivateKey) -> dict[str, str]:
    """Return the account's public key as a JWK, its members in the order of RFC 7638."""
    members = JWKRSA(key=key.public_key()).to_json()
    return {name: str(members[name]) for name in ("e", "kty", "n")}


def thumbprint(key: rsa.RSAPrivateKey | rsa.RSAPublicKey) -> str:
    """Return the account key's thumbprint (RFC 7638) as base64url."""
    return _base64url(JWKRSA(key=key).thumbprint())


def is_token(text: str) -> bool:
    """Say whether a challenge's token is as RFC 8555 §8 allows, and so may be a file's name."""
    return _TOKEN.fullmatch(text) is not None


def key_authorization(token: str, key: rsa.RSAPrivateKey) -> str:
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


def csr_text(csr_der: bytes) -> str:
    """Return a CSR as finalize wants it: base64url of its DER (RFC 8555 §7.4)."""
    return _base64url(csr_der)


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
