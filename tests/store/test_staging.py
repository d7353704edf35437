"""Staging holds complete sets as mod_md writes them, and nothing of value is lost from it."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from mdconnector.errors import StoreError
from mdconnector.keys import generate_account_key, key_from_pem, key_to_pem, public_bytes
from mdconnector.store import folder as folders
from mdconnector.store.records import StoredAccount, render_account
from mdconnector.store.staged import FoundSet, read_sets
from mdconnector.store.staging import clear_staged, recover_staging, set_aside, stage
from mdconnector.store.tree import Store
from tests.authority import EC_SPEC
from tests.store import kill_points
from tests.store.credentials import ACCOUNT_ID, CA_URL, DOMAIN, NAME, NEW, NOW, OLD, leaves
from tests.store.credentials import open_store as open_store_at
from tests.store.disk import unsynced
from tests.store.kill_points import Call, changes_of

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
ACCOUNT_KEY = generate_account_key()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A new store, beside an Apache with mod_md."""
    with open_store_at(tmp_path / "md", mod_md_loaded=True) as opened:
        yield opened


def stage_set(store: Store, *credentials: object) -> Path:
    """Stage a set, the new one where none is named."""
    stage(store, DOMAIN, credentials or (NEW,), ca_url=CA_URL, account_id=ACCOUNT_ID, now=NOW)  # type: ignore[arg-type] # credentials only
    return store.path / "staging" / NAME


def staged(store: Store) -> tuple[str, ...]:
    """Return the leaves of the set that waits."""
    _, found = read_sets(store, DOMAIN, now=NOW)
    assert isinstance(found, FoundSet), found
    assert found.staged.fault is None
    return leaves(*found.credentials)


def put_account(store: Store) -> None:
    """Leave an account in staging as mod_md does while it registers."""
    account = StoredAccount(
        id="", url="https://ca.example/acct/1", ca_url=CA_URL, contact=("mailto:a@a.example",)
    )
    with store.make_in_group("staging", NAME) as folder:
        folder.write("account.json", render_account(account), 0o644)
        folder.write("account.pem", key_to_pem(ACCOUNT_KEY, store.passphrase()), 0o644)


def work_of(store: Store) -> list[Path]:
    """Return all that is left in work/, two levels down."""
    return list((store.path / "mdconnector/work").glob("*/*"))


def test_staged_set_is_read_back_whole(store: Store) -> None:
    stage_set(store)
    assert staged(store) == leaves(NEW)
    assert work_of(store) == []


def test_staged_key_is_encrypted_with_the_store_key(store: Store) -> None:
    folder = stage_set(store)
    pem = (folder / EC_SPEC.privkey_name).read_bytes()
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in pem
    assert public_bytes(key_from_pem(pem, store.passphrase())) == public_bytes(NEW.key)


def test_staged_records_are_what_mod_md_reads(store: Store) -> None:
    folder = stage_set(store)
    md = json.loads((folder / "md.json").read_bytes())
    assert (md["name"], md["ca"]["url"], md["ca"]["account"]) == (NAME, CA_URL, ACCOUNT_ID)
    assert "eab" not in md
    job = json.loads((folder / "job.json").read_bytes())
    assert (job["finished"], job["notified-renewed"], job["errors"]) == (True, True, 0)


@as_root
def test_staged_files_belong_to_apache_where_mod_md_is_loaded(store: Store) -> None:
    folder = stage_set(store)
    assert {path.stat().st_uid for path in (folder, *folder.iterdir())} == {33}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o644}


def test_staged_files_belong_to_the_owner_where_mod_md_is_not_loaded(tmp_path: Path) -> None:
    with open_store_at(tmp_path / "md") as store:
        folder = stage_set(store)
        assert {path.stat().st_uid for path in (folder, *folder.iterdir())} == {os.geteuid()}


def test_modes_do_not_depend_on_the_umask(store: Store) -> None:
    before = os.umask(0o077)
    try:
        folder = stage_set(store)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_newer_set_replaces_a_staged_one(store: Store) -> None:
    stage_set(store, OLD)
    stage_set(store, NEW)
    assert staged(store) == leaves(NEW)
    assert work_of(store) == []


def test_set_replaces_a_staged_one_where_folders_cannot_be_exchanged(store: Store) -> None:
    stage_set(store, OLD)
    changes_of(lambda: stage_set(store, NEW), can_exchange=False)
    assert staged(store) == leaves(NEW)
    assert work_of(store) == []


def test_set_is_on_the_disk_before_it_is_in_staging(store: Store) -> None:
    with unsynced() as dirty:
        stage_set(store)
        assert not dirty()


def test_everything_is_on_the_disk_before_an_exchange(store: Store) -> None:
    stage_set(store, OLD)
    seen: list[set[str]] = []
    with unsynced(before_exchange=seen.append) as dirty:
        stage_set(store, NEW)
        assert not dirty()
    assert seen
    assert not [path for paths in seen for path in paths if f"work/staging/{NAME}" in path]


def test_account_of_mod_md_is_kept_when_its_folder_is_replaced(store: Store) -> None:
    put_account(store)
    stage_set(store)
    (saved,) = (store.path / "accounts").iterdir()
    assert json.loads((saved / "account.json").read_bytes())["url"] == "https://ca.example/acct/1"
    assert not (store.path / "staging" / NAME / "account.json").exists()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: path.symlink_to("/etc"), id="link to a folder"),
        pytest.param(lambda path: path.symlink_to("nowhere"), id="dangling link"),
        pytest.param(lambda path: path.write_bytes(b"x"), id="file"),
        pytest.param(os.mkfifo, id="fifo"),
        pytest.param(lambda path: (path / "a" / "b").mkdir(parents=True), id="tree"),
        pytest.param(lambda path: path.mkdir(mode=0o000), id="closed folder", marks=as_root),
    ],
)
def test_whatever_lies_in_the_way_is_replaced_and_not_followed(store: Store, make: object) -> None:
    path = store.path / "staging" / NAME
    make(path)  # type: ignore[operator] # a table of functions
    stage_set(store)
    assert staged(store) == leaves(NEW)
    assert work_of(store) == []
    assert Path("/etc/passwd").exists()


def test_cleared_staging_is_gone_and_its_account_is_not(store: Store) -> None:
    stage_set(store)
    put_account(store)
    assert clear_staged(store, NAME)
    assert not (store.path / "staging" / NAME).exists()
    assert len(list((store.path / "accounts").iterdir())) == 1
    assert not clear_staged(store, NAME)


def test_set_aside_keeps_everything_and_says_why(store: Store) -> None:
    first = stage_set(store)
    key = (first / EC_SPEC.privkey_name).read_bytes()
    path = set_aside(store, "staging", NAME, "its chain has no key")
    assert path == store.path / "mdconnector/set-aside" / f"{NAME}.1"
    assert (path / EC_SPEC.privkey_name).read_bytes() == key
    assert "its chain has no key" in path.with_name(f"{NAME}.1.reason").read_text()
    stage_set(store)
    assert set_aside(store, "staging", NAME, "again").name == f"{NAME}.2"


def test_setting_aside_nothing_is_an_error_with_the_path(store: Store) -> None:
    with pytest.raises(StoreError) as caught:
        set_aside(store, "staging", NAME, "why")
    assert caught.value.path == str(store.path / "staging" / NAME)


def test_half_done_staging_is_removed_and_its_account_kept(store: Store) -> None:
    put_account(store)
    work = store.path / "mdconnector/work/staging"
    work.mkdir(parents=True, mode=0o700)
    (store.path / "staging" / NAME).rename(work / NAME)
    assert list(recover_staging(store)) == [(NAME, None)]
    assert work_of(store) == []
    assert len(list((store.path / "accounts").iterdir())) == 1


def test_only_mod_mds_groups_that_are_there_have_something_to_set_aside(store: Store) -> None:
    with pytest.raises(StoreError, match="nothing to set aside") as caught:
        set_aside(store, "domains", NAME, "why")
    assert caught.value.path == str(store.path / "domains" / NAME)
    (store.path / "domains" / NAME).mkdir(parents=True)
    assert set_aside(store, "domains", NAME, "why").name == f"{NAME}.1"


def test_nothing_in_staging_is_nothing_to_clear(store: Store) -> None:
    assert not clear_staged(store, NAME)
    (store.path / "staging").rmdir()
    assert not clear_staged(store, NAME)


def refusing(how: Callable[[], None]) -> Call:
    """Let something happen before each rename that ends in staging."""
    real = folders._renameat2

    def renameat2(from_fd: int, from_name: str, to_fd: int, to_name: str, flags: int) -> bool:
        if Path(f"/proc/self/fd/{to_fd}").readlink().parts[-2:] == ("md", "staging"):
            how()
        return real(from_fd, from_name, to_fd, to_name, flags)

    return renameat2


def test_folder_that_mod_md_makes_meanwhile_is_replaced(store: Store) -> None:
    path = store.path / "staging" / NAME
    with mock.patch.object(folders, "_renameat2", refusing(lambda: path.mkdir(exist_ok=True))):
        stage_set(store)
    assert staged(store) == leaves(NEW)


def test_folder_that_mod_md_removes_meanwhile_is_made_anew(store: Store) -> None:
    path = store.path / "staging" / NAME
    path.mkdir()

    def remove() -> None:
        if path.exists() and not any(path.iterdir()):
            path.rmdir()

    with mock.patch.object(folders, "_renameat2", refusing(remove)):
        stage_set(store)
    assert staged(store) == leaves(NEW)


def test_staging_that_changes_all_the_time_is_given_up(store: Store) -> None:
    path = store.path / "staging" / NAME
    path.mkdir()

    def vanish() -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    with (
        mock.patch.object(folders, "_renameat2", refusing(vanish)),
        pytest.raises(StoreError, match="changes all the time"),
    ):
        stage_set(store)
    assert list(path.iterdir()) == []


def test_disk_that_fails_is_an_error_and_staging_stays(store: Store) -> None:
    stage_set(store, OLD)

    def fail() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with (
        mock.patch.object(folders, "_renameat2", refusing(fail)),
        pytest.raises(StoreError, match="Input/output error"),
    ):
        stage_set(store)
    assert staged(store) == leaves(OLD)


def test_set_that_mod_md_takes_away_meanwhile_is_nothing_to_clear(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(store, DOMAIN, (NEW,), ca_url=CA_URL, account_id=ACCOUNT_ID, now=NOW)
    make_own = store.make_own

    def meanwhile(*parts: str) -> folders.Folder:
        with store.make_group("staging") as staging:
            staging.remove_tree(NAME)
        return make_own(*parts)

    monkeypatch.setattr(Store, "make_own", lambda _, *parts: meanwhile(*parts))
    assert clear_staged(store, NAME) is False


def test_staging_that_the_disk_does_not_let_go_is_an_error_and_stays(store: Store) -> None:
    stage_set(store)
    with (
        kill_points.refusing("renameat2", errno.EIO) as was_refused,
        pytest.raises(StoreError, match="Input/output error"),
    ):
        clear_staged(store, NAME)
    assert was_refused()
    assert staged(store) == leaves(NEW)
