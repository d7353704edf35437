"""Sets become live whole, old ones are archived, and a harmful one goes back where it came from."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from mdconnector.certificates import Credential, chain_to_pem
from mdconnector.errors import StoreBusyError, StoreError
from mdconnector.store import folder as folders
from mdconnector.store.archive import Archive
from mdconnector.store.attempts import load_attempt
from mdconnector.store.lock import store_lock
from mdconnector.store.pending import Pending
from mdconnector.store.promotion import (
    Prepared,
    Swapped,
    discard,
    finish,
    finish_rollbacks,
    make_durable,
    prepare,
    put_back,
    refused_credentials,
    swap,
)
from mdconnector.store.set_aside import move_numbered, numbered_stem
from mdconnector.store.staging import stage
from mdconnector.store.tree import Store
from tests.authority import DAY, EC_SPEC, RSA_SPEC
from tests.store.credentials import (
    ACCOUNT_ID,
    CA,
    CA_URL,
    DOMAIN,
    NAME,
    NAMES,
    NEW,
    NOW,
    OLD,
    aged,
    keys_in,
    leaves,
    live,
    put_set,
    set_in,
)
from tests.store.credentials import open_store as open_store_at
from tests.store.disk import locked_exchanges, unsynced
from tests.store.kill_points import Call, changes_of, failing_at, refusing, watched

CHAIN = EC_SPEC.pubcert_name


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A new store."""
    with open_store_at(tmp_path / "md") as opened:
        yield opened


def prepared(store: Store, *credentials: Credential) -> Prepared:
    """Prepare a set, the new one where none is named."""
    return prepare(
        store, DOMAIN, credentials or (NEW,), ca_url=CA_URL, account_id=ACCOUNT_ID, now=NOW
    )


def swapped(store: Store) -> Swapped:
    """Swap in what is prepared."""
    results = swap(store, [NAME])
    assert results is not None
    result = results[NAME]
    assert isinstance(result, Swapped), result
    return result


def promote(store: Store, *credentials: Credential) -> Swapped:
    """Promote a set from beginning to end."""
    prepared(store, *credentials)
    result = swapped(store)
    assert finish(store, [NAME]) == {NAME: ()}
    return result


def work_of(store: Store) -> list[Path]:
    return list((store.path / "mdconnector/work").glob("*/*"))


def archived(store: Store) -> dict[str, tuple[str, ...] | None]:
    folder = store.path / "archive"
    return {path.name: set_in(store, "archive", path.name) for path in sorted(folder.iterdir())}


def test_nothing_is_live_before_the_swap(store: Store) -> None:
    put_set(store, "domains", NAME, OLD)
    prepared(store)
    assert live(store) == leaves(OLD)


def test_swap_makes_the_new_set_live_and_says_what_it_replaced(store: Store) -> None:
    put_set(store, "domains", NAME, OLD)
    prepared(store)
    assert swapped(store) == Swapped(NAME, live=leaves(NEW), replaced=leaves(OLD))
    assert live(store) == leaves(NEW)


def test_first_set_replaces_nothing(store: Store) -> None:
    assert promote(store) == Swapped(NAME, live=leaves(NEW), replaced=())
    assert live(store) == leaves(NEW)
    assert archived(store) == {}
    assert work_of(store) == []


def test_old_set_goes_to_the_archive(store: Store) -> None:
    put_set(store, "domains", NAME, OLD)
    promote(store)
    assert archived(store) == {f"{NAME}.1": leaves(OLD)}
    assert work_of(store) == []


def test_live_set_has_modes_and_records_as_mod_md_makes_them(store: Store) -> None:
    promote(store)
    folder = store.path / "domains" / NAME
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {
        "job.json": 0o600,
        "md.json": 0o600,
        EC_SPEC.privkey_name: 0o600,
        CHAIN: 0o600,
    }
    md = json.loads((folder / "md.json").read_bytes())
    assert (md["name"], md["state"], md["ca"]["account"]) == (NAME, 2, ACCOUNT_ID)
    assert b"BEGIN PRIVATE KEY" in (folder / EC_SPEC.privkey_name).read_bytes()


def test_matrix_p6_unknown_files_stay_beside_the_live_set(store: Store) -> None:
    folder = put_set(store, "domains", NAME, OLD)
    (folder / "combined.pem").write_bytes(b"for haproxy")
    (folder / "combined.pem").chmod(0o640)
    (folder / "fallback-privkey.pem").write_bytes(b"x")
    (folder / "privkey.secp384r1.pem").write_bytes(b"x")
    (folder / "link").symlink_to("combined.pem")
    assert prepared(store).left_behind == ("link",)
    swapped(store)
    assert {path.name for path in folder.iterdir()} == {
        "combined.pem",
        "job.json",
        "md.json",
        EC_SPEC.privkey_name,
        CHAIN,
    }
    assert (folder / "combined.pem").read_bytes() == b"for haproxy"
    assert stat.S_IMODE((folder / "combined.pem").stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to set a security label")
def test_security_label_of_the_live_folder_is_kept(store: Store) -> None:
    folder = put_set(store, "domains", NAME, OLD)
    label = b"system_u:object_r:httpd_config_t:s0"
    try:
        os.setxattr(folder, "security.selinux", label)
    except OSError as error:
        pytest.skip(f"no security labels here: {error}")
    promote(store)
    assert os.getxattr(folder, "security.selinux") == label


def test_all_sets_are_swapped_in_one_burst_and_one_failure_stops_no_other(store: Store) -> None:
    other = DOMAIN._replace(name="b.example", names=("b.example",))
    pair = CA.credential(other.names)
    prepared(store)
    prepare(store, other, (pair,), ca_url=CA_URL, account_id=ACCOUNT_ID, now=NOW)
    results = swap(store, [NAME, "missing.example", "b.example"])
    assert results is not None
    assert isinstance(results["missing.example"], StoreError)
    assert live(store) == leaves(NEW)
    assert set_in(store, "domains", "b.example") == leaves(pair)


def test_nothing_is_swapped_while_apache_is_busy(store: Store) -> None:
    put_set(store, "domains", NAME, OLD)
    one = prepared(store)
    assert swap(store, [NAME], is_idle=lambda: False) is None
    assert live(store) == leaves(OLD)
    discard(store, [one])
    assert work_of(store) == []
    assert live(store) == leaves(OLD)


def test_burst_ends_where_apache_wakes_up_and_the_rest_waits_for_another(store: Store) -> None:
    names = ("b.example", "c.example", "d.example")
    for name in names:
        pair = CA.credential((name,))
        domain = DOMAIN._replace(name=name, names=(name,))
        prepare(store, domain, (pair,), ca_url=CA_URL, account_id=ACCOUNT_ID, now=NOW)
    stillness = iter((True, False, True, True))
    first = swap(store, names, is_still=lambda: next(stillness))
    assert first is not None
    assert list(first) == ["b.example"]
    assert {path.name for path in work_of(store)} == {"c.example", "d.example"}
    second = swap(store, names[1:], is_still=lambda: next(stillness))
    assert second is not None
    assert list(second) == ["c.example", "d.example"]
    assert work_of(store) == []
    assert swap(store, [], is_still=lambda: False) is None


def test_discarding_never_touches_a_set_that_was_live(store: Store) -> None:
    put_set(store, "domains", NAME, OLD)
    one = prepared(store)
    swapped(store)
    discard(store, [one])
    assert set_in(store, "mdconnector", "work", "domains", NAME) == leaves(OLD)


def test_matrix_b4_nothing_is_swapped_while_another_holds_store_lock(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_set(store, "domains", NAME, OLD)
    prepared(store)
    seconds = iter(range(100))
    monkeypatch.setattr("mdconnector.store.lock._POLL_SECONDS", 0)
    monkeypatch.setattr("mdconnector.store.lock.time.monotonic", lambda: next(seconds))
    with store_lock(store):
        error = (swap(store, [NAME]) or {})[NAME]
    assert isinstance(error, StoreBusyError)
    assert "store.lock" in error.path
    assert live(store) == leaves(OLD)
    assert work_of(store) == []


@pytest.mark.parametrize("can_exchange", [True, False], ids=["exchange", "two renames"])
def test_set_that_cannot_be_swapped_is_discarded_and_the_old_one_stays(
    store: Store, can_exchange: bool
) -> None:
    put_set(store, "domains", NAME, OLD)
    prepared(store)
    real = folders._renameat2

    def refuse(from_fd: int, from_name: str, to_fd: int, to_name: str, flags: int) -> bool:
        places = [str(Path(f"/proc/self/fd/{fd}").readlink()) for fd in (from_fd, to_fd)]
        if places[0].endswith("work/domains") and places[1].endswith("md/domains"):
            if flags == 2 and not can_exchange:
                return False
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(from_fd, from_name, to_fd, to_name, flags)

    with mock.patch.object(folders, "_renameat2", refuse):
        error = (swap(store, [NAME]) or {})[NAME]
    assert isinstance(error, StoreError)
    assert live(store) == leaves(OLD)
    assert work_of(store) == []


def test_set_is_on_the_disk_before_the_swap_and_the_swap_when_it_returns(store: Store) -> None:
    put_set(store, "domains", NAME, OLD)
    seen: list[set[str]] = []
    with unsynced(before_exchange=seen.append) as dirty:
        prepared(store)
        swapped(store)
        assert not [path for path in dirty() if "domains" in path]
        finish(store, [NAME])
        assert not [path for path in dirty() if "domains" in path or "archive" in path]
    assert [{path for path in paths if NAME in path} for paths in seen] == [set()]


def test_matrix_p3_two_renames_do_where_folders_cannot_be_exchanged(store: Store) -> None:
    put_set(store, "domains", NAME, OLD)
    changes_of(lambda: promote(store), can_exchange=False)
    assert live(store) == leaves(NEW)
    assert archived(store) == {f"{NAME}.1": leaves(OLD)}
    assert work_of(store) == []


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: path.symlink_to("/etc"), id="link"),
        pytest.param(lambda path: path.write_bytes(b"x"), id="file"),
    ],
)
def test_matrix_p8_live_folder_that_is_none_stops_the_promotion(store: Store, make: object) -> None:
    store.make_group("domains").close()
    path = store.path / "domains" / NAME
    make(path)  # type: ignore[operator] # a table of functions
    with pytest.raises(StoreError) as caught:
        prepared(store)
    assert caught.value.path == str(path)
    assert work_of(store) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to change owners")
def test_matrix_p8_live_folder_of_another_owner_stops_the_promotion(store: Store) -> None:
    os.chown(put_set(store, "domains", NAME, OLD), 33, 33)
    with pytest.raises(StoreError, match="uid 33"):
        prepared(store)


def test_staging_and_challenges_are_cleared(store: Store) -> None:
    stage(store, DOMAIN, (NEW,), ca_url=CA_URL, account_id=ACCOUNT_ID, now=NOW)
    store.make_in_group("challenges", NAME).close()
    store.make_in_group("challenges", "other.example").close()
    promote(store)
    assert list((store.path / "staging").iterdir()) == []
    assert [path.name for path in (store.path / "challenges").iterdir()] == ["other.example"]


def test_archive_takes_the_lowest_free_number(store: Store) -> None:
    put_set(store, "domains", NAME, OLD)
    put_set(store, "archive", f"{NAME}.1", aged(100))
    put_set(store, "archive", f"{NAME}.3", aged(90))
    promote(store)
    assert archived(store)[f"{NAME}.2"] == leaves(OLD)


def test_matrix_q1_archive_keeps_the_five_newest_by_date_not_by_number(store: Store) -> None:
    put_set(store, "domains", NAME, OLD)
    sets = {f"{NAME}.{n}": aged(days) for n, days in enumerate((100, 300, 90, 80, 200), start=1)}
    for name, pair in sets.items():
        put_set(store, "archive", name, pair)
    promote(store)
    assert archived(store) == {
        f"{NAME}.1": leaves(sets[f"{NAME}.1"]),
        f"{NAME}.3": leaves(sets[f"{NAME}.3"]),
        f"{NAME}.4": leaves(sets[f"{NAME}.4"]),
        f"{NAME}.5": leaves(sets[f"{NAME}.5"]),
        f"{NAME}.6": leaves(OLD),
    }
    assert work_of(store) == []


def test_sets_without_a_chain_leave_the_archive_first(store: Store) -> None:
    put_set(store, "domains", NAME, OLD)
    for number in (1, 2, 3):
        put_set(store, "archive", f"{NAME}.{number}")
    for number in (4, 5):
        put_set(store, "archive", f"{NAME}.{number}", aged(100 * number))
    promote(store)
    names = {path.name for path in (store.path / "archive").iterdir()}
    assert names >= {f"{NAME}.4", f"{NAME}.5", f"{NAME}.6"}
    assert len(names) == 5


def test_matrix_q1_newest_good_set_never_leaves_the_archive(store: Store) -> None:
    put_set(store, "domains", NAME, OLD)
    put_set(store, "archive", f"{NAME}.1", aged(300))
    for number in range(2, 8):
        broken = put_set(store, "archive", f"{NAME}.{number}", aged(number))
        (broken / EC_SPEC.privkey_name).write_bytes(b"")
    (put_set(store, "domains", NAME) / EC_SPEC.privkey_name).write_bytes(b"")
    promote(store)
    names = {path.name for path in (store.path / "archive").iterdir()}
    assert {f"{NAME}.1", f"{NAME}.8"} <= names
    assert len(names) == 5


@pytest.mark.parametrize("error", [errno.EIO, errno.EMFILE])
def test_nothing_leaves_the_archive_while_a_set_in_it_cannot_be_read(
    store: Store, error: int
) -> None:
    for number, days in enumerate((100, 200, 300, 350, 380), start=1):
        put_set(store, "archive", f"{NAME}.{number}", aged(days))
    put_set(store, "domains", NAME, OLD)
    prepared(store, NEW)
    assert swap(store, [NAME]) is not None
    with refusing("open-to-read", error, of=f"{NAME}.1") as has_failed:
        assert finish(store, [NAME]) == {NAME: ()}
        assert has_failed()
    assert len(archived(store)) == 6


def test_archives_of_other_domains_are_left_alone(store: Store) -> None:
    put_set(store, "domains", NAME, OLD)
    for number in range(1, 9):
        put_set(store, "archive", f"shop.{NAME}.{number}", aged(number))
    promote(store)
    assert len(list((store.path / "archive").iterdir())) == 9


def test_matrix_q1_archive_that_cannot_be_written_does_not_undo_the_promotion(store: Store) -> None:
    put_set(store, "domains", NAME, OLD)
    prepared(store)
    swapped(store)
    (store.path / "archive").mkdir(mode=0o700)
    (store.path / "archive" / f"{NAME}.1").write_bytes(b"a file in the way")
    assert finish(store, [NAME]) == {NAME: ()}
    assert live(store) == leaves(NEW)
    assert set_in(store, "archive", f"{NAME}.2") == leaves(OLD)


def test_second_promotion_waits_for_the_first_to_be_finished(store: Store) -> None:
    put_set(store, "domains", NAME, OLD)
    prepared(store)
    swapped(store)
    with pytest.raises(StoreError, match="not finished"):
        prepared(store, aged(0))


@pytest.mark.parametrize("is_finished", [False, True], ids=["before finish", "after finish"])
@pytest.mark.parametrize("can_exchange", [True, False], ids=["exchange", "two renames"])
def test_harmful_set_goes_back(store: Store, is_finished: bool, can_exchange: bool) -> None:
    put_set(store, "domains", NAME, OLD)
    problems: dict[str, StoreError | None] = {}

    def act() -> None:
        prepared(store)
        one = swapped(store)
        if is_finished:
            finish(store, [NAME])
        problems.update(put_back(store, [one], reason="Apache ended", now=NOW))

    changes_of(act, can_exchange=can_exchange)
    assert problems == {NAME: None}
    assert live(store) == leaves(OLD)
    assert set_in(store, "mdconnector", "refused", NAME) == leaves(NEW)
    assert work_of(store) == []
    assert load_attempt(store, NAME).refuses(leaves(NEW))


@pytest.mark.parametrize("is_finished", [False, True], ids=["before finish", "after finish"])
def test_rollback_is_on_the_disk_as_a_note_before_the_exchange_and_whole_when_it_returns(
    store: Store, is_finished: bool
) -> None:
    put_set(store, "domains", NAME, OLD)
    prepared(store)
    one = swapped(store)
    if is_finished:
        finish(store, [NAME])
    seen: list[set[str]] = []
    with unsynced(before_exchange=seen.append) as dirty:
        put_back(store, [one], reason="Apache ended", now=NOW)
        seen.append(dirty())
    counting = ("domains", "attempts", "refused")
    assert not [path for paths in seen for path in paths if any(word in path for word in counting)]
    assert len(seen) == 2


def test_promotion_and_rollback_exchange_sets_under_store_lock(store: Store) -> None:
    put_set(store, "domains", NAME, OLD)
    with locked_exchanges(store.path) as seen:
        put_back(store, [promote(store)], reason="Apache ended", now=NOW)
    assert seen == [True, True]


def test_harmful_first_set_leaves_nothing_live(store: Store) -> None:
    one = promote(store)
    assert put_back(store, [one], reason="Apache ended", now=NOW) == {NAME: None}
    assert live(store) is None
    assert set_in(store, "mdconnector", "refused", NAME) == leaves(NEW)


def test_refused_set_is_dropped_from_pending_and_offered_by_force_alone(store: Store) -> None:
    put_set(store, "domains", NAME, OLD)
    pending = Pending.load(store, DOMAIN)
    pending.begin(DOMAIN, ca_url=CA_URL, account_id=ACCOUNT_ID, now=NOW)
    pending.save_key(EC_SPEC, NEW.key)
    pending.save_chain(EC_SPEC, chain_to_pem(NEW.chain))
    put_back(store, [promote(store)], reason="Apache ended", now=NOW)
    assert Pending.load(store, DOMAIN).note is None
    again = refused_credentials(store, DOMAIN, NOW)
    assert leaves(*again) == leaves(NEW)
    promote(store, *again)
    assert live(store) == leaves(NEW)
    assert not load_attempt(store, NAME).refuses(leaves(NEW))


def test_second_refused_set_gets_a_number(store: Store) -> None:
    put_set(store, "domains", NAME, OLD)
    put_back(store, [promote(store)], reason="Apache ended", now=NOW)
    other = aged(0)
    put_back(store, [promote(store, other)], reason="Apache ended", now=NOW)
    assert set_in(store, "mdconnector", "refused", f"{NAME}.1") == leaves(other)
    assert live(store) == leaves(OLD)


def test_rollback_without_the_old_set_leaves_the_new_one_and_says_so(store: Store) -> None:
    put_set(store, "domains", NAME, OLD)
    one = promote(store)
    for path in (store.path / "archive" / f"{NAME}.1").iterdir():
        path.unlink()
    problem = put_back(store, [one], reason="Apache ended", now=NOW)[NAME]
    assert problem is not None
    assert problem.hint is not None
    assert live(store) == leaves(NEW)


def test_two_key_types_become_live_together(store: Store) -> None:
    both = DOMAIN._replace(configured_key_specs=(RSA_SPEC, EC_SPEC))
    put_set(store, "domains", NAME, OLD)
    rsa = CA.credential(NAMES, RSA_SPEC, not_before=NOW - DAY)
    prepare(store, both, (rsa, NEW), ca_url=CA_URL, account_id=ACCOUNT_ID, now=NOW)
    swapped(store)
    assert live(store) == leaves(rsa, NEW)


def test_wildcard_domain_is_promoted_under_its_name(store: Store) -> None:
    wildcard = DOMAIN._replace(name="*.a.example", names=("*.a.example",))
    pair = CA.credential(wildcard.names)
    prepare(store, wildcard, (pair,), ca_url=CA_URL, account_id=ACCOUNT_ID, now=NOW)
    swap(store, [wildcard.name])
    finish(store, [wildcard.name])
    assert set_in(store, "domains", "*.a.example") == leaves(pair)


def test_no_key_is_lost_by_promotions(store: Store) -> None:
    put_set(store, "domains", NAME, OLD)
    before = keys_in(store)
    promote(store)
    assert keys_in(store) > before


def test_nothing_refused_is_nothing_to_promote_by_force(store: Store) -> None:
    assert refused_credentials(store, DOMAIN, NOW) == ()


def test_newest_refused_set_that_still_serves_is_offered(store: Store) -> None:
    for number, days in enumerate((3, 2, 1)):
        put_set(store, "domains", "tmp.example", aged(days)).rename(
            store.make_own("refused").path / (NAME if not number else f"{NAME}.{number}")
        )
    newest = store.path / "mdconnector/refused" / f"{NAME}.2"
    (newest / EC_SPEC.privkey_name).write_bytes(b"")
    put_set(store, "domains", "tmp.example", NEW).rename(newest.with_name("b.example"))
    (newest.with_name(f"{NAME}.3")).write_bytes(b"a file")
    found = refused_credentials(store, DOMAIN, NOW)
    assert [one.facts.not_before for one in found] == [NOW - 2 * DAY]


def test_matrix_p6_folder_that_mod_md_makes_between_the_two_renames_is_set_aside(
    store: Store,
) -> None:
    put_set(store, "domains", NAME, OLD)
    prepared(store)
    real = folders._renameat2

    def refuse(from_fd: int, from_name: str, to_fd: int, to_name: str, flags: int) -> bool:
        if flags == 2:
            return False
        done = real(from_fd, from_name, to_fd, to_name, flags)
        if Path(f"/proc/self/fd/{to_fd}").readlink().name == "outgoing":
            (store.path / "domains" / NAME).mkdir()
            (store.path / "domains" / NAME / "fallback-privkey.pem").touch()
        return done

    with mock.patch.object(folders, "_renameat2", refuse):
        assert swapped(store).live == leaves(NEW)
    assert live(store) == leaves(NEW)
    (aside,) = (store.path / "mdconnector/set-aside").glob("*.1")
    assert [path.name for path in aside.iterdir()] == ["fallback-privkey.pem"]
    assert finish(store, [NAME]) == {NAME: ()}
    assert archived(store) == {f"{NAME}.1": leaves(OLD)}


def test_folder_that_changes_all_the_time_is_given_up_and_the_old_set_stays(store: Store) -> None:
    put_set(store, "domains", NAME, OLD)
    prepared(store)
    real = folders._renameat2

    def vanish(from_fd: int, from_name: str, to_fd: int, to_name: str, flags: int) -> bool:
        if flags == 2:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return real(from_fd, from_name, to_fd, to_name, flags)

    with mock.patch.object(folders, "_renameat2", vanish):
        error = (swap(store, [NAME]) or {})[NAME]
    assert isinstance(error, StoreError)
    assert "it changes all the time" in error.message
    assert live(store) == leaves(OLD)
    assert work_of(store) == []


def test_discarding_what_was_swapped_in_the_meantime_touches_nothing(store: Store) -> None:
    one = prepared(store)
    swapped(store)
    discard(store, [one])
    assert live(store) == leaves(NEW)


def test_rollback_beside_another_waiting_set_says_so_and_changes_nothing(store: Store) -> None:
    put_set(store, "domains", NAME, OLD)
    one = promote(store)
    prepared(store, aged(0))
    problem = put_back(store, [one], reason="Apache ended", now=NOW)[NAME]
    assert problem is not None
    assert "another set than the one to put back" in problem.message
    assert live(store) == leaves(NEW)


def test_rollback_clears_staging_of_the_refused_set(store: Store) -> None:
    put_set(store, "domains", NAME, OLD)
    one = promote(store)
    stage(store, DOMAIN, (NEW,), ca_url=CA_URL, account_id=ACCOUNT_ID, now=NOW)
    assert put_back(store, [one], reason="Apache ended", now=NOW) == {NAME: None}
    assert list((store.path / "staging").iterdir()) == []


def test_rollback_of_a_set_that_is_not_live_any_more_changes_nothing(store: Store) -> None:
    put_set(store, "domains", NAME, OLD)
    gone = Swapped(NAME, live=leaves(aged(5)), replaced=leaves(OLD))
    assert put_back(store, [gone], reason="Apache ended", now=NOW) == {NAME: None}
    assert live(store) == leaves(OLD)


def test_file_beside_the_live_set_that_vanishes_is_not_carried_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put_set(store, "domains", NAME, OLD)
    (folder / "late.txt").touch()
    real_names, real_read = folders.Folder.names, folders.Folder.read

    def names(opened: folders.Folder) -> list[str]:
        return [*real_names(opened), "gone.txt"] if opened.path.name == NAME else real_names(opened)

    def read(opened: folders.Folder, name: str, **keywords: Any) -> bytes | None:
        if name == "late.txt":
            (folder / name).unlink()
        return real_read(opened, name, **keywords)

    monkeypatch.setattr(folders.Folder, "names", names)
    monkeypatch.setattr(folders.Folder, "read", read)
    assert prepared(store).left_behind == ()
    monkeypatch.undo()
    swapped(store)
    assert live(store) == leaves(NEW)
    assert not (folder / "late.txt").exists()


def test_what_mod_md_made_live_is_made_durable(store: Store) -> None:
    folder = put_set(store, "domains", NAME, NEW)
    synced = []

    def watch(name: str, args: Any, kwargs: Any, original: Call) -> Any:
        if name == "fsync":
            synced.append(Path(f"/proc/self/fd/{args[0]}").readlink().name)
        return original(*args, **kwargs)

    with watched(watch):
        make_durable(store, NAME)
    assert set(synced) == {NAME, "domains", *(path.name for path in folder.iterdir())}


def test_nothing_live_is_nothing_to_make_durable(store: Store) -> None:
    make_durable(store, NAME)
    store.make_group("domains").close()
    make_durable(store, NAME)
    assert live(store) is None


def test_archived_set_that_is_no_folder_or_has_gone_is_passed_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_set(store, "archive", f"{NAME}.2", OLD)
    put_set(store, "archive", f"{NAME}.4", OLD)
    (store.path / "archive" / f"{NAME}.1").write_bytes(b"a file")
    put_set(store, "archive", "notes", OLD)
    with Archive.open(store) as archive:
        os.rename(store.path / "archive" / f"{NAME}.4", store.path / "elsewhere")  # noqa: PTH104 - as any other process
        assert [entry for entry, _ in archive.entries(NAME)] == [f"{NAME}.2"]


def test_empty_folder_is_removed_rather_than_archived(store: Store) -> None:
    with store.make_group("domains") as domains, Archive.open(store) as archive:
        domains.make(NAME, 0o700).close()
        archive.add(domains, NAME)
        assert domains.names() == []
    assert archived(store) == {}


def test_archive_number_that_another_takes_meanwhile_is_passed_over(store: Store) -> None:
    put_set(store, "domains", NAME, OLD)
    with store.make_group("domains") as domains, Archive.open(store) as archive:
        put_set(store, "archive", f"{NAME}.1", aged(100))
        archive.add(domains, NAME)
    assert archived(store)[f"{NAME}.2"] == leaves(OLD)


def test_archive_number_is_free_again_where_the_disk_failed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_set(store, "domains", NAME, OLD)
    with store.make_group("domains") as domains, Archive.open(store) as archive:
        with failing_at(1, errno.EIO) as has_failed, pytest.raises(StoreError):
            archive.add(domains, NAME)
        assert has_failed()
        archive.add(domains, NAME)
    assert archived(store) == {f"{NAME}.1": leaves(OLD)}


def test_set_that_vanished_cannot_be_archived(store: Store) -> None:
    store.make_group("domains").close()
    with (
        store.make_group("domains") as domains,
        Archive.open(store) as archive,
        pytest.raises(StoreError),
    ):
        archive.add(domains, NAME)
    assert list((store.path / "archive").iterdir()) == []


def test_taken_set_leaves_its_number_free(store: Store) -> None:
    put_set(store, "archive", f"{NAME}.1", OLD)
    with store.make_group("domains") as domains, Archive.open(store) as archive:
        archive.take(f"{NAME}.1", domains, NAME)
        assert live(store) == leaves(OLD)
        archive.add(domains, NAME)
    assert archived(store) == {f"{NAME}.1": leaves(OLD)}


def test_longest_name_is_shortened_for_its_number(store: Store) -> None:
    long = ".".join(["a" * 61] * 4) + ".info"
    assert numbered_stem(NAME) == NAME
    assert numbered_stem(long) != long
    assert len(f"{numbered_stem(long)}.999") <= 255
    assert numbered_stem(long) != numbered_stem(long.replace(".info", ".mobi"))
    with store.make_group("domains") as domains, Archive.open(store) as archive:
        with domains.make(long, 0o700) as folder:
            folder.write("md.json", b"{}", 0o600)
        archive.add(domains, long)
    assert [path.name for path in (store.path / "archive").iterdir()] == [
        f"{numbered_stem(long)}.1"
    ]


def test_two_runs_that_set_aside_at_once_take_numbers_of_their_own(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_set(store, "domains", NAME, OLD)
    with store.make_own("set-aside") as aside, store.make_group("domains") as domains:
        aside.make(f"{NAME}.1", 0o700).close()
        monkeypatch.setattr(folders.Folder, "names", lambda _: [])
        assert move_numbered(domains, NAME, aside) == f"{NAME}.2"


def test_folder_that_mod_md_makes_between_the_look_and_the_rename_is_set_aside(
    store: Store,
) -> None:
    prepared(store)
    real = folders._renameat2
    made = store.path / "domains" / NAME

    def meanwhile(from_fd: int, from_name: str, to_fd: int, to_name: str, flags: int) -> bool:
        if Path(f"/proc/self/fd/{to_fd}").readlink().name == "domains" and not was_made:
            was_made.append(made)
            made.mkdir()
            (made / "fallback-privkey.pem").touch()
        return real(from_fd, from_name, to_fd, to_name, flags)

    was_made: list[Path] = []
    with mock.patch.object(folders, "_renameat2", meanwhile):
        assert swapped(store).live == leaves(NEW)
    assert was_made == [made]
    assert live(store) == leaves(NEW)
    kept = list((store.path / "mdconnector").rglob("fallback-privkey.pem"))
    assert len(kept) == 1


def test_rollback_beside_an_archive_that_is_none_is_finished_once_it_is_mended(
    store: Store,
) -> None:
    put_set(store, "domains", NAME, OLD)
    one = promote(store)
    archive = store.path / "archive"
    aside = archive.rename(store.path / "aside")
    archive.write_bytes(b"a file")
    problem = put_back(store, [one], reason="Apache ended", now=NOW)[NAME]
    assert isinstance(problem, StoreError)
    assert problem.path == str(archive)
    assert live(store) == leaves(NEW)
    archive.unlink()
    aside.rename(archive)
    assert finish_rollbacks(store, [NAME]) == {NAME: None}
    assert live(store) == leaves(OLD)


def test_store_without_challenges_has_none_to_clear(store: Store) -> None:
    (store.path / "challenges").rmdir()
    assert promote(store).live == leaves(NEW)
    assert store.challenges() is None
