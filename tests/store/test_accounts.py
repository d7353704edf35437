"""Accounts: no key is lost before its account is stored, and mod_md and we find each other's."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mdconnector.errors import StoreError, UnsafeStoreError
from mdconnector.keys import (
    PrivateKey,
    generate_account_key,
    generate_key,
    key_from_pem,
    key_to_pem,
    public_bytes,
)
from mdconnector.managed_domain import ExternalAccount
from mdconnector.store import accounts
from mdconnector.store.accounts import (
    begin_account,
    find_accounts,
    load_account,
    mark_account,
    merge_staged_account,
    save_account,
)
from mdconnector.store.folder import Folder
from mdconnector.store.records import StoredAccount, render_account
from mdconnector.store.tree import Store
from tests.authority import EC_SPEC
from tests.parts import Apache, Pebble, wait_until
from tests.store.disk import unsynced

DIRECTORY = "https://acme.sectigo.com/v2/OV"
EAB = ExternalAccount("kid-1", "c2VjcmV0")
KEY = generate_account_key()
OTHER_KEY = generate_account_key()
NEW = StoredAccount(
    id="",
    url="https://acme.sectigo.com/acct/1",
    ca_url=DIRECTORY,
    contact=("mailto:a@a.example",),
    eab_kid=EAB.kid,
    eab_hmac=EAB.hmac,
)


def test_accounts_of_one_host_that_are_saved_at_once_get_numbers_of_their_own(
    store: Store,
) -> None:
    many = [
        NEW._replace(url=f"https://acme.sectigo.com/acct/{n}", ca_url=f"{DIRECTORY}/{n}")
        for n in range(40)
    ]
    with ThreadPoolExecutor(8) as pool:
        saved = list(pool.map(lambda account: save_account(store, account, KEY), many))
    assert len({account.id for account in saved}) == len(many)
    for account in saved:
        stored = load_account(store, account.id)
        assert stored is not None
        assert stored[0].url == account.url


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A new store, beside an Apache with mod_md."""
    with open_at(tmp_path / "md") as opened:
        yield opened


def open_at(path: Path) -> Store:
    """Open a store, made where it is absent."""
    opened = Store.open(
        path,
        httpd_user_uid=os.geteuid(),
        httpd_group_gid=None,
        mod_md_loaded=True,
        create=True,
    )
    assert opened is not None
    return opened


def must_not_make_a_key() -> PrivateKey:
    pytest.fail("made a key although one was there")


def put_in_staging(store: Store, name: str, account: StoredAccount, key: PrivateKey = KEY) -> Path:
    """Leave an account in staging, as mod_md does."""
    with store.make_in_group("staging", name) as folder:
        folder.write("account.json", render_account(account), 0o644)
        folder.write("account.pem", key_to_pem(key, store.passphrase()), 0o644)
    return store.path / "staging" / name


def merge(store: Store, name: str) -> StoredAccount | None:
    """Merge what lies in staging/<name>."""
    staging = store.staging()
    assert staging is not None
    folder = staging.open(name)
    assert folder is not None
    return merge_staged_account(store, folder)


def test_key_is_on_disk_before_it_is_returned_and_found_by_the_next_run(store: Store) -> None:
    with unsynced() as dirty:
        key = begin_account(store, DIRECTORY, EAB, lambda: KEY)
        assert dirty() == set()
    again = begin_account(store, DIRECTORY, EAB, must_not_make_a_key)
    assert public_bytes(key) == public_bytes(again)
    (file,) = (store.path / "mdconnector" / "accounts").glob("*/key.pem")
    assert file.stat().st_mode & 0o777 == 0o600


def test_each_directory_and_kid_has_a_key_of_its_own(store: Store) -> None:
    begin_account(store, DIRECTORY, EAB, lambda: KEY)
    for ca_url, eab in (
        (DIRECTORY, None),
        (DIRECTORY + "2", EAB),
        (DIRECTORY, ExternalAccount("kid-2", "c2VjcmV0")),
    ):
        key = begin_account(store, ca_url, eab, lambda: OTHER_KEY)
        assert public_bytes(key) == public_bytes(OTHER_KEY)


def test_binding_is_not_kept_with_the_pending_key(store: Store) -> None:
    begin_account(store, DIRECTORY, EAB, lambda: KEY)
    for file in (store.path / "mdconnector" / "accounts").rglob("*.json"):
        assert EAB.hmac not in file.read_text()


def test_damaged_pending_key_is_an_error_with_its_path(store: Store) -> None:
    begin_account(store, DIRECTORY, EAB, lambda: KEY)
    (file,) = (store.path / "mdconnector" / "accounts").glob("*/key.pem")
    file.write_text("nonsense")
    with pytest.raises(StoreError, match="damaged") as caught:
        begin_account(store, DIRECTORY, EAB, must_not_make_a_key)
    assert caught.value.path == str(file)


def test_saved_account_is_found_with_its_key_and_the_pending_one_is_gone(store: Store) -> None:
    begin_account(store, DIRECTORY, EAB, lambda: KEY)
    saved = save_account(store, NEW, KEY)
    assert saved == NEW._replace(id="ACME-acme.sectigo.com-0000")
    ((found, key),) = find_accounts(store, DIRECTORY, EAB)
    assert found == saved
    assert public_bytes(key) == public_bytes(KEY)
    assert list((store.path / "mdconnector" / "accounts").iterdir()) == []


def test_pending_key_goes_only_once_its_account_is_on_the_disk(store: Store) -> None:
    begin_account(store, DIRECTORY, EAB, lambda: KEY)
    seen = []

    def look(name: str, dirty: set[str]) -> None:
        seen.append((name, dirty, bool(find_accounts(store, DIRECTORY, EAB))))

    with unsynced(before_removal=look):
        save_account(store, NEW, KEY)
    assert ("key.pem", set(), True) in seen
    assert all(entry[1:] == (set(), True) for entry in seen)


def test_account_folder_has_mod_mds_modes_and_an_encrypted_key(store: Store) -> None:
    save_account(store, NEW, KEY)
    folder = store.path / "accounts" / "ACME-acme.sectigo.com-0000"
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (folder, *folder.iterdir())}
    assert modes == {folder.name: "0o755", "account.json": "0o644", "account.pem": "0o644"}
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in (folder / "account.pem").read_bytes()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_openssl_reads_the_key_with_the_48_raw_bytes(store: Store, tmp_path: Path) -> None:
    # NUL and newline end a pass phrase that is read from a file, so this store's key has neither
    passphrase = bytes(range(0xD0, 0x100))
    pem = tmp_path / "key.pem"
    pem.write_bytes(key_to_pem(KEY, passphrase))
    reader, writer = os.pipe()
    os.write(writer, passphrase + b"\n")
    os.close(writer)
    command = ["openssl", "pkey", "-in", str(pem), "-passin", f"fd:{reader}"]
    plain = subprocess.run(command, pass_fds=[reader], capture_output=True, check=True).stdout
    os.close(reader)
    assert public_bytes(key_from_pem(plain)) == public_bytes(KEY)


def test_account_of_another_directory_or_binding_is_not_found(store: Store) -> None:
    save_account(store, NEW, KEY)
    assert find_accounts(store, DIRECTORY + "/", EAB) == ()
    assert find_accounts(store, DIRECTORY, None) == ()
    assert find_accounts(store, DIRECTORY, ExternalAccount("kid-1", "b3RoZXI")) == ()


def test_account_that_is_not_valid_is_not_found(store: Store) -> None:
    saved = save_account(store, NEW, KEY)
    mark_account(store, saved, "deactivated")
    assert find_accounts(store, DIRECTORY, EAB) == ()
    loaded = load_account(store, saved.id)
    assert loaded is not None
    assert loaded[0].status == "deactivated"


@pytest.mark.parametrize(
    ("ca_url", "expected"),
    [
        ("https://acme.sectigo.com/v2/OV", "ACME-acme.sectigo.com-0000"),
        ("https://acme.demo.sectigo.com/", "ACME-demo.sectigo.com-0000"),
        ("https://localhost:14000/dir", "ACME-localhost-0000"),
        ("https://acme-v02.api.letsencrypt.org/directory", "ACME-.letsencrypt.org-0000"),
        ("https://[::1]:14000/dir", "ACME-::1-0000"),
    ],
)
def test_account_is_named_as_mod_md_names_it(store: Store, ca_url: str, expected: str) -> None:
    assert save_account(store, NEW._replace(ca_url=ca_url), KEY).id == expected


def test_numbers_are_claimed_from_the_lowest_free_one(store: Store) -> None:
    ids = [
        save_account(store, NEW._replace(url=f"https://acme.sectigo.com/acct/{n}"), KEY).id
        for n in range(3)
    ]
    assert [one[-4:] for one in ids] == ["0000", "0001", "0002"]
    shutil.rmtree(store.path / "accounts" / ids[1])
    account = NEW._replace(url="https://acme.sectigo.com/acct/9")
    assert save_account(store, account, KEY).id == ids[1]


def test_number_that_something_strange_holds_is_passed_over(store: Store) -> None:
    group = store.path / "accounts"
    (group / "ACME-acme.sectigo.com-0000").symlink_to("/tmp")
    (group / "ACME-acme.sectigo.com-0001").touch()
    assert save_account(store, NEW, KEY).id == "ACME-acme.sectigo.com-0002"


def test_run_killed_between_the_two_files_is_completed_not_doubled(store: Store) -> None:
    begin_account(store, DIRECTORY, EAB, lambda: KEY)
    saved = save_account(store, NEW, KEY)
    (store.path / "accounts" / saved.id / "account.pem").unlink()
    begin_account(store, DIRECTORY, EAB, lambda: KEY)
    assert find_accounts(store, DIRECTORY, EAB) == ()
    assert save_account(store, NEW, KEY) == saved
    assert [found.id for found, _ in find_accounts(store, DIRECTORY, EAB)] == [saved.id]


def test_saving_another_account_leaves_a_key_that_is_being_registered(store: Store) -> None:
    begin_account(store, DIRECTORY, EAB, lambda: KEY)
    save_account(store, NEW, OTHER_KEY)
    key = begin_account(store, DIRECTORY, EAB, must_not_make_a_key)
    assert public_bytes(key) == public_bytes(KEY)


def test_damaged_account_is_passed_over_with_a_warning(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    first = save_account(store, NEW, KEY)
    second = save_account(store, NEW._replace(url="https://acme.sectigo.com/acct/2"), KEY)
    (store.path / "accounts" / first.id / "account.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        found = find_accounts(store, DIRECTORY, EAB)
    assert [account.id for account, _ in found] == [second.id]
    assert first.id in caplog.text


@pytest.mark.parametrize("name", ["account.json", "account.pem"])
def test_damaged_account_is_an_error_where_no_other_one_serves(store: Store, name: str) -> None:
    damaged = store.path / "accounts" / save_account(store, NEW, KEY).id / name
    damaged.write_text("{")
    with pytest.raises(UnsafeStoreError) as caught:
        find_accounts(store, DIRECTORY, EAB)
    assert caught.value.path == str(damaged)


def test_damaged_account_of_another_binding_is_no_error(store: Store) -> None:
    saved = save_account(store, NEW, KEY)
    (store.path / "accounts" / saved.id / "account.pem").write_text("")
    assert find_accounts(store, DIRECTORY, ExternalAccount("kid-other", EAB.hmac)) == ()


def test_account_with_a_key_that_mod_md_cannot_use_is_not_used(store: Store) -> None:
    saved = save_account(store, NEW, generate_key(EC_SPEC))
    with pytest.raises(UnsafeStoreError, match="not RSA"):
        find_accounts(store, DIRECTORY, EAB)
    with pytest.raises(StoreError, match="not RSA"):
        load_account(store, saved.id)


def test_account_that_mod_md_left_in_staging_is_found_after_the_stored_ones(store: Store) -> None:
    put_in_staging(store, "a.example", NEW._replace(url="https://acme.sectigo.com/acct/2"))
    saved = save_account(store, NEW, KEY)
    found = find_accounts(store, DIRECTORY, EAB)
    assert [account.id for account, _ in found] == [saved.id, ""]


def test_same_account_in_staging_and_in_accounts_is_found_once(store: Store) -> None:
    put_in_staging(store, "a.example", NEW)
    save_account(store, NEW, KEY)
    assert len(find_accounts(store, DIRECTORY, EAB)) == 1


def _fifo(folder: Path) -> None:
    (folder / "account.json").unlink()
    os.mkfifo(folder / "account.json")


def _link(folder: Path) -> None:
    (folder / "account.pem").unlink()
    (folder / "account.pem").symlink_to("/etc/passwd")


def _hard_link(folder: Path) -> None:
    (folder.parent / "second").hardlink_to(folder / "account.pem")


def _huge(folder: Path) -> None:
    with (folder / "account.json").open("wb") as file:
        file.truncate(1 << 40)


def _nonsense(folder: Path) -> None:
    (folder / "account.json").write_text('{"url": 5}')


def _strange_host(folder: Path) -> None:
    text = json.loads((folder / "account.json").read_text())
    (folder / "account.json").write_text(json.dumps(text | {"ca-url": "https://%2e%2e/etc"}))


@pytest.mark.parametrize(
    "damage", [_fifo, _link, _hard_link, _huge, _nonsense, _strange_host], ids=lambda f: f.__name__
)
def test_hostile_account_in_staging_is_neither_found_nor_merged(
    store: Store, damage: Callable[[Path], None]
) -> None:
    damage(put_in_staging(store, "a.example", NEW))
    assert find_accounts(store, DIRECTORY, EAB) == ()
    assert merge(store, "a.example") is None
    assert not list((store.path / "accounts").glob("ACME-acme*"))


def test_staged_account_is_merged_under_a_number_of_its_own(store: Store) -> None:
    stored = save_account(store, NEW, KEY)
    staged = NEW._replace(url="https://acme.sectigo.com/acct/2")
    put_in_staging(store, "a.example", staged, OTHER_KEY)
    merged = merge(store, "a.example")
    assert merged == staged._replace(id="ACME-acme.sectigo.com-0001")
    kept = load_account(store, stored.id)
    assert kept is not None
    assert public_bytes(kept[1]) == public_bytes(KEY)


def test_staged_account_that_is_stored_already_changes_nothing(store: Store) -> None:
    stored = save_account(store, NEW, KEY)
    put_in_staging(store, "a.example", NEW, OTHER_KEY)
    assert merge(store, "a.example") == stored
    kept = load_account(store, stored.id)
    assert kept is not None
    assert public_bytes(kept[1]) == public_bytes(KEY)


def test_staging_cannot_fill_the_store_with_accounts(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accounts, "MAX_MERGED", 1)
    save_account(store, NEW, KEY)
    put_in_staging(store, "a.example", NEW._replace(url="https://acme.sectigo.com/acct/2"))
    with caplog.at_level(logging.WARNING):
        assert merge(store, "a.example") is None
    assert "too many" in caplog.text


def test_staging_without_an_account_has_none_to_merge(store: Store) -> None:
    store.make_in_group("staging", "a.example").close()
    assert merge(store, "a.example") is None


SITE = """\
MDomain {name}
<VirtualHost *:${{HTTPS_PORT}}>
    ServerName {name}
    SSLEngine on
</VirtualHost>
"""


def _open(apache: Apache) -> Store:
    store = Store.open(
        apache.store,
        httpd_user_uid=apache.store.joinpath("staging").stat().st_uid,
        httpd_group_gid=None,
        mod_md_loaded=True,
        create=True,
    )
    assert store is not None
    return store


@pytest.mark.apache
@pytest.mark.pebble
def test_account_of_the_real_mod_md_is_found_in_staging_and_merged(
    make_apache: Callable[..., Apache], trusting_ca: Pebble
) -> None:
    name = "staged-account.example"
    apache = make_apache(
        sites={"a": SITE.format(name=name)},
        main_extra=trusting_ca.directives(),
        renew_mode="auto",
    )
    eab = ExternalAccount("kid-1", trusting_ca.eab_keys["kid-1"])
    with apache:
        wait_until((apache.store / "staging" / name / "pubcert.pem").exists, "a staged set")
        with _open(apache) as store:
            ((account, key),) = find_accounts(store, trusting_ca.directory_url, eab)
            assert (account.id, account.status) == ("", "valid")
            merged = merge(store, name)
            assert merged == account._replace(id="ACME-localhost-0000")
            loaded = load_account(store, merged.id)
    assert loaded is not None
    assert public_bytes(loaded[1]) == public_bytes(key)


@pytest.mark.apache
@pytest.mark.pebble
def test_account_that_we_stored_is_used_by_the_real_mod_md(
    make_apache: Callable[..., Apache], trusting_ca: Pebble
) -> None:
    first, second = "first-account.example", "second-account.example"
    apache = make_apache(
        sites={"a": SITE.format(name=first)},
        main_extra=trusting_ca.directives(),
        renew_mode="auto",
    )
    eab = ExternalAccount("kid-1", trusting_ca.eab_keys["kid-1"])
    with apache:
        wait_until((apache.store / "staging" / first / "pubcert.pem").exists, "a staged set")
        with _open(apache) as store:
            ((account, key),) = find_accounts(store, trusting_ca.directory_url, eab)
            # what mod_md encrypted is written anew by us; all of its own traces of the account go
            saved = save_account(store, account, key)
        apache.stop()
        shutil.rmtree(apache.store / "staging" / first)
        apache.write_site("a", SITE.format(name=second))
        apache.start()
        with trusting_ca.recorded() as requests:
            wait_until((apache.store / "staging" / second / "pubcert.pem").exists, "a staged set")
    staged = json.loads((apache.store / "staging" / second / "md.json").read_text())
    assert staged["ca"]["account"] == saved.id
    assert not [one for one in requests if one.resource == "/sign-me-up"]


def test_store_without_accounts_has_none_to_load_or_to_find(store: Store) -> None:
    (store.path / "accounts").rmdir()
    assert load_account(store, "ACME-acme.sectigo.com-0000") is None
    assert accounts.account_ids(store) == ()
    assert find_accounts(store, DIRECTORY, EAB) == ()
    assert save_account(store, NEW, KEY).id.endswith("-0000")


def test_account_that_is_not_stored_is_none(store: Store) -> None:
    assert load_account(store, "ACME-acme.sectigo.com-0000") is None


def test_accounts_of_other_cas_are_not_even_read(store: Store) -> None:
    with store.make_in_group("accounts", "ACME-other.example-0000") as folder:
        folder.write("account.json", b"{", 0o644)
        folder.write("account.pem", b"", 0o644)
    assert find_accounts(store, DIRECTORY, EAB) == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_account_that_may_not_be_read_is_an_error_not_absent(
    store: Store, parts_folder: Path
) -> None:
    shutil.move(store.path, parts_folder / "md")
    with open_at(parts_folder / "md") as moved:
        saved = save_account(moved, NEW, KEY)
        moved.path.chmod(0o755)
        (moved.path / "accounts" / saved.id).chmod(0o700)
        os.seteuid(65534)
        try:
            with pytest.raises(StoreError) as caught:
                find_accounts(moved, DIRECTORY, EAB)
        finally:
            os.seteuid(0)
    assert caught.value.unreadable


@pytest.mark.parametrize("status", ["deactivated", "valid"])
def test_damaged_key_counts_only_for_an_account_that_could_be_used(
    store: Store, status: str
) -> None:
    saved = save_account(store, NEW._replace(status=status), KEY)
    (store.path / "accounts" / saved.id / "account.pem").write_bytes(b"damaged")
    if status == "valid":
        with pytest.raises(UnsafeStoreError):
            find_accounts(store, DIRECTORY, EAB)
    else:
        assert find_accounts(store, DIRECTORY, EAB) == ()


def test_entry_that_is_no_folder_may_be_the_account_that_is_meant(store: Store) -> None:
    (store.path / "accounts" / "ACME-acme.sectigo.com-0000").write_bytes(b"a file")
    with pytest.raises(UnsafeStoreError):
        find_accounts(store, DIRECTORY, EAB)


def test_account_with_a_key_but_without_its_record_may_be_the_one_that_is_meant(
    store: Store,
) -> None:
    saved = save_account(store, NEW, KEY)
    (store.path / "accounts" / saved.id / "account.json").unlink()
    assert load_account(store, saved.id) is None
    assert find_accounts(store, DIRECTORY, EAB) == ()


def test_folder_in_staging_that_vanishes_is_passed_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_staging(store, "a.example", NEW)
    real = Folder.names

    def names(folder: Folder) -> list[str]:
        return ["0.example", *real(folder)] if folder.path.name == "staging" else real(folder)

    monkeypatch.setattr(Folder, "names", names)
    assert [account.url for account, _ in find_accounts(store, DIRECTORY, EAB)] == [NEW.url]


def test_store_without_staging_has_no_staged_account(store: Store) -> None:
    (store.path / "staging").rmdir()
    assert find_accounts(store, DIRECTORY, EAB) == ()


def test_stored_account_whose_key_is_damaged_gets_the_staged_one(store: Store) -> None:
    saved = save_account(store, NEW, KEY)
    (store.path / "accounts" / saved.id / "account.pem").write_bytes(b"damaged")
    put_in_staging(store, "a.example", NEW)
    merged = merge(store, "a.example")
    assert merged is not None
    assert merged.id == saved.id
    assert load_account(store, saved.id) is not None


def test_numbers_run_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "MAX_ACCOUNTS", 1)
    save_account(store, NEW, KEY)
    with pytest.raises(StoreError, match="there are 1 accounts of this CA already"):
        save_account(store, NEW._replace(url="https://acme.sectigo.com/acct/2"), KEY)


def test_ca_without_a_host_has_no_accounts(store: Store) -> None:
    with pytest.raises(StoreError, match="no account can be named"):
        find_accounts(store, "https:///dir", EAB)


def test_status_of_an_account_that_is_not_stored_is_only_returned(store: Store) -> None:
    assert mark_account(store, NEW, "unknown").status == "unknown"
    assert accounts.account_ids(store) == ()


def test_other_pending_keys_stay_when_an_account_is_saved(store: Store) -> None:
    begin_account(store, DIRECTORY, None, lambda: OTHER_KEY)
    save_account(store, NEW, KEY)
    assert len(list((store.path / "mdconnector/accounts").iterdir())) == 1


def test_pending_folder_without_its_key_goes_with_the_account(store: Store) -> None:
    begin_account(store, DIRECTORY, EAB, lambda: KEY)
    (key,) = (store.path / "mdconnector/accounts").glob("*/key.pem")
    key.unlink()
    save_account(store, NEW, KEY)
    assert list((store.path / "mdconnector/accounts").iterdir()) == []


def test_folder_that_vanishes_between_two_looks_is_no_account(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = save_account(store, NEW, KEY)
    gone = "ACME-acme.sectigo.com-0001"
    monkeypatch.setattr(accounts, "account_ids", lambda _: (gone, saved.id))
    assert save_account(store, NEW, KEY).id == saved.id
    assert [one.id for one, _ in find_accounts(store, DIRECTORY, EAB)] == [saved.id]


def test_damaged_account_that_vanishes_meanwhile_is_none(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = save_account(store, NEW, KEY)

    def vanish(_: Store, account_id: str) -> None:
        shutil.rmtree(store.path / "accounts" / account_id)
        raise StoreError("damaged", path=account_id)

    monkeypatch.setattr(accounts, "load_account", vanish)
    assert find_accounts(store, DIRECTORY, EAB) == ()
    assert not (store.path / "accounts" / saved.id).exists()


def test_all_accounts_that_vanish_meanwhile_are_none(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_account(store, NEW, KEY)

    def vanish(_: Store, account_id: str) -> None:
        shutil.rmtree(store.path / "accounts")
        raise StoreError("damaged", path=account_id)

    monkeypatch.setattr(accounts, "load_account", vanish)
    assert find_accounts(store, DIRECTORY, EAB) == ()


def test_copies_of_an_account_in_staging_are_named_and_other_folders_passed_over(
    store: Store,
) -> None:
    store.make_in_group("staging", "0.example").close()
    first = put_in_staging(store, "a.example", NEW)
    put_in_staging(store, "b.example", NEW._replace(url="https://acme.sectigo.com/acct/2"))
    second = put_in_staging(store, "c.example", NEW)
    assert accounts.staged_copies(store, NEW.url) == (str(first), str(second))
