"""Judges the certificate and key files that httpd opens when it takes up its configuration.

httpd ends on a pair that it cannot use, and `apache2 -t` never opens one; so each is read first.
Rules: nothing but `read` touches the disk; RSA keys are loaded without validation, because only the
public halves are compared; what cannot be judged (encrypted or hardware keys) is told, not guessed.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mdconnector.certificates import UNREADABLE
from mdconnector.managed_domain import CertificatePair, ManagedDomain, VirtualHost

Read = Callable[[str], bytes]
"""returns a file's content, or raises OSError"""

_CERTIFICATE_LABELS = frozenset({"CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"})
_KEY_LABELS = frozenset(
    {"PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "DSA PRIVATE KEY"}
)
_BEGIN = re.compile(rb"(?:^|\A\xef\xbb\xbf)-----BEGIN ([A-Z0-9 ]+)-----[ \t\r]*$", re.MULTILINE)
_ENGINE_ID = re.compile(r"[A-Za-z0-9]+:[^/].*")
_SMALL_GARBAGE_BYTES = 1024
_MIN_RSA_BITS = 2048
_KEPT_FILES = 64


class Pair(NamedTuple):
    """A certificate file, the key file that httpd uses with it, and the line that names them.

    Without a key file only mod_md reads the chain, because no SSL vhost uses it.
    """

    certificate_file: str
    key_file: str | None
    at: str
    """`file:line`"""


class PairFault(NamedTuple):
    """What is wrong with a pair, or why it cannot be judged; `path` is the file to blame."""

    pair: Pair
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message} (used at {self.pair.at})"


class PairsReport(NamedTuple):
    """The pairs that would end httpd at its next reload, and those that could not be judged."""

    faults: tuple[PairFault, ...]
    unchecked: tuple[PairFault, ...]


class _NotUsableError(Exception):
    """httpd cannot use the file."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path
        self.message = message


class _NotJudgedError(_NotUsableError):
    """httpd may be able to use the file, in a way that cannot be tried here."""


def pairs_in_force(
    vhosts: Iterable[VirtualHost],
    domains: tuple[ManagedDomain, ...],
    *,
    live_folder: Callable[[str], str],
    read: Read,
    overlay: Mapping[str, bytes] | None = None,
) -> Iterator[Pair]:
    """Yield every pair that httpd will open, each once, as mod_ssl and mod_md put them together.

    mod_md adds its files behind those that a vhost names or inherits, and the n-th certificate is
    used with the n-th key: so an SSLCertificateFile without a key file shifts all keys of a managed
    vhost.
    `domains` is empty where mod_md is not loaded; `live_folder` maps a domain's name to its folder.
    What Apache does not read yet counts once the `overlay` has the files that it waits for; a
    domain that Apache does not read is none of mod_md's.
    One by one: whoever judges a pair at once finds its files just read.
    """
    seen: set[Pair] = set()
    for pair in _pairs_in_force(vhosts, domains, live_folder, read, overlay):
        if pair not in seen:
            seen.add(pair)
            yield pair


def _pairs_in_force(
    vhosts: Iterable[VirtualHost],
    domains: tuple[ManagedDomain, ...],
    live_folder: Callable[[str], str],
    read: Read,
    overlay: Mapping[str, bytes] | None,
) -> Iterator[Pair]:
    reader = _with_overlay(read, overlay)
    domains = tuple(domain for domain in domains if not domain.assumed)
    managed = {vhost.declared_at: domain for domain in domains for vhost in domain.vhosts}
    for vhost in vhosts:
        if vhost.ssl:
            domain = managed.get(vhost.declared_at)
            named = tuple(
                pair
                for pair in vhost.certificate_pairs
                if not pair.assumed or pair.certificate_file in (overlay or ())
            )
            folder = live_folder(domain.name) if domain else ""
            yield from _pairs_of_vhost(named, domain, folder=folder, read=reader)
    for domain in domains:
        if not domain.used_by_ssl and not domain.static_pairs:
            at = str(domain.declared_at)
            folder = live_folder(domain.name)
            for spec in domain.key_specs:
                yield Pair(f"{folder}/{spec.pubcert_name}", None, at)


def check_pairs(
    pairs: Iterable[Pair], *, read: Read, overlay: Mapping[str, bytes] | None = None
) -> PairsReport:
    """Judge every pair as httpd will meet it.

    `overlay` maps paths to what will lie there when a staged set has taken its place.
    """
    reader = _with_overlay(read, overlay)
    faults: list[PairFault] = []
    unchecked: list[PairFault] = []
    for pair in dict.fromkeys(pairs):
        try:
            _check(pair, reader)
        except _NotJudgedError as unjudged:
            unchecked.append(PairFault(pair, unjudged.path, unjudged.message))
        except _NotUsableError as broken:
            faults.append(PairFault(pair, broken.path, broken.message))
    return PairsReport(tuple(faults), tuple(unchecked))


def check_httpd_pairs(
    vhosts: Iterable[VirtualHost],
    domains: Iterable[ManagedDomain],
    *,
    live_folder: Callable[[str], str],
    read: Read,
    overlay: Mapping[str, bytes] | None = None,
) -> PairsReport:
    """Judge everything that httpd will open; `pairs_in_force` and `check_pairs` in one."""
    cached = lru_cache(maxsize=_KEPT_FILES)(read)
    pairs = pairs_in_force(
        vhosts, tuple(domains), live_folder=live_folder, read=cached, overlay=overlay
    )
    return check_pairs(pairs, read=cached, overlay=overlay)


def _with_overlay(read: Read, overlay: Mapping[str, bytes] | None) -> Read:
    if not overlay:
        return read
    return lambda path: overlay[path] if path in overlay else read(path)


def _is_there(path: str, read: Read) -> bool:
    try:
        read(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _pairs_of_vhost(
    named: tuple[CertificatePair, ...],
    domain: ManagedDomain | None,
    *,
    folder: str,
    read: Read,
) -> Iterator[Pair]:
    certificates = [(pair.certificate_file, str(pair.declared_at)) for pair in named]
    keys = [pair.key_file for pair in named if pair.key_is_named]
    if domain is not None:
        at = str(domain.declared_at)
        for certificate, key in _files_of_domain(domain, folder, read, alone=not named):
            certificates.append((certificate, at))
            keys.append(key)
    for number, (certificate, at) in enumerate(certificates):
        yield Pair(certificate, keys[number] if number < len(keys) else certificate, at)


def _files_of_domain(
    domain: ManagedDomain, folder: str, read: Read, *, alone: bool
) -> tuple[tuple[str, str], ...]:
    """Return the pairs that mod_md has for a vhost: static, live, or else its fallback."""
    if domain.static_pairs:
        return domain.static_pairs
    for prefix in ("", "fallback-") if alone else ("",):
        files = tuple(
            (f"{folder}/{prefix}{spec.pubcert_name}", f"{folder}/{prefix}{spec.privkey_name}")
            for spec in domain.key_specs
        )
        present = tuple(pair for pair in files if all(_is_there(path, read) for path in pair))
        if present:
            return present
    return ()


def _check(pair: Pair, read: Read) -> None:
    if _ENGINE_ID.fullmatch(pair.key_file or "") or _ENGINE_ID.fullmatch(pair.certificate_file):
        raise _NotJudgedError(pair.certificate_file, "a key outside of files cannot be checked")
    if pair.key_file is None:
        _check_unused_chain(pair.certificate_file, read)
        return
    certificate = _content(pair.certificate_file, read)
    key = certificate
    if pair.key_file != pair.certificate_file:
        key = _content(pair.key_file, read)
    expected = _leaf_public_key(pair.certificate_file, certificate)
    if _key_public_key(pair.key_file, key) != expected:
        raise _NotUsableError(
            pair.key_file,
            f"this key does not belong to the first certificate of {pair.certificate_file}",
        )


def _check_unused_chain(path: str, read: Read) -> None:
    """Judge a chain that no SSL vhost uses: mod_md bears with a missing or tiny one."""
    try:
        content = read(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _NotJudgedError(path, f"it cannot be read: {error.strerror}") from error
    if b"-----BEGIN" in content or len(content) >= _SMALL_GARBAGE_BYTES:
        _leaf_public_key(path, content)


def _content(path: str, read: Read) -> bytes:
    try:
        content = read(path)
    except PermissionError as error:
        raise _NotJudgedError(path, "it may not be read by this user") from error
    except OSError as error:
        raise _NotUsableError(path, f"it cannot be read: {error.strerror}") from error
    if not content.strip():
        raise _NotUsableError(path, "it is empty")
    return content


def _leaf_public_key(path: str, content: bytes) -> bytes:
    """Return the public key of the first certificate, once all blocks of the file can be read."""
    leaf: x509.Certificate | None = None
    for label, block in _blocks(path, content):
        if label not in _CERTIFICATE_LABELS:
            continue
        certificate = _certificate(path, block)
        leaf = leaf or certificate
    if leaf is None:
        raise _NotUsableError(path, "there is no PEM certificate in it")
    try:
        public_key = leaf.public_key()
        if isinstance(public_key, rsa.RSAPublicKey) and public_key.key_size < _MIN_RSA_BITS:
            raise _NotJudgedError(
                path, f"OpenSSL may refuse its RSA key of {public_key.key_size} bits"
            )
        return public_key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _NotJudgedError(path, "its key is of a kind that cannot be checked") from error


def _key_public_key(path: str, content: bytes) -> bytes:
    """Return the public half of the first private key."""
    blocks = _blocks(path, content)
    # what stands behind it is not looked at: it may be broken
    block = next((block for label, block in blocks if label in _KEY_LABELS), None)
    if block is not None and b"ENCRYPTED" in block:
        raise _NotJudgedError(path, "its key is encrypted")
    try:
        # NOTE: mod_ssl takes a key in DER too, though never a certificate
        key = (
            serialization.load_der_private_key(content, None, unsafe_skip_rsa_key_validation=True)
            if block is None
            else serialization.load_pem_private_key(
                block, None, unsafe_skip_rsa_key_validation=True
            )
        )
        return key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    except (ValueError, TypeError) as error:
        raise _NotUsableError(path, "there is no usable private key in it") from error
    except UnsupportedAlgorithm as error:
        raise _NotJudgedError(path, "its key is of a kind that cannot be checked") from error


def _blocks(path: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """Split a file into its PEM blocks as OpenSSL does; text between them is passed over."""
    position = 0
    while begin := _BEGIN.search(content, position):
        end = content.find(b"\n-----END " + begin[1] + b"-----", begin.end(1))
        if end < 0:
            raise _NotUsableError(path, "its last PEM block has no end")
        position = end + len(b"\n-----END -----") + len(begin[1])
        yield begin[1].decode(), content[begin.start(1) - len(b"-----BEGIN ") : position] + b"\n"


def _certificate(path: str, block: bytes) -> x509.Certificate:
    body = b"".join(block[block.index(b"\n") : block.rindex(b"\n-----END")].split())
    try:
        der = base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise _NotUsableError(path, "a certificate in it is not base64") from error
    try:
        return x509.load_der_x509_certificate(der)
    except UNREADABLE as error:
        if not _is_whole(der):
            raise _NotUsableError(path, "a certificate in it is malformed") from error
        raise _NotJudgedError(path, "a certificate in it is unusual") from error


def _is_whole(der: bytes) -> bool:
    """Say whether the bytes begin with a DER sequence that ends within them."""
    if len(der) < 2 or der[0] != 0x30:
        return False
    first = der[1]
    if first < 0x80:
        return 2 + first <= len(der)
    size = first & 0x7F
    return 2 + size + int.from_bytes(der[2 : 2 + size]) <= len(der)
