"""A domain, its old and its new set, and a store to put them into, for the tests of this folder."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mdconnector.certificates import Credential, chain_to_pem
from mdconnector.errors import CertificateError
from mdconnector.keys import key_from_pem, key_to_pem, public_bytes
from mdconnector.managed_domain import ManagedDomain, SourceLine
from mdconnector.store.pairs import fingerprints_in, is_sound
from mdconnector.store.records import render_md
from mdconnector.store.tree import Store
from tests.authority import DAY, EC_SPEC, Authority

NAME = "a.example"
NAMES = (NAME, "www.a.example")
CA_URL = "https://ca.example/dir"
ACCOUNT_ID = "ACME-ca.example-0000"
NOW = datetime.now(UTC).replace(microsecond=0)
DOMAIN = ManagedDomain(
    name=NAME,
    names=NAMES,
    declared_at=SourceLine("a.conf", 1),
    configured_key_specs=(EC_SPEC,),
    ca_urls=(CA_URL,),
)
CA = Authority()
OLD = CA.credential(NAMES, not_before=NOW - 60 * DAY)
NEW = CA.credential(NAMES, not_before=NOW - timedelta(hours=2))


def aged(days: int) -> Credential:
    """Make a pair whose certificate is so many days old."""
    return CA.credential(NAMES, not_before=NOW - days * DAY, life=400 * DAY)


def leaves(*credentials: Credential) -> tuple[str, ...]:
    """Return the fingerprints of a set, as the store compares them."""
    return tuple(sorted(one.facts.sha256 for one in credentials))


def open_store(path: Path, *, mod_md_loaded: bool = False) -> Store:
    """Open a store, made where it is absent; www-data is Apache's user where that can be."""
    store = Store.open(
        path,
        httpd_user_uid=33 if os.geteuid() == 0 else os.geteuid(),
        httpd_group_gid=None,
        mod_md_loaded=mod_md_loaded,
        create=True,
    )
    assert store is not None
    return store


def put_set(store: Store, group: str, name: str, *credentials: Credential) -> Path:
    """Put a set into domains/ or archive/ as mod_md leaves it there."""
    with store.make_in_group(group, name) as folder:
        for one in credentials:
            folder.write(one.spec.privkey_name, key_to_pem(one.key), 0o600)
            folder.write(one.spec.pubcert_name, chain_to_pem(one.chain), 0o600)
        folder.write("md.json", render_md(DOMAIN, ca_url=CA_URL, account_id=ACCOUNT_ID), 0o600)
    return store.path / group / name


def set_in(store: Store, *parts: str) -> tuple[str, ...] | None:
    """Return the leaves of a set somewhere in the store; None: absent. It has to be sound."""
    folder = store.base
    for part in parts:
        found = folder.open(part)
        if found is None:
            return None
        folder = found
    assert is_sound(folder), f"{'/'.join(parts)} is damaged: {folder.names()}"
    return fingerprints_in(folder)


def live(store: Store) -> tuple[str, ...] | None:
    """Return the leaves of the live set; None: absent."""
    return set_in(store, "domains", NAME)


def keys_in(store: Store) -> set[bytes]:
    """Return the public halves of all private keys that can be read, wherever they are."""
    found = set()
    for path in store.path.rglob("*.pem"):
        if path.name.startswith("pubcert"):
            continue
        with suppress(CertificateError):
            found.add(public_bytes(key_from_pem(path.read_bytes(), store.passphrase())))
    return found
