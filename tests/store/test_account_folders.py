"""What lies in accounts/: a fault of one account names its file and says what mends it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from mdconnector.errors import StoreError
from mdconnector.keys import generate_key, key_to_pem, public_bytes
from mdconnector.managed_domain import ExternalAccount
from mdconnector.store.account_folders import (
    account_folder,
    account_folders,
    pending_registrations,
    restore_account,
)
from mdconnector.store.accounts import begin_account, save_account
from mdconnector.store.folder import Folder
from mdconnector.store.records import StoredAccount
from mdconnector.store.tree import Store
from tests.authority import EC_SPEC
from tests.store.credentials import CA_URL, open_store
from tests.store.kill_points import refusing

KEY = rsa.generate_private_key(65537, 2048)
ACCOUNT = StoredAccount(
    id="", url="https://ca.example/acct/1", ca_url=CA_URL, contact=("mailto:a@a.example",)
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A new store."""
    with open_store(tmp_path / "md") as opened:
        yield opened


@pytest.fixture
def saved(store: Store) -> StoredAccount:
    """The only account of the store."""
    return save_account(store, ACCOUNT, KEY)


def test_good_account_has_no_fault(store: Store, saved: StoredAccount) -> None:
    (folder,) = account_folders(store)
    assert (folder.account, folder.fault) == (saved, None)
    assert folder.key is not None
    assert public_bytes(folder.key) == public_bytes(KEY)


def _ec_key(store: Store) -> bytes:
    return key_to_pem(generate_key(EC_SPEC), store.passphrase())


@pytest.mark.parametrize(
    ("name", "content", "message", "hint"),
    [
        ("account.json", None, "it is missing", "account recover"),
        ("account.json", lambda _: b"{", "damaged: ", "account recover"),
        ("account.pem", None, "it is missing", "from a backup"),
        ("account.pem", lambda _: b"nonsense", "", "from a backup"),
        ("account.pem", _ec_key, "it is not RSA", ""),
    ],
    ids=["no record", "half a record", "no key", "half a key", "a key of another kind"],
)
def test_fault_of_an_account_names_the_file_and_what_mends_it(
    store: Store,
    saved: StoredAccount,
    name: str,
    content: Callable[[Store], bytes] | None,
    message: str,
    hint: str,
) -> None:
    file = store.path / "accounts" / saved.id / name
    file.unlink()
    if content is not None:
        file.write_bytes(content(store))
    fault = account_folder(store, saved.id).fault
    assert fault is not None
    assert fault.path == str(file)
    assert fault.message.startswith(message)
    assert hint in (fault.hint or "")


def test_link_in_place_of_an_account_is_its_fault(store: Store, saved: StoredAccount) -> None:
    folder = store.path / "accounts" / saved.id
    folder.rename(store.path / "elsewhere")
    folder.symlink_to(store.path / "elsewhere")
    found = account_folder(store, saved.id)
    assert (found.account, found.key) == (None, None)
    assert found.fault is not None
    assert found.fault.path == str(folder)


def test_account_that_may_not_be_read_is_an_error_not_a_fault(
    store: Store, saved: StoredAccount
) -> None:
    with refusing("open-to-read", errno.EACCES, of=saved.id) as was_refused:
        with pytest.raises(StoreError) as caught:
            account_folder(store, saved.id)
        assert was_refused()
    assert caught.value.unreadable


@pytest.mark.parametrize("has_others", [False, True])
def test_account_that_is_not_there_is_named_with_its_path(store: Store, has_others: bool) -> None:
    if has_others:
        save_account(store, ACCOUNT, KEY)
    else:
        (store.path / "accounts").rmdir()
    missing = ACCOUNT._replace(id="ACME-ca.example-0007")
    with pytest.raises(StoreError, match="there is no such account") as caught:
        restore_account(store, missing)
    assert caught.value.path == str(store.path / "accounts" / missing.id)


def test_keys_that_are_being_registered_are_found_and_damaged_ones_passed_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pending_registrations(store) == ()
    for number in range(5):
        begin_account(store, CA_URL, ExternalAccount(f"kid-{number}", "c2VjcmV0"), lambda: KEY)
    first, second, third, fourth = sorted((store.path / "mdconnector/accounts").iterdir())[:4]
    (first / "note.json").unlink()
    (second / "key.pem").unlink()
    (third / "note.json").write_bytes(b"{")
    (fourth / "key.pem").write_bytes(b"nonsense")
    real = Folder.names
    monkeypatch.setattr(Folder, "names", lambda folder: ["gone", *real(folder)])
    (left,) = pending_registrations(store)
    assert (left.ca_url, public_bytes(left.key)) == (CA_URL, public_bytes(KEY))
