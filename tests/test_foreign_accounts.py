"""Account keys of other clients: each format, and nothing but a clear error for what is none."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdconnector.errors import MdConnectorError, StoreError, UsageError
from mdconnector.foreign_accounts import MAX_DEPTH, read_foreign_account
from mdconnector.keys import PrivateKey, key_to_pem, public_bytes
from mdconnector.store.records import StoredAccount, render_account, render_store
from tests.e2e.leaks import Secrets

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP384R1())


def text(number: int) -> str:
    raw = number.to_bytes((number.bit_length() + 7) // 8)
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def jwk_of(key: PrivateKey) -> dict[str, str]:
    """Return a private key as certbot writes it."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        numbers = key.private_numbers()
        public = numbers.public_numbers
        x, y, d = text(public.x), text(public.y), text(numbers.private_value)
        return {"kty": "EC", "crv": "P-384", "x": x, "y": y, "d": d}
    secret = key.private_numbers()
    members = {"n": secret.public_numbers.n, "e": secret.public_numbers.e, "d": secret.d}
    members |= {"p": secret.p, "q": secret.q}
    members |= {"dp": secret.dmp1, "dq": secret.dmq1, "qi": secret.iqmp}
    return {"kty": "RSA"} | {name: text(value) for name, value in members.items()}


@pytest.mark.parametrize("key", [RSA, EC], ids=["RSA", "EC"])
@pytest.mark.parametrize(
    "form",
    [None, PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL],
    ids=["JWK", "PKCS8", "traditional"],
)
def test_a_key_is_read_in_each_form(
    tmp_path: Path, key: PrivateKey, form: PrivateFormat | None
) -> None:
    file = tmp_path / "key"
    if form is None:
        file.write_text(json.dumps(jwk_of(key)))
    else:
        file.write_bytes(key.private_bytes(Encoding.PEM, form, NoEncryption()))
    assert public_bytes(read_foreign_account(file).key) == public_bytes(key)


@pytest.mark.parametrize(
    "place",
    [
        "accounts/acme.example/directory/0af3/private_key.json",
        "accounts/acme.example/a@example.org/keys/a@example.org.key",
        "ca/acme.example/directory/account.key",
    ],
)
def test_the_only_key_below_a_folder_is_found(tmp_path: Path, place: str) -> None:
    file = tmp_path / place
    file.parent.mkdir(parents=True)
    is_jwk = file.suffix == ".json"
    file.write_bytes(json.dumps(jwk_of(RSA)).encode() if is_jwk else key_to_pem(RSA))
    (file.parent / "regr.json").write_text("{}")
    (tmp_path / "certificates").mkdir()
    (tmp_path / "certificates" / "shop.example.key").write_bytes(key_to_pem(EC))
    found = read_foreign_account(tmp_path)
    assert (found.path, public_bytes(found.key)) == (file, public_bytes(RSA))


def test_a_key_of_mod_mds_is_decrypted_by_its_store_and_brings_its_ca(tmp_path: Path) -> None:
    passphrase = b"p" * 48
    folder = tmp_path / "accounts" / "ACME-ca.example-0000"
    folder.mkdir(parents=True)
    (tmp_path / "md_store.json").write_bytes(render_store(passphrase))
    (folder / "account.pem").write_bytes(key_to_pem(RSA, passphrase))
    account = StoredAccount(
        "", "https://ca.example/1", "https://ca.example/dir", eab_kid="k", eab_hmac="h"
    )
    (folder / "account.json").write_bytes(render_account(account))
    found = read_foreign_account(folder)
    assert (found.ca_url, found.kid) == (account.ca_url, "k")
    assert public_bytes(found.key) == public_bytes(RSA)
    (tmp_path / "md_store.json").write_bytes(render_store(b"q" * 48))
    with pytest.raises(MdConnectorError, match="no private key that can be read"):
        read_foreign_account(folder)


@pytest.mark.parametrize(("mode", "is_open"), [(0o600, False), (0o400, False), (0o640, True)])
def test_a_key_that_others_may_read_is_noted(tmp_path: Path, mode: int, is_open: bool) -> None:
    file = tmp_path / "account.key"
    file.write_bytes(key_to_pem(RSA))
    file.chmod(mode)
    assert read_foreign_account(file).is_open is is_open


def test_what_lies_too_deep_is_not_looked_for(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*"x" * (MAX_DEPTH + 1))
    deep.mkdir(parents=True)
    (deep / "account.key").write_bytes(key_to_pem(RSA))
    with pytest.raises(UsageError, match="holds no account key"):
        read_foreign_account(tmp_path)
    assert read_foreign_account(tmp_path / "x").path == deep / "account.key"


@pytest.mark.parametrize("name", ["n", "e", "d", "p", "q", "dp", "dq", "qi"])
def test_a_key_with_one_wrong_number_is_refused_without_any_part_of_it(
    tmp_path: Path, name: str
) -> None:
    members = jwk_of(RSA)
    members[name] = text(int.from_bytes(base64.urlsafe_b64decode(members[name] + "==")) ^ 6)
    file = tmp_path / "private_key.json"
    file.write_text(json.dumps(members))
    with pytest.raises(MdConnectorError) as caught:
        read_foreign_account(file)
    error = caught.value
    assert error.__cause__ is None
    assert Secrets().add_key("key", RSA).found_in(f"{error} {error.hint}") == []


_JWK_PARTS = st.dictionaries(
    st.sampled_from(["kty", "crv", "n", "e", "d", "p", "q", "dp", "dq", "qi", "x", "y"]),
    st.one_of(
        st.sampled_from(["RSA", "EC", "P-256", "P-521", "AQAB", "", "=", "é", "A" * 4000]),
        st.none(),
        st.integers(),
        st.lists(st.none()),
    ),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.binary(max_size=200),
        _JWK_PARTS.map(lambda members: json.dumps(members).encode()),
        st.binary(max_size=60).map(
            lambda raw: (
                b"-----BEGIN PRIVATE KEY-----\n"
                + base64.b64encode(raw)
                + b"\n-----END PRIVATE KEY-----\n"
            )
        ),
    )
)
def test_whatever_the_file_holds_it_is_a_key_or_an_error_of_ours(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "account.pem"
    file.write_bytes(content)
    with pytest.raises(MdConnectorError):
        read_foreign_account(file)


def test_a_path_that_names_nothing_is_told_with_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no") as caught:
        read_foreign_account(tmp_path / "nothing")
    assert caught.value.hint


def test_a_file_that_may_not_be_read_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be read"):
        read_foreign_account(tmp_path / "file" / "below")
