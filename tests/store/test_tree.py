"""Store: how a new one looks, whose things are, and what makes a whole store unusable."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mdconnector.errors import StoreError, UnsafeStoreError
from mdconnector.store.records import parse_store, render_store
from mdconnector.store.tree import GROUP_MODES, Store, folder_name
from tests.parts import Apache, Pebble, wait_until
from tests.store.kill_points import Call, watched

HTTPD_UID = 33
HTTPD_GID = 33
SOMEBODY = 65534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to change owners")


def open_store(
    path: Path, *, create: bool = True, mod_md_loaded: bool = True, read_only: bool = False
) -> Store:
    """Open a store that is there, or is made."""
    store = Store.open(
        path,
        httpd_user_uid=HTTPD_UID,
        httpd_group_gid=HTTPD_GID,
        mod_md_loaded=mod_md_loaded,
        create=create,
        read_only=read_only,
    )
    assert store is not None
    return store


@pytest.fixture
def path(parts_folder: Path) -> Path:
    """Where a store is to be; other users can reach it."""
    return parts_folder / "md"


@contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """Be another user for a while."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def mode_of(path: Path) -> int:
    """The permission bits of a file or folder."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
def test_new_store_has_the_modes_of_mod_md_under_any_umask(path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with open_store(path) as store:
            for group in ("domains", "archive", "tmp"):
                store.make_group(group).close()
            store.make_in_group("accounts", "ACME-ca.example-0000").close()
            store.make_own("pending", "a.example").close()
    finally:
        os.umask(before)
    modes = {str(p.relative_to(path)): oct(mode_of(p)) for p in (path, *path.rglob("*"))}
    assert modes == {
        ".": "0o750",
        "md_store.json": "0o600",
        "store.lock": oct(0o640 & ~mask),
        "accounts": "0o755",
        "accounts/ACME-ca.example-0000": "0o755",
        "challenges": "0o755",
        "staging": "0o755",
        "domains": "0o700",
        "archive": "0o700",
        "tmp": "0o700",
        "mdconnector": "0o700",
        "mdconnector/pending": "0o700",
        "mdconnector/pending/a.example": "0o700",
    }


@as_root
@pytest.mark.parametrize(("mod_md_loaded", "staging_owner"), [(True, HTTPD_UID), (False, 0)])
def test_staging_belongs_to_apaches_user_only_where_mod_md_is_loaded(
    path: Path, mod_md_loaded: bool, staging_owner: int
) -> None:
    with open_store(path, mod_md_loaded=mod_md_loaded) as store:
        store.make_in_group("staging", "a.example").close()
        store.make_in_group("accounts", "ACME-ca.example-0000").close()
        folder = store.make_in_group("challenges", "a.example")
        folder.write("acme-http-01.txt", b"answer", 0o644)
    owners = {
        name: (path / name).stat().st_uid
        for name in ("staging", "staging/a.example", "challenges/a.example/acme-http-01.txt")
    }
    assert set(owners.values()) == {staging_owner}
    assert path.stat().st_gid == HTTPD_GID
    assert {(path / name).stat().st_uid for name in (".", "accounts", "mdconnector")} == {0}


def test_group_that_mod_md_made_is_opened_to_apaches_user_with_the_first_write(path: Path) -> None:
    with open_store(path) as store:
        (path / "accounts").chmod(0o750)
        store.make_in_group("accounts", "ACME-ca.example-0000").close()
    assert mode_of(path / "accounts") == 0o755


def test_two_runs_that_make_a_new_store_at_once_make_one(path: Path) -> None:
    other: list[bytes] = []
    meeting = threading.Thread(target=lambda: other.append(open_store(path).passphrase()))

    def watch(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], original: Call) -> Any:
        done = original(*args, **kwargs)
        # the second comes when the first is about to write its key; it ends, or waits for the first
        if name == "open" and str(args[0]).startswith(".new-") and meeting.ident is None:
            meeting.start()
            meeting.join(0.5)
        return done

    with watched(watch), open_store(path) as store:
        meeting.join()
        assert other == [store.passphrase()]


def test_new_store_has_a_key_that_stays(path: Path) -> None:
    with open_store(path) as store:
        passphrase = store.passphrase()
    with open_store(path) as store:
        assert store.passphrase() == passphrase
    assert len(passphrase) == 48
    assert json.loads((path / "md_store.json").read_text())["store"] == {"version": 3.0}


def test_missing_parents_are_made_so_that_apaches_user_gets_through(path: Path) -> None:
    before = os.umask(0o077)
    try:
        open_store(path / "deeper" / "md").close()
    finally:
        os.umask(before)
    assert mode_of(path) == 0o755


def test_absent_store_is_none_and_stays_absent(path: Path) -> None:
    store = Store.open(
        path, httpd_user_uid=None, httpd_group_gid=None, mod_md_loaded=False, create=False
    )
    assert store is None
    assert not path.exists()


def test_read_only_makes_nothing(path: Path) -> None:
    path.mkdir()
    with open_store(path, create=False, read_only=True) as store:
        assert store.domains() is None
        assert store.own("pending") is None
    assert list(path.iterdir()) == []


def test_group_that_is_absent_is_none(path: Path) -> None:
    with open_store(path) as store:
        assert store.domains() is None
        assert store.archive() is None
        assert store.tmp() is None
        assert store.own("pending", "a.example") is None


def _file(path: Path) -> None:
    path.touch()


def _no_store_file(path: Path) -> None:
    open_store(path).close()
    (path / "md_store.json").unlink()
    account = path / "accounts" / "ACME-ca.example-0000"
    account.mkdir()
    (account / "account.pem").touch()


def _store_file(content: bytes) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        open_store(path).close()
        (path / "md_store.json").write_bytes(content)

    return damage


def _store_file_is_a_link(path: Path) -> None:
    open_store(path).close()
    (path / "md_store.json").rename(path / "elsewhere")
    (path / "md_store.json").symlink_to("elsewhere")


def _wide_own_folder(path: Path) -> None:
    open_store(path).close()
    (path / "mdconnector").chmod(0o755)


def _own_folder_is_a_link(path: Path) -> None:
    path.mkdir()
    (path / "elsewhere").mkdir(mode=0o700)
    (path / "mdconnector").symlink_to("elsewhere")


def _domains_is_a_file(path: Path) -> None:
    open_store(path).close()
    (path / "domains").touch()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_file, "not a folder"),
        (_no_store_file, "is missing, and the keys in accounts"),
        (_store_file(b""), "it is no JSON"),
        (_store_file(b'{"store": {"version": 3.0}}'), "member 'key' is missing"),
        (_store_file(b'{"store": {"version": 3.0}, "key": "c2hvcnQ"}'), "has not 48 bytes"),
        (_store_file(b'{"store": {"version": 3.0}, "key": "\\u00e4"}'), "not base64url"),
        (_store_file(render_store(bytes(48)).replace(b"3.0", b"4.0")), "newer than 3.0"),
        (_store_file(render_store(bytes(48)).replace(b"3.0", b"2.0")), "start Apache's mod_md"),
        (_store_file_is_a_link, "symbolic link"),
        (_wide_own_folder, "its mode is 0755"),
        (_own_folder_is_a_link, "symbolic link"),
        (_domains_is_a_file, "not a folder"),
    ],
)
def test_damaged_store_is_unsafe(path: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(path)
    with pytest.raises(UnsafeStoreError, match=message) as caught:
        open_store(path)
    assert caught.value.exit_code == 3


@as_root
def test_own_folder_of_another_user_is_unsafe(path: Path) -> None:
    open_store(path).close()
    os.chown(path / "mdconnector", SOMEBODY, -1)
    with pytest.raises(UnsafeStoreError, match="not to the store's owner"):
        open_store(path)


@as_root
def test_store_of_another_user_is_unsafe_for_a_writer(path: Path) -> None:
    open_store(path).close()
    path.chmod(0o755)
    with acting_as(SOMEBODY), pytest.raises(UnsafeStoreError, match="belongs to uid 0"):
        open_store(path, create=False)


@as_root
def test_store_that_cannot_be_searched_is_unsafe_and_unreadable(path: Path) -> None:
    open_store(path).close()
    with acting_as(SOMEBODY), pytest.raises(StoreError) as caught:
        open_store(path, create=False, read_only=True)
    assert caught.value.unreadable


@as_root
def test_domains_that_cannot_be_read_are_unreadable_not_absent(path: Path) -> None:
    with open_store(path) as store:
        store.make_group("domains").close()
    path.chmod(0o755)
    with (
        acting_as(SOMEBODY),
        open_store(path, create=False, read_only=True) as store,
        pytest.raises(StoreError) as caught,
    ):
        store.domains()
    assert caught.value.unreadable
    assert "sudo" in (caught.value.hint or "")


@as_root
def test_owner_without_root_makes_everything_his_own(parts_folder: Path) -> None:
    os.chown(parts_folder, SOMEBODY, -1)
    path = parts_folder / "md"
    with acting_as(SOMEBODY), open_store(path) as store:
        store.make_in_group("staging", "a.example").close()
        store.make_own("pending").close()
    assert {entry.stat().st_uid for entry in (path, *path.rglob("*"))} == {SOMEBODY}


@as_root
def test_root_leaves_what_it_makes_to_the_stores_owner(parts_folder: Path) -> None:
    os.chown(parts_folder, SOMEBODY, -1)
    path = parts_folder / "md"
    with acting_as(SOMEBODY):
        open_store(path, mod_md_loaded=False).close()
    with open_store(path, mod_md_loaded=False) as store:
        store.make_in_group("domains", "a.example").write("md.json", b"{}", 0o600)
        store.make_own("pending", "a.example").write("privkey.pem", b"", 0o600)
    assert {entry.stat().st_uid for entry in (path, *path.rglob("*"))} == {SOMEBODY}


def test_matrix_p4_part_on_another_file_system_is_unsafe(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(path).close()
    devices = iter([1, 1, 2])
    original = os.fstat

    def fstat(fd: int) -> os.stat_result:
        status = list(original(fd))
        status[stat.ST_DEV] = next(devices, 1)
        return os.stat_result(status)

    store = open_store(path)
    monkeypatch.setattr(os, "fstat", fstat)
    with pytest.raises(UnsafeStoreError, match="another file system"):
        store._check_parts()


def test_too_little_space_is_an_error_before_anything_is_ordered(path: Path) -> None:
    with open_store(path) as store:
        store.check_space(1024)
        with pytest.raises(StoreError, match="No space left") as caught:
            store.check_space(1 << 60)
    assert "df" in (caught.value.hint or "")


def test_too_few_inodes_are_an_error(path: Path) -> None:
    with open_store(path) as store:
        if not os.fstatvfs(store.base.fd).f_files:
            pytest.skip("this file system does not count inodes")
        with pytest.raises(StoreError, match="No space left"):
            store.check_space(1, inodes_needed=1 << 60)


def test_store_that_is_too_open_is_only_a_finding(path: Path) -> None:
    open_store(path).close()
    path.chmod(0o755)
    (path / "md_store.json").chmod(0o644)
    with open_store(path) as store:
        codes = [(finding.code, finding.at) for finding in store.findings()]
    assert codes == [
        ("store-readable-by-all", str(path)),
        ("store-too-open", str(path / "md_store.json")),
    ]


def test_new_store_has_no_findings(path: Path) -> None:
    with open_store(path) as store:
        store.make_group("domains").close()
        assert store.findings() == ()


@pytest.mark.parametrize("name", ["a.example", "*.a.example", "xn--bcher-kva.example"])
def test_dns_name_is_the_folders_name(name: str) -> None:
    assert folder_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "..", "a/../b.example", "a.example/", "A.example", "a..example", "a\0.example", "a"],
)
def test_what_is_no_dns_name_never_becomes_a_path(name: str) -> None:
    with pytest.raises(StoreError):
        folder_name(name)


SITE = """\
MDomain modes.example
<VirtualHost *:${HTTPS_PORT}>
    ServerName modes.example
    SSLEngine on
</VirtualHost>
"""


@as_root
@pytest.mark.apache
@pytest.mark.pebble
def test_modes_and_owners_are_those_of_the_real_mod_md(
    make_apache: Callable[..., Apache], trusting_ca: Pebble, parts_folder: Path
) -> None:
    apache = make_apache(sites={"a": SITE}, main_extra=trusting_ca.directives(), renew_mode="auto")
    with apache:
        wait_until((apache.store / "staging/modes.example/pubcert.pem").exists, "a staged set")
        apache.graceful()
        wait_until((apache.store / "domains/modes.example/pubcert.pem").exists, "activation")
    path = parts_folder / "ours"
    with open_store(path) as store:
        for group in GROUP_MODES.keys() - {"ocsp"}:
            folder = "ACME-localhost-0000" if group == "accounts" else "modes.example"
            store.make_in_group(group, folder).close()
    theirs = {str(p.relative_to(apache.store)): _seen(p) for p in apache.store.rglob("*")}
    ours = {str(p.relative_to(path)): _seen(p) for p in path.rglob("*")}
    common = theirs.keys() & ours.keys()
    assert common >= {"md_store.json", "staging", "accounts/ACME-localhost-0000", "archive", "tmp"}
    assert {name: ours[name] for name in common} == {name: theirs[name] for name in common}


def _seen(path: Path) -> tuple[str, int]:
    status = path.stat()
    return oct(stat.S_IMODE(status.st_mode)), status.st_uid


@pytest.mark.apache
def test_store_that_mod_md_made_is_opened(make_apache: Callable[..., Apache]) -> None:
    with make_apache() as apache, open_store(apache.store, create=False) as store:
        made = (apache.store / "md_store.json").read_bytes()
        assert store.passphrase() == parse_store(made)
        assert render_store(store.passphrase()) == made


def test_damaged_store_file_is_a_finding_with_what_it_means(path: Path) -> None:
    open_store(path).close()
    (path / "md_store.json").write_bytes(b"{")
    with open_store(path, create=False, read_only=True) as store:
        (finding,) = [one for one in store.findings() if one.code == "store"]
    assert finding.at == str(path / "md_store.json")
    assert finding.message.endswith("Apache with mod_md does not start")
    assert finding.hint


@as_root
def test_store_file_that_may_not_be_read_is_no_finding(path: Path) -> None:
    open_store(path).close()
    path.chmod(0o755)
    with acting_as(SOMEBODY), open_store(path, create=False, read_only=True) as store:
        assert [one.code for one in store.findings()] == ["store-readable-by-all"]


def test_group_without_a_name_is_told_by_its_number(path: Path) -> None:
    open_store(path).close()
    path.chmod(0o755)
    store = Store.open(
        path,
        httpd_user_uid=None,
        httpd_group_gid=4_000_000,
        mod_md_loaded=False,
        create=False,
        read_only=True,
    )
    assert store is not None
    with store:
        (finding,) = store.findings()
    assert finding.hint == f"chgrp 4000000 {path} && chmod 0750 {path}"


def test_store_without_a_group_to_give_it_to_is_only_closed(path: Path) -> None:
    open_store(path).close()
    path.chmod(0o755)
    store = Store.open(
        path,
        httpd_user_uid=None,
        httpd_group_gid=None,
        mod_md_loaded=False,
        create=False,
        read_only=True,
    )
    assert store is not None
    with store:
        (finding,) = store.findings()
    assert finding.hint == f"chmod 0750 {path}"


def test_store_that_nobody_has_finished_is_none_of_mod_mds(path: Path) -> None:
    path.mkdir()
    with open_store(path, create=False, read_only=True) as store:
        assert store.own() is None
        assert store.findings()


def test_missing_store_file_is_an_error_where_the_store_is_not_to_be_made(path: Path) -> None:
    open_store(path).close()
    (path / "md_store.json").unlink()
    with pytest.raises(
        UnsafeStoreError, match="the file that makes this a store is missing"
    ) as caught:
        open_store(path, create=False)
    assert "renew --all' makes one where none ever was" in (caught.value.hint or "")


def test_missing_store_file_is_made_anew_where_no_key_needs_it(path: Path) -> None:
    open_store(path).close()
    (path / "md_store.json").unlink()
    (path / "accounts" / "README").touch()
    (path / "accounts" / "ACME-ca.example-0000").mkdir()
    with open_store(path) as store:
        assert len(store.passphrase()) == 48


@pytest.mark.parametrize("has_accounts", [True, False])
def test_store_on_a_disk_that_is_read_only_is_unsafe(
    path: Path, monkeypatch: pytest.MonkeyPatch, has_accounts: bool
) -> None:
    open_store(path).close()
    real = os.fstatvfs
    status = real(os.open(path, os.O_RDONLY))
    fields = [*status[:8], status.f_flag | os.ST_RDONLY, *status[9:]]
    monkeypatch.setattr(os, "fstatvfs", lambda _: os.statvfs_result(fields))
    with pytest.raises(UnsafeStoreError, match="Read-only file system") as caught:
        open_store(path)
    assert caught.value.hint
    assert "read-only" in caught.value.hint


@as_root
def test_owner_who_may_not_write_is_told_how_he_may(parts_folder: Path) -> None:
    parts_folder.chmod(0o777)
    with acting_as(SOMEBODY):
        store = parts_folder / "md"
        open_store(store, mod_md_loaded=False).close()
        store.chmod(0o550)
        with pytest.raises(UnsafeStoreError, match="cannot be written to") as caught:
            open_store(store, mod_md_loaded=False)
        assert caught.value.hint == f"chmod u+rwx {store}, or run it with sudo"


@as_root
def test_store_below_a_folder_that_may_not_be_searched_is_unreadable(parts_folder: Path) -> None:
    (parts_folder / "closed").mkdir(mode=0o700)
    with acting_as(SOMEBODY), pytest.raises(UnsafeStoreError, match="cannot be opened") as caught:
        open_store(parts_folder / "closed" / "md", create=False)
    assert caught.value.unreadable
