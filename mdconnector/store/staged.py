"""What lies in staging/ for one managed domain, read and judged, never changed.

Rule: it may come from Apache's user or from a person. A complete set is judged by `verify_set`,
what can never become one is rubbish with a path, and half a set is mod_md at work; what may not be
read at all is a StoreError.
"""

import re
import time
from datetime import UTC, datetime
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from mdconnector.certificates import (
    MAX_CHAIN_BYTES,
    CertificateFacts,
    Credential,
    InstalledCertificate,
    make_credential,
    verify_set,
)
from mdconnector.errors import CertificateError, StoreError
from mdconnector.keys import KeySpec, PrivateKey, key_from_pem, random_numbers
from mdconnector.managed_domain import ManagedDomain
from mdconnector.renewal import StagedSet, due_reasons, needs_enrolling
from mdconnector.store.folder import Folder, UnsafeEntryError
from mdconnector.store.live import MD_FILE, read_live
from mdconnector.store.pairs import MAX_KEY_BYTES
from mdconnector.store.pending import Pending
from mdconnector.store.records import MAX_RECORD_BYTES, RecordError, StagedMd, parse_md, parse_order
from mdconnector.store.tree import Store, folder_name

ORDER_FILE = "order.json"

SETTLING_SECONDS = 2.0
"""what has changed within this time may change again"""
_LOOK_SECONDS = 0.1

_CHAIN_NAME = re.compile(r"pubcert((?:\.[a-z0-9-]{1,40})?)\.pem")
_PROOF = b"mdconnector: this key signs"
_MAX_RSA_BITS = 16_384  # OpenSSL verifies no longer ones, and signing with one takes minutes


class NothingStaged(NamedTuple):
    """No set waits: staging is empty, or somebody has only begun one there."""


class FoundSet(NamedTuple):
    """A complete, readable set in staging; `staged.fault` says why it must not be promoted."""

    staged: StagedSet
    credentials: tuple[Credential, ...]
    warnings: tuple[str, ...]
    md: StagedMd | None
    """what its md.json says; None for a pair that somebody copied there without one"""


class StagedRubbish(NamedTuple):
    """Something in staging that can never become a set: to be set aside, not deleted."""

    path: str
    why: str


class _Content(NamedTuple):
    credentials: tuple[Credential, ...]
    md: StagedMd | None
    since: datetime


Staging = NothingStaged | FoundSet | StagedRubbish


def read_sets(
    store: Store, domain: ManagedDomain, *, now: datetime
) -> tuple[tuple[InstalledCertificate, ...], Staging]:
    """Return what is live, as `read_live` does, and what waits in staging and may become it.

    Staging is read first: an httpd that activates a set meanwhile makes it live before it takes it
    out of staging, and then it is seen in one of the two. Raises StoreError where either cannot be
    read at all.
    """
    content = _settled_content(store, domain)
    live = read_live(store, domain)
    if not isinstance(content, _Content):
        return live, content
    return live, _judged(store, domain, content, live=live, now=now)


def _judged(
    store: Store,
    domain: ManagedDomain,
    content: _Content,
    *,
    live: tuple[InstalledCertificate, ...],
    now: datetime,
) -> FoundSet:
    verdict = verify_set(domain, content.credentials, live=_serving(domain, live, now), now=now)
    staged = StagedSet(
        since=content.since,
        certificates=tuple(credential.facts for credential in content.credentials),
        is_ours=_is_ours(store, domain, content.credentials),
        fault="; ".join(verdict.refusals) or None,
    )
    return FoundSet(staged, content.credentials, verdict.warnings, content.md)


def _settled_content(
    store: Store, domain: ManagedDomain
) -> _Content | NothingStaged | StagedRubbish:
    """Read staging; while it changes, what looks like rubbish may be a set on its way out.

    mod_md takes a set that it has activated out of staging file by file.
    """
    content = _staged_content(store, domain)
    deadline = time.monotonic() + SETTLING_SECONDS
    seen = None
    while isinstance(content, StagedRubbish) and time.monotonic() < deadline:
        changed = staging_changed_at(store, domain.name)
        content = _staged_content(store, domain)
        if not isinstance(content, StagedRubbish):
            break
        is_old = changed is None or time.time() - changed.timestamp() > SETTLING_SECONDS
        if is_old or changed == seen:
            break
        seen = changed
        time.sleep(_LOOK_SECONDS)
    return content


def _staged_content(
    store: Store, domain: ManagedDomain
) -> _Content | NothingStaged | StagedRubbish:
    try:
        with _staged_folder(store, domain) as folder:
            return NothingStaged() if folder is None else _read_content(store, folder, domain)
    except UnsafeEntryError as error:
        return StagedRubbish(error.path, error.message)


def order_of_mod_md(store: Store, domain_name: str) -> str | None:
    """Return the URL of an order that mod_md has noted in staging/<name>; None where none is.

    Apache's user can write there: it may be any text.
    """
    staging = store.staging()
    if staging is None:
        return None
    owners = store.owners.staging
    try:
        with staging:
            folder = staging.open(folder_name(domain_name), owners=owners)
        if folder is None:
            return None
        with folder:
            text = folder.read(ORDER_FILE, max_bytes=MAX_RECORD_BYTES, owners=owners)
        return None if text is None else parse_order(text)
    except (StoreError, RecordError):
        return None


def read_staged_credentials(store: Store, domain: ManagedDomain) -> tuple[Credential, ...]:
    """Read a set in staging that is to be promoted: each file once, each key tried by signing.

    Empty where nothing complete is staged. Raises StoreError or CertificateError where it is unfit.
    """
    content = _settled_content(store, domain)
    if isinstance(content, NothingStaged):
        return ()
    if isinstance(content, StagedRubbish):
        hint = "it is set aside, and a new certificate ordered"
        raise StoreError(content.why, path=content.path, hint=hint)
    for credential in content.credentials:
        _prove(credential)
    return content.credentials


def staging_changed_at(store: Store, domain_name: str) -> datetime | None:
    """Return when anything in staging/<name> was last changed; None where nothing lies there."""
    staging = store.staging()
    if staging is None:
        return None
    with staging:
        try:
            folder = staging.open(folder_name(domain_name), owners=store.owners.staging)
        except UnsafeEntryError:
            return None
    if folder is None:
        return None
    with folder:
        statuses = [folder.status(), *(folder.stat(name) for name in folder.names())]
    # the change of status: unlike the modification time, Apache's user cannot set it at will
    latest = max(status.st_ctime for status in statuses if status is not None)
    return datetime.fromtimestamp(latest, UTC)


class _staged_folder:  # noqa: N801 - reads as a statement: with _staged_folder(...)
    """Open staging/<name>, which must belong to the store's owner or to Apache's user."""

    def __init__(self, store: Store, domain: ManagedDomain) -> None:
        staging = store.staging()
        self._folder = None
        if staging is not None:
            with staging:
                self._folder = staging.open(folder_name(domain.name), owners=store.owners.staging)

    def __enter__(self) -> Folder | None:
        return self._folder

    def __exit__(self, *_error: object) -> None:
        if self._folder is not None:
            self._folder.close()


def _read_content(
    store: Store, folder: Folder, domain: ManagedDomain
) -> _Content | NothingStaged | StagedRubbish:
    chains = [match[1] for name in folder.names() if (match := _CHAIN_NAME.fullmatch(name))]
    if not chains:
        return NothingStaged()
    md_or_rubbish = _read_md(store, folder, domain)
    if isinstance(md_or_rubbish, StagedRubbish):
        return md_or_rubbish
    specs = _specs_of(domain, md_or_rubbish, chains)
    credentials = []
    for spec in specs:
        if spec.file_suffix not in chains:
            continue
        credential = _read_pair(store, folder, spec)
        if isinstance(credential, StagedRubbish):
            return credential
        credentials.append(credential)
    present = {credential.spec.file_suffix for credential in credentials}
    wanted = domain.key_specs if md_or_rubbish is None else md_or_rubbish.key_specs
    missing = [spec.label for spec in wanted if spec.file_suffix not in present]
    if not missing:
        # a pair that nobody asks for any more must be sound, but has no say
        suffixes = {spec.file_suffix for spec in domain.key_specs}
        asked = tuple(one for one in credentials if one.spec.file_suffix in suffixes)
        return _Content(asked, md_or_rubbish, _since(folder, chains))
    if md_or_rubbish is not None:
        return NothingStaged()
    return StagedRubbish(str(folder.path), f"there is no {' and no '.join(missing)} pair in it")


def _read_md(
    store: Store, folder: Folder, domain: ManagedDomain
) -> StagedMd | StagedRubbish | None:
    text = folder.read(MD_FILE, max_bytes=MAX_RECORD_BYTES, owners=store.owners.staging)
    if text is None:
        return None
    try:
        md = parse_md(text)
    except RecordError as error:
        return StagedRubbish(folder.path_of(MD_FILE), str(error))
    if md.name != domain.name:
        return StagedRubbish(folder.path_of(MD_FILE), "it is about another managed domain")
    return md


def _specs_of(domain: ManagedDomain, md: StagedMd | None, chains: list[str]) -> tuple[KeySpec, ...]:
    """The key specs to look for: the configuration's, md.json's, then what the file names say."""
    by_suffix = {spec.file_suffix: spec for spec in domain.key_specs}
    for spec in md.key_specs if md is not None else ():
        by_suffix.setdefault(spec.file_suffix, spec)
    for suffix in chains:
        named = KeySpec("EC", curve=suffix[1:]) if suffix else KeySpec("RSA")
        by_suffix.setdefault(suffix, named)
    return tuple(by_suffix.values())


def _read_pair(store: Store, folder: Folder, spec: KeySpec) -> Credential | StagedRubbish:
    owners = store.owners.staging
    chain = folder.read(spec.pubcert_name, max_bytes=MAX_CHAIN_BYTES, owners=owners)
    pem = folder.read(spec.privkey_name, max_bytes=MAX_KEY_BYTES, owners=owners)
    path = folder.path_of(spec.pubcert_name)
    if chain is None or pem is None:
        return StagedRubbish(path, f"its private key {spec.privkey_name} is missing")
    try:
        key = key_from_pem(pem, store.passphrase() if b"ENCRYPTED" in pem else None)
        return make_credential(spec, key, chain)
    except CertificateError as error:
        return StagedRubbish(path, error.message)


def _since(folder: Folder, chains: list[str]) -> datetime:
    # the change of status: unlike the modification time, Apache's user cannot set it at will
    statuses = [folder.stat(f"pubcert{suffix}.pem") for suffix in chains]
    latest = max((status.st_ctime for status in statuses if status is not None), default=0.0)
    return datetime.fromtimestamp(latest, UTC)


def _serving(
    domain: ManagedDomain, live: tuple[InstalledCertificate, ...], now: datetime
) -> tuple[CertificateFacts, ...]:
    if needs_enrolling(due_reasons(domain, live, now)):
        return ()
    return tuple(certificate.facts for certificate in live if certificate.facts is not None)


def _is_ours(store: Store, domain: ManagedDomain, credentials: tuple[Credential, ...]) -> bool:
    fingerprints = tuple(sorted(credential.facts.sha256 for credential in credentials))
    return Pending.load(store, domain).fingerprints() == fingerprints


def _prove(credential: Credential) -> None:
    """Sign with the key, verify with its public half, which is known to be the certificate's.

    The key was loaded without validation.
    """
    key = credential.key
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size > _MAX_RSA_BITS:
        raise CertificateError(f"the RSA key has more than {_MAX_RSA_BITS} bits")
    try:
        with random_numbers():
            _sign_and_verify(key)
    except (InvalidSignature, ValueError):
        raise CertificateError(
            f"the {credential.spec.label} private key cannot sign for its certificate"
        ) from None


def _sign_and_verify(key: PrivateKey) -> None:
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(_PROOF, padding.PKCS1v15(), hashes.SHA256())
        key.public_key().verify(signature, _PROOF, padding.PKCS1v15(), hashes.SHA256())
        return
    signature = key.sign(_PROOF, ec.ECDSA(hashes.SHA256()))
    key.public_key().verify(signature, _PROOF, ec.ECDSA(hashes.SHA256()))
