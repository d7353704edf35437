"""Signed requests, against the vectors of the RFCs and against an independent verification."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from mdconnector.acme.jws import (
    decode_hmac,
    der_text,
    dns01_value,
    external_account_binding,
    is_token,
    key_authorization,
    key_change,
    public_jwk,
    sign_request,
    thumbprint,
)
from mdconnector.errors import CertificateError, ChallengeError, ConfigurationError

# RFC 7515, appendix A.2: the RSA key of the example.
RFC7515_N = (
    "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4Ql"
    "L-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUs"
    "LA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoud"
    "F8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"
)
RFC7515_D = (
    "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe"
    "46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9J"
    "YanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuh"
    "LhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ"
)
RFC7515_P = (
    "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJ"
    "NPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc"
)
RFC7515_Q = (
    "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_Yw"
    "D66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc"
)

# RFC 7638 §3.1: the public key of the example.
RFC7638_N = (
    "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWK"
    "RXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMic"
    "AtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3"
    "XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
)


def number(text: str) -> int:
    return int.from_bytes(decoded(text))


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.fixture(scope="module")
def rfc7515_key() -> rsa.RSAPrivateKey:
    p, q, d = number(RFC7515_P), number(RFC7515_Q), number(RFC7515_D)
    return rsa.RSAPrivateNumbers(
        p=p,
        q=q,
        d=d,
        dmp1=rsa.rsa_crt_dmp1(d, p),
        dmq1=rsa.rsa_crt_dmq1(d, q),
        iqmp=rsa.rsa_crt_iqmp(p, q),
        public_numbers=rsa.RSAPublicNumbers(n=number(RFC7515_N), e=65537),
    ).private_key()


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def verify(body: bytes, key: rsa.RSAPrivateKey) -> tuple[dict[str, object], bytes]:
    """Check a flattened JWS with cryptography alone; return its header and payload."""
    message = json.loads(body)
    signed = f"{message['protected']}.{message['payload']}".encode()
    key.public_key().verify(
        decoded(message["signature"]), signed, padding.PKCS1v15(), hashes.SHA256()
    )
    return json.loads(decoded(message["protected"])), decoded(message["payload"])


def test_public_jwk_is_that_of_rfc_7515(rfc7515_key: rsa.RSAPrivateKey) -> None:
    assert public_jwk(rfc7515_key) == {"e": "AQAB", "kty": "RSA", "n": RFC7515_N}


def test_thumbprint_is_that_of_rfc_7638() -> None:
    key = rsa.RSAPublicNumbers(n=number(RFC7638_N), e=65537).public_key()
    assert thumbprint(key) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_thumbprint_of_a_private_key_is_that_of_its_public_half(key: rsa.RSAPrivateKey) -> None:
    assert thumbprint(key) == thumbprint(key.public_key())


def test_request_with_kid_carries_the_url_and_the_nonce(key: rsa.RSAPrivateKey) -> None:
    body = sign_request(
        {"a": 1}, key=key, url="https://ca.example/x", nonce="n0nce", kid="https://ca.example/a/1"
    )
    header, payload = verify(body, key)
    assert header == {
        "alg": "RS256",
        "nonce": "n0nce",
        "url": "https://ca.example/x",
        "kid": "https://ca.example/a/1",
    }
    assert json.loads(payload) == {"a": 1}


def test_request_without_kid_carries_the_public_key_alone(key: rsa.RSAPrivateKey) -> None:
    header, _ = verify(sign_request({}, key=key, url="https://ca.example/x", nonce="n"), key)
    assert header["jwk"] == public_jwk(key)
    assert "kid" not in header


def test_post_as_get_has_an_empty_payload_and_an_answer_an_empty_object(
    key: rsa.RSAPrivateKey,
) -> None:
    reading = sign_request(None, key=key, url="https://ca.example/x", nonce="n", kid="k")
    answering = sign_request({}, key=key, url="https://ca.example/x", nonce="n", kid="k")
    assert verify(reading, key)[1] == b""
    assert verify(answering, key)[1] == b"{}"


def test_binding_signs_the_account_key_with_hs256(key: rsa.RSAPrivateKey) -> None:
    secret = bytes(range(32))
    text = base64.urlsafe_b64encode(secret).decode()
    binding = external_account_binding(key, kid="kid-1", hmac=text, url="https://ca.example/new")
    assert json.loads(decoded(binding["protected"])) == {
        "alg": "HS256",
        "kid": "kid-1",
        "url": "https://ca.example/new",
    }
    assert json.loads(decoded(binding["payload"])) == public_jwk(key)
    mac = hmac.HMAC(secret, hashes.SHA256())
    mac.update(f"{binding['protected']}.{binding['payload']}".encode())
    mac.verify(decoded(binding["signature"]))


def test_padding_of_the_hmac_key_does_not_change_its_bytes() -> None:
    text = base64.urlsafe_b64encode(bytes(range(32))).decode()
    assert text.endswith("=")
    assert decode_hmac(text) == decode_hmac(text.rstrip("=")) == bytes(range(32))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("AAECAwQFBgcICQoLDA0O+A", "'+' or '/'", id="plus"),
        pytest.param("AAECAwQFBgcICQoLDA0O/A", "'+' or '/'", id="slash"),
        pytest.param("AAECAwQFBgcI CQoLDA0OdA", "blank", id="blank"),
        pytest.param("AAECAwQFBgcICQoLDA0OdA\n", "blank", id="newline"),
        pytest.param("AAECAw=QFBgcICQoLDA0OdA", "'='", id="padding-inside"),
        pytest.param("AAECAwQFBgcICQoLDA0Oé", "a character", id="not-ascii"),
        pytest.param("AAECAwQFBgcICQoLDA0Od", "a character is missing", id="length"),
        pytest.param("AAECAwQFBgcICQoLDA0O", "only 15 bytes", id="short"),
        pytest.param("", "only 0 bytes", id="empty"),
    ],
)
def test_bad_hmac_key_is_refused_without_its_value(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        decode_hmac(text)
    shown = f"{caught.value} {caught.value.hint}"
    assert words in shown
    assert "AAECAw" not in shown


@given(st.binary(min_size=16, max_size=128))
def test_every_long_enough_hmac_key_is_decoded(secret: bytes) -> None:
    assert decode_hmac(base64.urlsafe_b64encode(secret).decode().rstrip("=")) == secret


def test_key_authorization_joins_token_and_thumbprint(key: rsa.RSAPrivateKey) -> None:
    # RFC 8555 §8.3's example token.
    token = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"
    assert key_authorization(token, key) == f"{token}.{thumbprint(key)}"


def test_dns01_value_is_the_digest_of_the_key_authorization() -> None:
    # printf a.b | openssl dgst -sha256 -binary | base64, in the alphabet of base64url
    assert dns01_value("a.b") == "LnM23I66h-9HLfVow1SCq_JXXcPl6sDFxiuP-urCyTQ"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "short",
        "../../../../../../../etc/passwd",
        "a" * 257,
        "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDf\n",
        "LoqXcYV8q5ONbJQxbmR7S/TNo3tiAXDf",
        "LoqXcYV8q5ONbJQxbmR7S.TNo3tiAXDf",
        "$(touch x)aaaaaaaaaaaaaaaaaaaaaa",
        "٣" * 30,
    ],
)
def test_hostile_token_is_refused(token: str, key: rsa.RSAPrivateKey) -> None:
    assert not is_token(token)
    with pytest.raises(ChallengeError):
        key_authorization(token, key)


# --- elliptic curve keys: certificates' own, and other clients' accounts ------------------------

CURVES = {"P-256": ("ES256", 32, hashes.SHA256()), "P-384": ("ES384", 48, hashes.SHA384())}
CURVES["P-521"] = ("ES512", 66, hashes.SHA512())


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=CURVES)
def test_an_elliptic_curve_key_signs_by_the_algorithm_of_its_curve(curve: ec.EllipticCurve) -> None:
    own = ec.generate_private_key(curve)
    body = json.loads(sign_request({"a": 1}, key=own, url="https://ca.example/x", nonce="n"))
    protected = json.loads(decoded(body["protected"]))
    name = protected["jwk"]["crv"]
    algorithm, size, digest = CURVES[name]
    assert protected["alg"] == algorithm
    raw = decoded(body["signature"])
    assert len(raw) == 2 * size
    signature = encode_dss_signature(int.from_bytes(raw[:size]), int.from_bytes(raw[size:]))
    signed = f"{body['protected']}.{body['payload']}".encode()
    own.public_key().verify(signature, signed, ec.ECDSA(digest))
    numbers = own.public_key().public_numbers()
    assert (number(protected["jwk"]["x"]), number(protected["jwk"]["y"])) == (numbers.x, numbers.y)
    assert "d" not in protected["jwk"]


def test_a_key_on_a_curve_that_jose_does_not_know_is_refused() -> None:
    odd = ec.generate_private_key(ec.SECP256K1())
    with pytest.raises(CertificateError, match="secp256k1 cannot sign"):
        sign_request(None, key=odd, url="https://ca.example/x", nonce="n")


def test_a_key_change_is_signed_by_the_new_key_and_names_the_old_one() -> None:
    old, new = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    url, account = "https://ca.example/key-change", "https://ca.example/acct/1"
    inner = key_change(new, old_key=old, account_url=account, url=url)
    protected = json.loads(decoded(inner["protected"]))
    assert protected == {"alg": "ES256", "jwk": public_jwk(new), "url": url}, "and no nonce"
    assert json.loads(decoded(inner["payload"])) == {"account": account, "oldKey": public_jwk(old)}


def test_der_is_written_without_padding() -> None:
    assert der_text(b"\xfb\xff") == "-_8"


NOT_BASE64URL = "the HMAC key of MDExternalAccountBinding is not base64url: "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a b" * 10, f"{NOT_BASE64URL}it holds a blank or a line break"),
        (
            "a+b" * 10,
            f"{NOT_BASE64URL}it holds '+' or '/' of plain base64 (base64url has '-' and '_' there)",
        ),
        (
            "a/b" * 10,
            f"{NOT_BASE64URL}it holds '+' or '/' of plain base64 (base64url has '-' and '_' there)",
        ),
        ("a=b" * 10, f"{NOT_BASE64URL}it holds '=' before its end"),
        ("a!b" * 10, f"{NOT_BASE64URL}it holds a character that base64url does not have"),
        ("a" * 25, f"{NOT_BASE64URL}a character is missing"),
        (
            "a" * 20,
            "the HMAC key of MDExternalAccountBinding is only 15 bytes long, fewer than 16",
        ),
    ],
)
def test_hmac_that_cannot_be_meant_says_why_and_what_to_do(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        decode_hmac(text)
    assert str(caught.value) == message
    assert caught.value.hint == (
        "copy it again from the CA's portal into MDExternalAccountBinding, as it stands there, "
        "without blanks or line breaks"
    )


@pytest.mark.parametrize("length", [16, 17, 18, 19, 22, 32])
def test_hmac_of_any_length_is_decoded_with_and_without_padding(length: int) -> None:
    raw = bytes(range(200, 200 + length))
    padded = base64.urlsafe_b64encode(raw).decode()
    assert decode_hmac(padded) == decode_hmac(padded.rstrip("=")) == raw


def test_hmac_that_ends_in_a_letter_keeps_it() -> None:
    assert decode_hmac("AAECAwQFBgcICQoLDA0ODxAX") == bytes([*range(16), 16, 23])


def test_a_hostile_token_and_a_strange_curve_are_told_in_full(key: rsa.RSAPrivateKey) -> None:
    with pytest.raises(ChallengeError) as hostile:
        key_authorization("../x", key)
    assert str(hostile.value) == "the CA's challenge carries a token that RFC 8555 does not allow"
    assert hostile.value.hint == "nothing was written; report it to the CA"
    with pytest.raises(CertificateError) as strange:
        sign_request(None, key=ec.generate_private_key(ec.SECP256K1()), url="u", nonce="n")
    assert str(strange.value) == "a key on the curve secp256k1 cannot sign for an ACME CA"
