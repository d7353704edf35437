"""Every certificate of one name that the store holds, wherever it lies, with what may revoke it.

Rules: reads only, by folder handles; a folder or file that cannot be used is passed over, because
what the others hold is still to be told. The name need not be configured any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from cryptography import x509

from mdconnector.certificates import (
    MAX_CHAIN_BYTES,
    CertificateFacts,
    facts_of,
    fits,
    read_leaf,
)
from mdconnector.errors import CertificateError, StoreError
from mdconnector.keys import PrivateKey, key_from_pem
from mdconnector.store.archive import ARCHIVE
from mdconnector.store.folder import Folder, UnsafeEntryError
from mdconnector.store.live import MD_FILE
from mdconnector.store.pairs import MAX_KEY_BYTES, chain_suffixes
from mdconnector.store.promotion import REFUSED
from mdconnector.store.records import MAX_RECORD_BYTES, RecordError, StagedMd, parse_md
from mdconnector.store.set_aside import numbered_stem
from mdconnector.store.tree import Store, folder_name


class Place(IntEnum):
    """Where a certificate lies; of one that lies in several places the first counts."""

    LIVE = 0
    STAGED = 1
    ARCHIVED = 2
    REFUSED = 3


class Holding(NamedTuple):
    """One certificate, and what is known of where it came from."""

    facts: CertificateFacts
    certificate: x509.Certificate
    place: Place
    path: str
    key: PrivateKey | None
    """its own; None where that is not beside it, or cannot be read"""
    ca_url: str | None = None
    account_id: str | None = None


def holdings_of(store: Store, name: str) -> tuple[Holding, ...]:
    """Return the certificates of a managed domain, live ones first, each once."""
    found: dict[str, Holding] = {}
    for place, folder in _folders(store, folder_name(name)):
        with folder:
            for holding in _in_folder(store, folder, place):
                known = found.get(holding.facts.sha256)
                if known is None or (known.key is None and holding.key is not None):
                    found[holding.facts.sha256] = (
                        holding if known is None else _joined(known, holding)
                    )
    return tuple(
        sorted(found.values(), key=lambda one: (one.place, -one.facts.not_before.timestamp()))
    )


def _joined(known: Holding, other: Holding) -> Holding:
    """Return what is known of a certificate that lies in two places."""
    return Holding(
        known.facts,
        known.certificate,
        known.place,
        known.path,
        other.key,
        known.ca_url or other.ca_url,
        known.account_id or other.account_id,
    )


def _folders(store: Store, name: str) -> Iterator[tuple[Place, Folder]]:
    groups = (
        (Place.LIVE, store.domains()),
        (Place.STAGED, store.staging()),
        (Place.ARCHIVED, store.group(ARCHIVE)),
        (Place.REFUSED, store.own(REFUSED)),
    )
    for place, group in groups:
        if group is None:
            continue
        owners = store.owners.staging if place is Place.STAGED else None
        is_numbered = place in (Place.ARCHIVED, Place.REFUSED)
        with group:
            entries = group.names() if is_numbered else [name]
            for entry in entries:
                stem, _, number = entry.rpartition(".")
                if entry != name and not (number.isdecimal() and stem == numbered_stem(name)):
                    continue
                try:
                    folder = group.open(entry, owners=owners)
                except UnsafeEntryError:
                    continue
                if folder is not None:
                    yield place, folder


def _in_folder(store: Store, folder: Folder, place: Place) -> Iterator[Holding]:
    owners = store.owners.staging if place is Place.STAGED else None
    md = _md(folder, owners)
    for suffix in chain_suffixes(folder):
        try:
            pem = folder.read(f"pubcert{suffix}.pem", max_bytes=MAX_CHAIN_BYTES, owners=owners)
            if pem is None:
                continue
            leaf = read_leaf(pem)
            facts = facts_of(leaf)
        except (UnsafeEntryError, CertificateError):
            continue
        yield Holding(
            facts,
            leaf,
            place,
            folder.path_of(f"pubcert{suffix}.pem"),
            _key(store, folder, f"privkey{suffix}.pem", owners, leaf),
            md.ca_url if md else None,
            md.account_id if md else None,
        )


def _key(
    store: Store,
    folder: Folder,
    file_name: str,
    owners: frozenset[int] | None,
    leaf: x509.Certificate,
) -> PrivateKey | None:
    try:
        pem = folder.read(file_name, max_bytes=MAX_KEY_BYTES, owners=owners)
        if pem is None:
            return None
        key = key_from_pem(pem, store.passphrase() if b"ENCRYPTED" in pem else None)
    except (StoreError, CertificateError):
        return None
    return key if fits(key, leaf) else None


def _md(folder: Folder, owners: frozenset[int] | None) -> StagedMd | None:
    try:
        text = folder.read(MD_FILE, max_bytes=MAX_RECORD_BYTES, owners=owners)
        return None if text is None else parse_md(text)
    except (UnsafeEntryError, RecordError):
        return None
