"""A run may be killed, or the disk fail, at any change: the next run mends it, whatever it was.

Every test with kill points forks a child for each, lets it die there, and recovers in this process.
In the usual suite it is a part of them; MDCONNECTOR_KILL_POINTS=all takes them all, double faults
included.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from mdconnector.certificates import chain_to_pem
from mdconnector.errors import StoreError, UnsafeStoreError
from mdconnector.keys import generate_key, public_bytes
from mdconnector.store import folder as folders
from mdconnector.store.accounts import (
    begin_account,
    drop_registered_keys,
    load_account,
    save_account,
)
from mdconnector.store.attempts import RollbackNote, load_attempt, save_attempt
from mdconnector.store.folder import Folder
from mdconnector.store.pending import Pending
from mdconnector.store.recovery import recover, repair
from mdconnector.store.tree import Store
from tests.authority import EC_SPEC, RSA_SPEC
from tests.store.credentials import (
    CA,
    CA_URL,
    DOMAIN,
    NAME,
    NEW,
    NOW,
    OLD,
    aged,
    leaves,
    live,
    open_store,
    put_set,
    set_in,
)
from tests.store.disk import locked_exchanges, unsynced
from tests.store.kill_points import Call, changes_of, failing_at, killed_at, refusing, watched
from tests.store.stories import (
    ACCOUNT,
    ACCOUNT_KEY,
    STORIES,
    WORK,
    Story,
    act_in,
    assert_mended,
    changes_in,
    copy_of,
    given,
    keys_that_must_survive,
    live_or_damaged,
    mend,
    obtain,
    promote,
    roll_back,
    stage_new,
    with_damaged,
    with_damaged_and_pending,
    with_first,
    with_old,
    with_promoted,
    with_staged,
)

ALL = os.environ.get("MDCONNECTOR_KILL_POINTS") == "all"
stories = pytest.mark.parametrize("story", STORIES.values(), ids=STORIES.keys())


@pytest.fixture
def room() -> Iterator[Path]:
    """A folder in memory, where there is one: thousands of stores are made in it."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as path:
        yield Path(path)


def points(total: int, wanted: int) -> list[int]:
    """Choose kill points: all, or so many spread over them, first and last included."""
    if ALL or total <= wanted:
        return list(range(1, total + 1))
    return sorted({1 + round(step * (total - 1) / (wanted - 1)) for step in range(wanted)})


@stories
def test_story_ends_as_it_should_when_nothing_happens(room: Path, story: Story) -> None:
    path = given(room, story)
    changes_in(path, story.act, story)
    with open_store(path) as store:
        assert live(store) == story.is_live_in_the_end
        assert list((store.path / WORK).glob("*/*")) == []


@stories
def test_matrix_w1_p1_killed_run_is_mended_by_the_next(room: Path, story: Story) -> None:
    start = given(room, story)
    keys = keys_that_must_survive(start, story)
    total = changes_in(copy_of(start), story.act, story)
    for point in points(total, 12):
        path = copy_of(start)
        was_killed = killed_at(
            point, partial(act_in, path, story.act), can_exchange=story.can_exchange
        )
        assert was_killed, f"point {point} of {total} was never reached"
        assert_mended(path, story, keys)


@stories
def test_killed_run_can_be_repeated_to_its_end(room: Path, story: Story) -> None:
    start = given(room, story)
    total = changes_in(copy_of(start), story.act, story)
    for point in points(total, 4):
        path = copy_of(start)
        killed_at(point, partial(act_in, path, story.act), can_exchange=story.can_exchange)
        with open_store(path) as store:
            mend(store)
            if live(store) != story.is_live_in_the_end:
                story.act(store)
            assert live(store) == story.is_live_in_the_end
            assert list((store.path / WORK).glob("*/*")) == []


@pytest.mark.parametrize(
    "story",
    [
        STORIES[name]
        for name in (
            "stage",
            "promote",
            "promote-by-renames",
            "promote-first",
            "put-back",
            "repair",
        )
    ],
    ids=lambda story: story.given.__name__,
)
def test_matrix_p1_killed_recovery_is_mended_by_the_next(room: Path, story: Story) -> None:
    start = given(room, story)
    keys = keys_that_must_survive(start, story)
    total = changes_in(copy_of(start), story.act, story)
    # all pairs of deaths would take an hour: every fifth first one, and all second ones
    for point in points(total, 4)[:: 5 if ALL else 1]:
        broken = room / "broken"
        shutil.rmtree(broken, ignore_errors=True)
        copy_of(start).rename(broken)
        assert killed_at(point, partial(act_in, broken, story.act), can_exchange=story.can_exchange)
        more = changes_in(copy_of(broken), mend, story)
        for second in points(more, 3):
            path = copy_of(broken)
            assert killed_at(second, partial(act_in, path, mend), can_exchange=story.can_exchange)
            assert_mended(path, story, keys)


@stories
@pytest.mark.parametrize(
    ("error", "lasting"),
    [
        pytest.param(errno.ENOSPC, True, id="full-disk"),
        pytest.param(errno.EIO, False, id="broken-disk"),
    ],
)
def test_matrix_w2_q1_failing_disk_is_a_store_error_and_tears_nothing(
    room: Path, story: Story, error: int, lasting: bool
) -> None:
    start = given(room, story)
    keys = keys_that_must_survive(start, story)
    total = changes_in(copy_of(start), story.act, story)
    for point in points(total, 6):
        path = copy_of(start)
        with open_store(path) as store:
            with failing_at(point, error, lasting=lasting) as has_failed, suppress(StoreError):
                story.act(store)
            if not has_failed():
                continue
            assert live_or_damaged(store) in (*story.may_be_live, "damaged")
        assert_mended(path, story, keys)


@pytest.mark.parametrize("name", ["put-back", "put-back-by-renames", "put-back-first"])
def test_noted_rollback_is_finished_wherever_it_was_killed(room: Path, name: str) -> None:
    story = STORIES[name]
    start = given(room, story)
    total = changes_in(copy_of(start), story.act, story)
    for point in points(total, 20):
        path = copy_of(start)
        killed_at(point, partial(act_in, path, story.act), can_exchange=story.can_exchange)
        with open_store(path) as store:
            was_noted = load_attempt(store, NAME).rollback is not None
            mend(store)
            assert live(store) == (story.is_live_in_the_end if was_noted else leaves(NEW))


@pytest.mark.parametrize("name", ["obtain", "drop"])
def test_killed_order_never_has_more_than_its_key_can_answer_for(room: Path, name: str) -> None:
    story = STORIES[name]
    start = given(room, story)
    total = changes_in(copy_of(start), story.act, story)
    for point in points(total, 25):
        path = copy_of(start)
        assert killed_at(point, partial(act_in, path, story.act))
        with open_store(path) as store:
            pending = Pending.load(store, DOMAIN)
            has_key = pending.load_key(EC_SPEC) is not None
            assert has_key or not (pending.open_orders() or pending.fingerprints())
            assert story.act is obtain or pending.note is None or pending.is_complete(DOMAIN)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A new store."""
    with open_store(tmp_path / "md") as opened:
        yield opened


def put_work(store: Store, place: str, *credentials: object) -> None:
    """Put a set where an interrupted run leaves it."""
    folder = put_set(store, "domains", "tmp.example", *credentials)  # type: ignore[arg-type] # credentials only
    with store.make_own("work", place):
        folder.rename(store.path / WORK / place / NAME)


def test_store_without_work_is_left_as_it_is(store: Store) -> None:
    with_old(store)
    assert changes_of(lambda: recover(store, [DOMAIN], NOW)) == 0
    assert not (store.path / WORK).exists()


def test_idle_recovery_writes_nothing(store: Store) -> None:
    with_promoted(store)
    assert changes_of(lambda: recover(store, [DOMAIN], NOW)) == 0
    assert changes_of(lambda: repair(store, DOMAIN, NOW)) == 0


def test_newer_set_that_verifies_becomes_live(store: Store) -> None:
    with_old(store)
    put_work(store, "domains", NEW)
    (line,) = recover(store, [DOMAIN], NOW).lines
    assert line.startswith(f"{NAME}: ")
    assert live(store) == leaves(NEW)
    assert set_in(store, "archive", f"{NAME}.1") == leaves(OLD)


def test_interrupted_promotion_is_finished_under_store_lock_and_on_the_disk(store: Store) -> None:
    with_old(store)
    put_work(store, "domains", NEW)
    with locked_exchanges(store.path) as seen, unsynced() as dirty:
        recover(store, [DOMAIN], NOW)
        # in the base nothing is new but store.lock
        assert dirty() == {str(store.path)}
    assert seen == [True]
    assert live(store) == leaves(NEW)


def test_newer_set_that_does_not_verify_is_archived(store: Store) -> None:
    with_old(store)
    other = CA.credential(("b.example",), not_before=NOW - timedelta(hours=1))
    put_work(store, "domains", other)
    recover(store, [DOMAIN], NOW)
    assert live(store) == leaves(OLD)
    assert set_in(store, "archive", f"{NAME}.1") == leaves(other)


def test_newer_expired_set_is_archived(store: Store) -> None:
    with_old(store)
    expired = CA.credential(
        DOMAIN.names, not_before=NOW - timedelta(days=9), life=timedelta(days=1)
    )
    put_work(store, "domains", expired)
    recover(store, [DOMAIN], NOW)
    assert live(store) == leaves(OLD)


def test_damaged_set_never_becomes_live(store: Store) -> None:
    with_old(store)
    put_work(store, "domains", NEW)
    (store.path / WORK / "domains" / NAME / EC_SPEC.privkey_name).write_bytes(b"")
    recover(store, [DOMAIN], NOW)
    assert live(store) == leaves(OLD)


def test_set_that_a_rollback_noted_goes_to_refused_however_new(store: Store) -> None:
    with_old(store)
    put_work(store, "domains", NEW)
    note = RollbackNote(NOW, "Apache ended", leaves(NEW), leaves(OLD))
    save_attempt(store, NAME, load_attempt(store, NAME)._replace(rollback=note))
    recover(store, [DOMAIN], NOW)
    assert live(store) == leaves(OLD)
    assert set_in(store, "mdconnector", "refused", NAME) == leaves(NEW)


def test_set_of_a_domain_that_is_no_longer_configured_is_finished_too(store: Store) -> None:
    with_old(store)
    put_work(store, "domains", NEW)
    recover(store, [], NOW)
    assert live(store) == leaves(NEW)


def test_matrix_p3_set_between_two_renames_is_found(store: Store) -> None:
    put_work(store, "outgoing", OLD)
    put_work(store, "domains", NEW)
    recover(store, [DOMAIN], NOW)
    assert live(store) == leaves(NEW)
    assert set_in(store, "archive", f"{NAME}.1") == leaves(OLD)


def test_old_set_comes_back_where_nothing_else_is_left(store: Store) -> None:
    put_work(store, "outgoing", OLD)
    recover(store, [DOMAIN], NOW)
    assert live(store) == leaves(OLD)


def test_first_set_that_harmed_apache_does_not_stay_live_while_it_cannot_be_read(
    store: Store,
) -> None:
    with_first(store)
    promote(store)
    note = RollbackNote(NOW, "Apache ended", leaves(NEW), ())
    save_attempt(store, NAME, load_attempt(store, NAME)._replace(rollback=note))
    store.make_own("work", "rollback", NAME).close()
    reads = 0

    def watch(call: str, args: tuple[Any, ...], kwargs: dict[str, Any], original: Call) -> Any:
        nonlocal reads
        if call == "open-to-read" and args[0] == EC_SPEC.pubcert_name:
            reads += 1
            if reads == 2:  # the first one has found that it is live
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        return original(*args, **kwargs)

    with watched(watch, reads=True):
        assert recover(store, [DOMAIN], NOW).failures
    assert reads >= 2
    assert recover(store, [DOMAIN], NOW).failures == {}
    assert live(store) is None


@pytest.mark.parametrize(
    "place",
    [
        ".",
        "accounts/ACME-ca.example-0000",
        "mdconnector",
        "mdconnector/attempts",
        "mdconnector/directories",
        f"mdconnector/pending/{NAME}",
    ],
)
def test_temporary_file_of_a_killed_write_is_swept_away(store: Store, place: str) -> None:
    folder = store.path / place
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".new-0123456789abcdef").write_bytes(b"half a fi")
    kept = folder / ".newer"
    kept.write_bytes(b"somebody else's")
    recover(store, [DOMAIN], NOW)
    assert [path.name for path in folder.iterdir() if path.name.startswith(".new")] == [kept.name]


def begun_keys(store: Store) -> list[str]:
    """The folders of accounts that are being registered."""
    return [path.name for path in (store.path / "mdconnector" / "accounts").iterdir()]


def test_begun_key_whose_account_is_stored_is_dropped(store: Store) -> None:
    begin_account(store, CA_URL, None, lambda: ACCOUNT_KEY)
    (name,) = begun_keys(store)
    begun = store.path / "mdconnector" / "accounts" / name
    copy = store.path / "copy"
    shutil.copytree(begun, copy)
    save_account(store, ACCOUNT, ACCOUNT_KEY)
    copy.rename(begun)
    recover(store, [DOMAIN], NOW)
    assert begun_keys(store) == []
    assert load_account(store, "ACME-ca.example-0000") is not None


def test_begun_key_without_a_stored_account_stays(store: Store) -> None:
    save_account(store, ACCOUNT, ACCOUNT_KEY)
    other = begin_account(store, CA_URL, None, lambda: generate_key(RSA_SPEC))
    recover(store, [DOMAIN], NOW)
    assert public_bytes(begin_account(store, CA_URL, None, pytest.fail)) == public_bytes(other)


def test_folder_of_an_account_that_never_had_a_key_is_dropped(store: Store) -> None:
    begin_account(store, CA_URL, None, lambda: ACCOUNT_KEY)
    (name,) = begun_keys(store)
    (store.path / "mdconnector" / "accounts" / name / "key.pem").unlink()
    recover(store, [DOMAIN], NOW)
    assert begun_keys(store) == []


def test_half_made_set_is_removed(store: Store) -> None:
    with_old(store)
    put_work(store, "scratch", NEW)
    recover(store, [DOMAIN], NOW)
    assert live(store) == leaves(OLD)
    assert list((store.path / WORK).glob("*/*")) == []


def test_one_domain_that_cannot_be_mended_does_not_stop_the_others(store: Store) -> None:
    with_old(store)
    put_work(store, "domains", NEW)
    (store.path / WORK / "domains" / "aa.example").write_bytes(b"a file")
    recovery = recover(store, [DOMAIN], NOW)
    assert list(recovery.failures) == ["aa.example"]
    assert live(store) == leaves(NEW)


def test_staging_that_holds_the_live_set_is_cleared(store: Store) -> None:
    with_first(store)
    promote(store)
    stage_new(store)
    recover(store, [DOMAIN], NOW)
    assert list((store.path / "staging").iterdir()) == []


def test_staging_that_holds_another_set_is_kept(store: Store) -> None:
    with_staged(store)
    with store.make_own("work"):
        recover(store, [DOMAIN], NOW)
    assert (store.path / "staging" / NAME / EC_SPEC.pubcert_name).exists()


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda path: (path / EC_SPEC.privkey_name).write_bytes(b""), id="empty key"),
        pytest.param(lambda path: (path / EC_SPEC.pubcert_name).write_bytes(b""), id="empty chain"),
        pytest.param(lambda path: (path / EC_SPEC.privkey_name).unlink(), id="no key"),
        pytest.param(
            lambda path: (path / EC_SPEC.pubcert_name).write_bytes(chain_to_pem(OLD.chain)),
            id="chain of another key",
        ),
    ],
)
def test_matrix_p9_damaged_live_set_is_repaired_from_the_best_archived_one(
    store: Store, harm: Callable[[Path], object]
) -> None:
    harm(put_set(store, "domains", NAME, NEW))
    put_set(store, "archive", f"{NAME}.1", OLD)
    put_set(store, "archive", f"{NAME}.2", aged(100))
    line = repair(store, DOMAIN, NOW)
    assert line is not None
    assert f"archive/{NAME}.1" in line
    assert live(store) == leaves(OLD)


def test_damaged_live_set_without_a_better_one_is_left_for_a_new_order(store: Store) -> None:
    folder = put_set(store, "domains", NAME, NEW)
    (folder / EC_SPEC.privkey_name).write_bytes(b"")
    assert repair(store, DOMAIN, NOW) is None
    assert (folder / EC_SPEC.pubcert_name).exists()


def test_expired_set_repairs_a_damaged_one_because_apache_could_not_start(store: Store) -> None:
    folder = put_set(store, "domains", NAME, NEW)
    (folder / EC_SPEC.privkey_name).write_bytes(b"")
    expired = CA.credential(
        DOMAIN.names, not_before=NOW - timedelta(days=9), life=timedelta(days=1)
    )
    put_set(store, "archive", f"{NAME}.1", expired)
    repair(store, DOMAIN, NOW)
    assert live(store) == leaves(expired)


@pytest.mark.parametrize("call", ["open-to-read", "fstat", "read"])
def test_disk_that_stumbles_once_over_a_live_set_has_not_damaged_it(
    store: Store, call: str
) -> None:
    put_set(store, "domains", NAME, NEW)
    put_set(store, "archive", f"{NAME}.1", OLD)
    key_is_reached = has_stumbled = False

    def stumble(name: str, args: Any, kwargs: Any, original: Call) -> Any:
        nonlocal key_is_reached, has_stumbled
        key_is_reached = key_is_reached or args[0] == EC_SPEC.privkey_name
        if name != call or not key_is_reached or has_stumbled:
            return original(*args, **kwargs)
        has_stumbled = True
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with watched(stumble, reads=True):
        assert repair(store, DOMAIN, NOW) is None
    assert has_stumbled
    assert live(store) == leaves(NEW)


@pytest.mark.parametrize("error", [errno.EMFILE, errno.EACCES, errno.ESTALE])
def test_live_set_that_only_this_run_cannot_open_is_not_repaired(store: Store, error: int) -> None:
    put_set(store, "domains", NAME, NEW)
    put_set(store, "archive", f"{NAME}.1", OLD)
    with (
        refusing("open-to-read", error, of=EC_SPEC.privkey_name) as has_failed,
        pytest.raises(StoreError),
    ):
        repair(store, DOMAIN, NOW)
    assert has_failed()
    assert live(store) == leaves(NEW)


@pytest.mark.parametrize(
    ("file", "error"),
    [
        pytest.param(f"{NAME}.json", errno.EMFILE, id="the note, for want of handles"),
        pytest.param(f"{NAME}.json", errno.EIO, id="the note"),
        pytest.param(EC_SPEC.pubcert_name, errno.EIO, id="the live chain"),
    ],
)
def test_noted_rollback_is_not_forgotten_while_something_cannot_be_read(
    store: Store, file: str, error: int
) -> None:
    with_promoted(store)
    note = RollbackNote(NOW, "Apache ended", leaves(NEW), leaves(OLD))
    save_attempt(store, NAME, load_attempt(store, NAME)._replace(rollback=note))
    store.make_own("work", "rollback", NAME).close()
    with refusing("open-to-read", error, of=file) as has_failed:
        with suppress(StoreError):
            assert recover(store, [DOMAIN], NOW).failures
        assert has_failed()
    assert recover(store, [DOMAIN], NOW).failures == {}
    assert live(store) == leaves(OLD)


def test_repair_never_takes_a_set_that_was_put_back(store: Store) -> None:
    with_damaged(store)
    note = RollbackNote(NOW, "Apache ended", leaves(OLD), ())
    save_attempt(store, NAME, load_attempt(store, NAME)._replace(rollback=note))
    assert repair(store, DOMAIN, NOW) is None


def test_missing_live_set_is_not_brought_back_from_the_archive(store: Store) -> None:
    put_set(store, "archive", f"{NAME}.1", OLD)
    assert repair(store, DOMAIN, NOW) is None
    assert live(store) is None


def test_disk_that_fails_during_a_repair_is_that_domains_error(store: Store) -> None:
    with_damaged(store)
    with (
        mock.patch.object(folders, "_renameat2", _refuse_to_enter("domains")),
        pytest.raises(StoreError),
    ):
        repair(store, DOMAIN, NOW)
    assert recover(store, [DOMAIN], NOW).failures == {}
    assert repair(store, DOMAIN, NOW) is not None
    assert live(store) == leaves(OLD)


def _refuse_to_enter(group: str) -> Call:
    real = folders._renameat2

    def refuse(from_fd: int, from_name: str, to_fd: int, to_name: str, flags: int) -> bool:
        if Path(f"/proc/self/fd/{to_fd}").readlink().name == group:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(from_fd, from_name, to_fd, to_name, flags)

    return refuse


def test_rollback_that_cannot_be_finished_is_that_domains_failure(store: Store) -> None:
    with_promoted(store)
    with mock.patch.object(folders, "_renameat2", _refuse_to_enter("refused")):
        roll_back(store)
        recovery = recover(store, [DOMAIN], NOW)
    assert list(recovery.failures) == [NAME]
    assert live(store) == leaves(OLD)
    assert recover(store, [DOMAIN], NOW).failures == {}
    assert set_in(store, "mdconnector", "refused", NAME) == leaves(NEW)


def test_leftover_beside_staging_that_cannot_go_is_that_domains_failure(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_old(store)
    for name in ("aa.example", NAME):
        with store.make_own("work", "staging", name) as left:
            left.write("file", b"x", 0o600)
    real = os.unlink

    def unlink(name: str, *, dir_fd: int) -> None:
        if Path(f"/proc/self/fd/{dir_fd}").readlink().name == "aa.example":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", unlink)
    recovery = recover(store, [DOMAIN], NOW)
    assert list(recovery.failures) == ["aa.example"]
    assert recovery.lines == (f"{NAME}: removed what an interrupted run left beside staging",)


def test_store_that_turns_out_damaged_ends_the_recovery(store: Store) -> None:
    with_staged(store)
    put_work(store, "scratch", OLD)
    error = UnsafeStoreError("damaged", path=str(store.path))
    with (
        mock.patch.object(Folder, "remove_tree", side_effect=error),
        pytest.raises(UnsafeStoreError),
    ):
        recover(store, [DOMAIN], NOW)


def test_staged_set_of_a_domain_that_is_not_configured_is_let_be(store: Store) -> None:
    with_first(store)
    promote(store)
    stage_new(store)
    assert recover(store, [], NOW).lines == ()
    assert (store.path / "staging" / NAME).exists()


def test_pending_set_that_does_not_verify_repairs_nothing(store: Store) -> None:
    with_damaged_and_pending(store)
    far = NOW + timedelta(days=1000)
    line = repair(store, DOMAIN, far)
    assert line is not None
    assert "archive/" in line
    assert live(store) == leaves(OLD)


def test_pending_set_that_apache_refused_repairs_nothing(store: Store) -> None:
    with_damaged_and_pending(store)
    note = RollbackNote(NOW, "Apache ended", leaves(NEW), ())
    save_attempt(store, NAME, load_attempt(store, NAME)._replace(rollback=note))
    line = repair(store, DOMAIN, NOW)
    assert line is not None
    assert "archive/" in line
    assert live(store) == leaves(OLD)


def test_folder_that_vanishes_before_it_is_swept_is_passed_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_old(store)
    half = store.path / "accounts" / "z" / ".new-0123456789abcdef"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half a fi")
    real = Folder.names

    def names(folder: Folder) -> list[str]:
        return ["gone", *real(folder)] if folder.path.name == "accounts" else real(folder)

    monkeypatch.setattr(Folder, "names", names)
    assert recover(store, [DOMAIN], NOW).failures == {}
    assert not half.exists()


def test_begun_account_that_vanishes_meanwhile_is_passed_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_account(store, CA_URL, None, lambda: ACCOUNT_KEY)
    (begun,) = begun_keys(store)
    real = Folder.names

    def names(folder: Folder) -> list[str]:
        found = real(folder)
        return ["0" * 32, *found] if begun in found else found

    monkeypatch.setattr(Folder, "names", names)
    drop_registered_keys(store)
    monkeypatch.undo()
    assert begun_keys(store) == [begun]
