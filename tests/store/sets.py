"""A domain and its pairs, put into a store, sound and damaged."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mdconnector.certificates import Credential, chain_to_pem
from mdconnector.keys import generate_key, key_to_pem
from mdconnector.managed_domain import ManagedDomain, SourceLine
from mdconnector.store.tree import Store
from tests.authority import EC_SPEC, RSA_SPEC, Authority

NAME = "a.example"
NAMES = (NAME, "www.a.example")
DIRECTORY = "https://ca.example/dir"
NOW = datetime.now(UTC)
DAY = timedelta(days=1)
CA = Authority()
EC_PAIR = CA.credential(NAMES, EC_SPEC)
RSA_PAIR = CA.credential(NAMES, RSA_SPEC)
DOMAIN = ManagedDomain(
    name=NAME, names=NAMES, declared_at=SourceLine("a.conf", 1), configured_key_specs=(EC_SPEC,)
)
BOTH = DOMAIN._replace(configured_key_specs=(RSA_SPEC, EC_SPEC))


def put_live(store: Store, *credentials: Credential, name: str = NAME) -> Path:
    """Make a live set."""
    with store.make_in_group("domains", name) as folder:
        for one in credentials:
            folder.write(one.spec.privkey_name, key_to_pem(one.key), 0o600)
            folder.write(one.spec.pubcert_name, chain_to_pem(one.chain), 0o600)
    return store.path / "domains" / name


def _empty_chain(folder: Path) -> None:
    (folder / EC_SPEC.pubcert_name).write_bytes(b"")


def _torn_chain(folder: Path) -> None:
    text = (folder / EC_SPEC.pubcert_name).read_bytes()
    (folder / EC_SPEC.pubcert_name).write_bytes(text[:300])


def _empty_key(folder: Path) -> None:
    (folder / EC_SPEC.privkey_name).write_bytes(b"")


def _no_key(folder: Path) -> None:
    (folder / EC_SPEC.privkey_name).unlink()


def _other_key(folder: Path) -> None:
    (folder / EC_SPEC.privkey_name).write_bytes(key_to_pem(generate_key(EC_SPEC)))


DAMAGES = [_empty_chain, _torn_chain, _empty_key, _no_key, _other_key]


def _folder_is_a_link(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to("elsewhere")


def _folder_is_a_file(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.touch()


def _chain_is_a_fifo(folder: Path) -> None:
    (folder / EC_SPEC.pubcert_name).unlink()
    os.mkfifo(folder / EC_SPEC.pubcert_name)


TRAPS = [_chain_is_a_fifo, _folder_is_a_link, _folder_is_a_file]
