"""Pairs of key and chain in one folder of ours: domains/, archive/, pending/, work/.

Rules: keys are in clear in all of them; a file that cannot be read counts as damaged, never as
absent, but where handles or memory are wanting: that says nothing about it and is an error
(ExhaustedError). How good a whole set is, is one value that can be compared: first whether it
serves the configuration, then whether Apache could open it at all, then how new it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import IntEnum
from typing import NamedTuple

from mdconnector.certificates import (
    MAX_CHAIN_BYTES,
    CertificateFacts,
    Credential,
    facts_of,
    fits,
    make_credential,
    read_leaf,
    verify_set,
)
from mdconnector.errors import CertificateError, StoreError
from mdconnector.keys import KeySpec, key_from_pem
from mdconnector.managed_domain import ManagedDomain
from mdconnector.store.folder import ExhaustedError, Folder, UnsafeEntryError

MAX_KEY_BYTES = 64 * 1024
_CHAIN_NAME = re.compile(r"pubcert((?:\.[a-z0-9-]+)?)\.pem")
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Worth(IntEnum):
    """What a set is good for; more is better."""

    DAMAGED = 0
    """no chain, or one that Apache could not open with its key"""
    SOUND = 1
    """Apache could open it, but it does not serve the configuration, or nobody says what that is"""
    SERVING = 2


class Standing(NamedTuple):
    """How one set compares with another of the same domain."""

    worth: Worth
    not_before: datetime


NOTHING = Standing(Worth.DAMAGED, _LONG_AGO)


def chain_suffixes(folder: Folder) -> tuple[str, ...]:
    """Return what stands between `pubcert` and `.pem` in the names of all chains in a folder."""
    matches = (_CHAIN_NAME.fullmatch(name) for name in folder.names())
    return tuple(match[1] for match in matches if match)


def fingerprints_in(folder: Folder) -> tuple[str, ...]:
    """Return the SHA-256 fingerprints of all leaves in a folder, sorted."""
    return tuple(sorted(leaf.sha256 for leaf in _leaves(folder)))


def examined(folder: Folder) -> tuple[tuple[CertificateFacts, ...], bool]:
    """Return all leaves of a set that can be read, and whether the set is sound.

    Raises StoreError while the disk does not give a file: for what must not rest on a guess.
    """
    leaves: list[CertificateFacts] = []
    sound = True
    for suffix in chain_suffixes(folder):
        pem = _content(folder, f"pubcert{suffix}.pem", MAX_CHAIN_BYTES)
        key = _content(folder, f"privkey{suffix}.pem", MAX_KEY_BYTES)
        try:
            leaf = read_leaf(pem)
            leaves.append(facts_of(leaf))
            sound = sound and fits(key_from_pem(key), leaf)
        except CertificateError:
            sound = False
    return tuple(leaves), sound and bool(leaves)


def _content(folder: Folder, name: str, max_bytes: int) -> bytes:
    try:
        return folder.read(name, max_bytes=max_bytes) or b""
    except UnsafeEntryError:
        return b""


def credentials_in(folder: Folder, specs: tuple[KeySpec, ...]) -> tuple[Credential, ...]:
    """Return the pairs of these key specs that are there.

    Raises CertificateError or StoreError for a pair that is damaged or half there.
    """
    pairs = ((spec, _pair(folder, spec)) for spec in specs)
    return tuple(
        make_credential(spec, key_from_pem(pair[0]), pair[1]) for spec, pair in pairs if pair
    )


def standing_of(folder: Folder | None, domain: ManagedDomain | None, now: datetime) -> Standing:
    """Say how good the set in a folder is, for a domain where one is configured."""
    if folder is None or not is_sound(folder):
        return NOTHING
    not_before = max((leaf.not_before for leaf in _leaves(folder)), default=_LONG_AGO)
    serving = domain is not None and serves(folder, domain, now)
    return Standing(Worth.SERVING if serving else Worth.SOUND, not_before)


def is_sound(folder: Folder) -> bool:
    """Say whether there is a chain, and every chain there has the key that it belongs to."""
    try:
        suffixes = chain_suffixes(folder)
        return bool(suffixes) and all(_is_pair(folder, suffix) for suffix in suffixes)
    except ExhaustedError:
        raise
    except (StoreError, CertificateError):
        return False


def serves(folder: Folder, domain: ManagedDomain, now: datetime) -> bool:
    """Say whether the set in a folder passes verification for a domain now."""
    try:
        credentials = credentials_in(folder, domain.key_specs)
    except ExhaustedError:
        raise
    except (StoreError, CertificateError):
        return False
    return not verify_set(domain, credentials, live=(), now=now).refusals


def _leaves(folder: Folder) -> Iterator[CertificateFacts]:
    for suffix in chain_suffixes(folder):
        try:
            pem = folder.read(f"pubcert{suffix}.pem", max_bytes=MAX_CHAIN_BYTES)
            if pem is not None:
                yield facts_of(read_leaf(pem))
        except ExhaustedError:
            raise
        except (StoreError, CertificateError):
            continue


def _is_pair(folder: Folder, suffix: str) -> bool:
    pem = folder.read(f"pubcert{suffix}.pem", max_bytes=MAX_CHAIN_BYTES)
    key = folder.read(f"privkey{suffix}.pem", max_bytes=MAX_KEY_BYTES)
    if pem is None or key is None:
        return False
    leaf = read_leaf(pem)
    facts_of(leaf)  # what cannot be read is no pair
    return fits(key_from_pem(key), leaf)


def _pair(folder: Folder, spec: KeySpec) -> tuple[bytes, bytes] | None:
    key = folder.read(spec.privkey_name, max_bytes=MAX_KEY_BYTES)
    chain = folder.read(spec.pubcert_name, max_bytes=MAX_CHAIN_BYTES)
    if key is None and chain is None:
        return None
    if key is None or chain is None:
        absent = spec.privkey_name if key is None else spec.pubcert_name
        raise StoreError("it is missing, but its counterpart is there", path=folder.path_of(absent))
    return key, chain
