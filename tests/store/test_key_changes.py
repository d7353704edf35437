"""A new key of an account: durable before the CA hears of it, and never mistaken for none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from mdconnector.errors import StoreError
from mdconnector.keys import PrivateKey, public_bytes
from mdconnector.store.accounts import load_account, save_account
from mdconnector.store.key_changes import (
    begin_key_change,
    drop_key_change,
    finish_key_change,
    has_new_key,
    new_key_of,
)
from mdconnector.store.records import StoredAccount
from mdconnector.store.tree import Store
from tests.store.credentials import CA_URL, open_store

KEY, NEW_KEY = (rsa.generate_private_key(65537, 2048) for _ in range(2))
ACCOUNT = StoredAccount(
    id="", url="https://ca.example/acct/1", ca_url=CA_URL, contact=("mailto:a@a.example",)
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A new store."""
    with open_store(tmp_path / "md") as opened:
        yield opened


@pytest.fixture
def account_id(store: Store) -> str:
    """The id of an account that is stored."""
    return save_account(store, ACCOUNT, KEY).id


def must_not_make_a_key() -> PrivateKey:
    pytest.fail("made a key although one was there")


def test_new_key_is_taken_up_by_the_next_run_and_becomes_the_accounts(
    store: Store, account_id: str
) -> None:
    assert begin_key_change(store, account_id, lambda: NEW_KEY) == (NEW_KEY, True)
    again, is_new = begin_key_change(store, account_id, must_not_make_a_key)
    assert (public_bytes(again), is_new) == (public_bytes(NEW_KEY), False)
    finish_key_change(store, account_id, again)
    assert not has_new_key(store, account_id)
    found = load_account(store, account_id)
    assert found is not None
    assert public_bytes(found[1]) == public_bytes(NEW_KEY)


def test_new_key_that_is_damaged_is_an_error_never_replaced(store: Store, account_id: str) -> None:
    begin_key_change(store, account_id, lambda: NEW_KEY)
    file = store.path / "mdconnector/accounts" / account_id / "key.pem"
    file.write_bytes(b"half a key")
    with pytest.raises(StoreError, match="the account's new key is damaged") as caught:
        begin_key_change(store, account_id, must_not_make_a_key)
    assert caught.value.path == str(file)
    assert "from a backup" in (caught.value.hint or "")
    assert file.read_bytes() == b"half a key"


def test_nothing_begun_is_nothing_to_forget(store: Store) -> None:
    drop_key_change(store, "ACME-ca.example-0000")
    assert new_key_of(store, "ACME-ca.example-0000") is None
    assert not has_new_key(store, "ACME-ca.example-0000")
    assert not (store.path / "mdconnector/accounts").exists()
