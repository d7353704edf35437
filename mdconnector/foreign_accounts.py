"""The account keys of other ACME clients, read from their own files.

    certbot   accounts/<server>/directory/<id>/private_key.json (JWK), regr.json
    lego      accounts/<server>/<email>/keys/<email>.key (PEM), account.json
    acme.sh   ca/<server>/<directory>/account.key (PEM), ca.conf
    mod_md    accounts/ACME-<host>-<number>/account.pem (PEM, encrypted by ../../md_store.json),
              account.json

Rules: only the key counts, whose account it is the CA tells. Nothing is written, no link below the
folder that was named is followed, sizes are bounded, and no part of a key stands in a message.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mdconnector.errors import CertificateError, StoreError, UsageError
from mdconnector.keys import PrivateKey
from mdconnector.printable import printable
from mdconnector.store.folder import store_error
from mdconnector.store.records import MAX_RECORD_BYTES, RecordError, parse_account, parse_store

MAX_KEY_FILE_BYTES = 32 * 1024
MAX_RSA_BITS = 16_384
"""OpenSSL verifies no longer ones"""
MAX_DEPTH = 6
MAX_ENTRIES = 10_000
_SHOWN = 10
_WHAT_TO_NAME = "name the folder of the account, or the file with its key"
_KEY_FILES = re.compile(r"private_key\.json|account\.key|account\.pem")
_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "P-256": ec.SECP256R1,
    "P-384": ec.SECP384R1,
    "P-521": ec.SECP521R1,
}


class ForeignAccount(NamedTuple):
    """An account key that another client holds, and what its files say besides."""

    path: Path
    """of the key"""
    key: PrivateKey
    is_open: bool
    """others than its owner may read it, in clear"""
    ca_url: str | None = None
    """the CA's directory; only mod_md's files name it"""
    kid: str | None = None
    """of the external account binding; only mod_md's files name it"""


def read_foreign_account(path: Path) -> ForeignAccount:
    """Read the account key in a file, or the only one in a folder and below it.

    Raises UsageError where there is none, or more than one, and StoreError or CertificateError for
    a file that cannot be used.
    """
    file = _key_file(path)
    content, status = _read(file, MAX_KEY_FILE_BYTES)
    ca_url, kid = _words_of_mod_md(file)
    return ForeignAccount(
        file,
        _key(file, content),
        is_open=not _is_encrypted(content) and bool(stat.S_IMODE(status.st_mode) & 0o077),
        ca_url=ca_url,
        kid=kid,
    )


def _key_file(path: Path) -> Path:
    if not os.path.isdir(path):
        return path
    found = list(_key_files(path, MAX_DEPTH, [0]))
    if not found:
        raise UsageError(
            f"{printable(str(path), 500)} holds no account key of mod_md, certbot, lego or acme.sh",
            hint=_WHAT_TO_NAME,
        )
    if len(found) > 1:
        shown = ", ".join(printable(str(one), 300) for one in found[:_SHOWN])
        raise UsageError(
            f"{printable(str(path), 500)} holds {len(found)} account keys",
            hint=f"name one: {shown}",
        )
    return found[0]


def _key_files(folder: Path, depth: int, seen: list[int]) -> Iterator[Path]:
    """Yield the files that other clients keep account keys in; `seen` counts entries."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise store_error(error, str(folder), "cannot be listed") from error
    for entry in entries:
        seen[0] += 1
        if seen[0] > MAX_ENTRIES:
            raise UsageError(
                f"{printable(str(folder), 500)} holds too many files to look through",
                hint=_WHAT_TO_NAME,
            )
        if entry.is_dir(follow_symlinks=False):
            if depth:
                yield from _key_files(Path(entry.path), depth - 1, seen)
        elif entry.is_file(follow_symlinks=False) and (
            _KEY_FILES.fullmatch(entry.name)
            or (entry.name.endswith(".key") and folder.name == "keys")
        ):
            yield Path(entry.path)


def _read(path: Path, max_bytes: int) -> tuple[bytes, os.stat_result]:
    """Read a regular file without ever waiting for it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        what = f"there is no {printable(str(path), 500)}"
        raise UsageError(what, hint=_WHAT_TO_NAME) from error
    except OSError as error:
        raise store_error(error, str(path), "cannot be read") from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise StoreError("it is not a regular file", path=str(path))
        content = b""
        while len(content) <= max_bytes and (chunk := os.read(fd, max_bytes + 1 - len(content))):
            content += chunk
    except OSError as error:
        raise store_error(error, str(path), "cannot be read") from error
    finally:
        os.close(fd)
    if len(content) > max_bytes:
        raise StoreError(f"it has more than {max_bytes} bytes, so it is no key", path=str(path))
    return content, status


def _key(path: Path, content: bytes) -> PrivateKey:
    """Read and validate a key, JWK or PEM."""
    try:
        is_jwk = content.lstrip().startswith(b"{")
        key = _key_of_jwk(content) if is_jwk else _key_of_pem(path, content)
    except (ValueError, TypeError, UnsupportedAlgorithm, RecursionError):
        # without its cause, which might quote the key
        raise CertificateError(
            f"{printable(str(path), 500)} holds no private key that can be read",
            hint="name the account's key file: a JWK or PEM of certbot, lego, acme.sh or mod_md",
        ) from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise CertificateError(
            f"the key in {printable(str(path), 500)} is neither RSA nor of an elliptic curve"
        )
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size > MAX_RSA_BITS:
        raise CertificateError(
            f"the key in {printable(str(path), 500)} has more than {MAX_RSA_BITS} bits"
        )
    return key


def _key_of_pem(path: Path, content: bytes) -> object:
    passphrase = None
    if _is_encrypted(content):
        passphrase = _passphrase_of_mod_md(path)
        if passphrase is None:
            raise CertificateError(
                f"the key in {printable(str(path), 500)} is encrypted, and there is no "
                "md_store.json of mod_md's two folders above it",
                hint="decrypt it with 'openssl pkey', or name it where it lies in mod_md's store",
            )
    return serialization.load_pem_private_key(content, passphrase)


def _is_encrypted(content: bytes) -> bool:
    return b"ENCRYPTED" in content


def _passphrase_of_mod_md(path: Path) -> bytes | None:
    store_file = path.absolute().parent.parent.parent / "md_store.json"
    if not os.path.exists(store_file):
        return None
    try:
        return parse_store(_read(store_file, MAX_RECORD_BYTES)[0])
    except RecordError as error:
        raise StoreError(f"it cannot be used: {error}", path=str(store_file)) from None


def _words_of_mod_md(path: Path) -> tuple[str | None, str | None]:
    """Return the directory URL and the binding's key ID that stand beside a key of mod_md's."""
    if path.name != "account.pem":
        return None, None
    try:
        account = parse_account(_read(path.with_name("account.json"), MAX_RECORD_BYTES)[0])
    except (StoreError, RecordError):
        return None, None
    return account.ca_url, account.eab_kid


def _key_of_jwk(content: bytes) -> object:
    members = json.loads(content)
    if not isinstance(members, dict):
        raise TypeError("not an object")
    if members.get("kty") == "EC":
        curve = _CURVES.get(str(members.get("crv")))
        if curve is None:
            raise ValueError("unknown curve")
        public = ec.EllipticCurvePublicNumbers(
            _number(members, "x"), _number(members, "y"), curve()
        )
        return ec.EllipticCurvePrivateNumbers(_number(members, "d"), public).private_key()
    if members.get("kty") != "RSA":
        raise ValueError("unknown kind")
    modulus = _number(members, "n")
    return rsa.RSAPrivateNumbers(
        p=_number(members, "p"),
        q=_number(members, "q"),
        d=_number(members, "d"),
        dmp1=_number(members, "dp"),
        dmq1=_number(members, "dq"),
        iqmp=_number(members, "qi"),
        public_numbers=rsa.RSAPublicNumbers(_number(members, "e"), modulus),
    ).private_key()


def _number(members: dict[str, object], name: str) -> int:
    text = members.get(name)
    if not isinstance(text, str) or len(text) * 6 > MAX_RSA_BITS + 64:
        raise ValueError("not a number")
    try:
        return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except binascii.Error:
        raise ValueError("not base64url") from None
