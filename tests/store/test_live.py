"""What is read from domains/: facts and faults."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mdconnector.errors import StoreError
from mdconnector.renewal import Reason, due_reasons
from mdconnector.store.live import issuing_ca, live_changed_at, read_live, read_live_chains
from mdconnector.store.records import render_md
from mdconnector.store.tree import Store
from tests.authority import EC_SPEC, RSA_SPEC
from tests.store.credentials import open_store
from tests.store.sets import (
    BOTH,
    DAMAGES,
    DIRECTORY,
    DOMAIN,
    EC_PAIR,
    NAME,
    NOW,
    RSA_PAIR,
    TRAPS,
    put_live,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A new store."""
    with open_store(tmp_path / "md", mod_md_loaded=True) as opened:
        yield opened


def test_live_certificates_are_read_one_for_each_key_spec(store: Store) -> None:
    put_live(store, EC_PAIR, RSA_PAIR)
    live = read_live(store, BOTH)
    assert [one.spec for one in live] == [RSA_SPEC, EC_SPEC]
    assert [one.facts for one in live] == [RSA_PAIR.facts, EC_PAIR.facts]
    assert due_reasons(BOTH, live, NOW) == ()


def test_domain_without_a_folder_has_nothing_live(store: Store) -> None:
    (certificate,) = read_live(store, DOMAIN)
    assert (certificate.facts, certificate.fault) == (None, None)


def test_fallback_certificate_of_mod_md_does_not_count(store: Store) -> None:
    folder = put_live(store, EC_PAIR)
    for name in (EC_SPEC.privkey_name, EC_SPEC.pubcert_name):
        (folder / name).rename(folder / f"fallback-{name}")
    assert due_reasons(DOMAIN, read_live(store, DOMAIN), NOW) == (Reason.MISSING,)


def test_key_type_that_is_absent_is_told_from_a_missing_set(store: Store) -> None:
    put_live(store, EC_PAIR)
    assert due_reasons(BOTH, read_live(store, BOTH), NOW) == (Reason.KEY_TYPE,)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_pair_is_due_never_current(store: Store, damage: Callable[[Path], None]) -> None:
    damage(put_live(store, EC_PAIR))
    (certificate,) = read_live(store, DOMAIN)
    assert certificate.fault
    assert due_reasons(DOMAIN, (certificate,), NOW) == (Reason.UNREADABLE,)


@pytest.mark.parametrize("damage", TRAPS, ids=lambda damage: damage.__name__)
def test_folder_that_is_not_what_it_should_be_is_that_domains_error(
    store: Store, damage: Callable[[Path], None]
) -> None:
    damage(put_live(store, EC_PAIR))
    put_live(store, EC_PAIR, name="b.example")
    with pytest.raises(StoreError) as caught:
        read_live(store, DOMAIN)
    assert caught.value.exit_code == 1
    (other,) = read_live(store, DOMAIN._replace(name="b.example"))
    assert other.facts == EC_PAIR.facts


def test_hard_linked_backup_of_a_live_set_is_no_error(store: Store) -> None:
    folder = put_live(store, EC_PAIR)
    (store.path / "backup").hardlink_to(folder / EC_SPEC.pubcert_name)
    assert read_live(store, DOMAIN)[0].facts == EC_PAIR.facts


def test_name_that_is_no_dns_name_is_never_looked_up(store: Store) -> None:
    put_live(store, EC_PAIR)
    with pytest.raises(StoreError, match="only a DNS name"):
        read_live(store, DOMAIN._replace(name="../domains/a.example"))


def test_store_without_domains_has_nothing_live(store: Store) -> None:
    assert store.domains() is None
    assert [one.facts for one in read_live(store, BOTH)] == [None, None]


def test_domain_beside_others_has_nothing_live_before_its_first_set(store: Store) -> None:
    put_live(store, EC_PAIR, name="other.example")
    assert [one.facts for one in read_live(store, BOTH)] == [None, None]
    assert list(read_live_chains(store, BOTH)) == []
    assert issuing_ca(store, NAME) is None
    assert live_changed_at(store, NAME) is None


def test_store_without_domains_has_no_chain_no_ca_and_no_change(store: Store) -> None:
    assert store.domains() is None
    assert list(read_live_chains(store, DOMAIN)) == []
    assert issuing_ca(store, NAME) is None
    assert live_changed_at(store, NAME) is None


def test_ca_of_the_live_set_is_what_its_record_says_or_none(store: Store) -> None:
    record = put_live(store, EC_PAIR) / "md.json"
    assert issuing_ca(store, NAME) is None
    record.write_bytes(render_md(DOMAIN, ca_url=DIRECTORY, account_id="ACME-ca.example-0000"))
    assert issuing_ca(store, NAME) == DIRECTORY
    record.write_bytes(b"{")
    assert issuing_ca(store, NAME) is None
    record.unlink()
    record.mkdir()
    assert issuing_ca(store, NAME) is None


def test_live_chains_are_read_leaf_first_and_a_damaged_one_is_left_out(store: Store) -> None:
    path = put_live(store, RSA_PAIR, EC_PAIR)
    assert list(read_live_chains(store, BOTH)) == [
        (RSA_PAIR.facts, RSA_PAIR.chain),
        (EC_PAIR.facts, EC_PAIR.chain),
    ]
    (path / RSA_SPEC.pubcert_name).write_bytes(b"nonsense")
    assert [facts for facts, _ in read_live_chains(store, BOTH)] == [EC_PAIR.facts]
    (path / EC_SPEC.pubcert_name).unlink()
    assert list(read_live_chains(store, BOTH)) == []


def test_time_of_the_last_change_of_the_live_set_is_its_folders(store: Store) -> None:
    path = put_live(store, EC_PAIR)
    os.utime(path, (0, 0))
    assert live_changed_at(store, NAME) == datetime.fromtimestamp(path.stat().st_ctime, UTC)
