"""Folder: files appear whole, links are never followed, nothing waits, errors say what to do."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mdconnector.errors import StoreError
from mdconnector.store import folder as folder_module
from mdconnector.store.folder import EntryExistsError, ExhaustedError, Folder, UnsafeEntryError
from tests.store.kill_points import Call, refusing, watched

MINE = frozenset({os.geteuid()})
OTHERS = frozenset({os.geteuid() + 1})
NOBODY = 65534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    """An open, empty folder."""
    with Folder.open_base(tmp_path) as opened:
        yield opened


def put_one(folder: Folder, name: str, data: bytes) -> None:
    folder.write(name, data, 0o600)


def put_set(folder: Folder, name: str, data: bytes) -> None:
    folder.write_all({name: data}, 0o600)


Put = Callable[[Folder, str, bytes], None]


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Work under another umask."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def open_handles() -> int:
    """How many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def mode_of(path: Path) -> int:
    """The permission bits of a file or folder."""
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "a\0b"])
def test_name_that_is_a_path_is_refused(folder: Folder, name: str) -> None:
    for attempt in (folder.open, folder.stat, folder.remove, folder.remove_tree):
        with pytest.raises(StoreError, match="cannot be the name of a file"):
            attempt(name)
    with pytest.raises(StoreError, match="cannot be the name of a file"):
        folder.write(name, b"", 0o600)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
def test_file_and_folder_have_exactly_their_mode_under_any_umask(
    folder: Folder, tmp_path: Path, mask: int
) -> None:
    with umask(mask):
        folder.write("key", b"secret", 0o600)
        folder.write("record", b"", 0o644)
        with folder.make("private", 0o700) as private:
            private.write("key", b"secret", 0o600)
        folder.make("public", 0o755).close()
    assert [mode_of(tmp_path / name) for name in ("key", "record", "private", "public")] == [
        0o600,
        0o644,
        0o700,
        0o755,
    ]


@pytest.mark.parametrize("put", [put_one, put_set])
def test_key_and_its_folder_are_the_owners_alone_from_the_first_moment(
    folder: Folder, tmp_path: Path, put: Put
) -> None:
    seen = []

    def look(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], original: Call) -> Any:
        result = original(*args, **kwargs)
        if name == "open":
            assert args[1] & os.O_EXCL
        if name in ("open", "mkdir"):
            seen.append((name, stat.S_IMODE(os.stat(args[0], dir_fd=kwargs["dir_fd"]).st_mode)))
        return result

    with umask(0), watched(look), folder.make("private", 0o700) as private:
        put(private, "key", b"secret")
    assert seen == [("mkdir", 0o700), ("open", 0o600)]
    assert mode_of(tmp_path / "private" / "key") == 0o600


def test_folder_that_is_there_keeps_its_mode(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir(mode=0o750)
    folder.make("old", 0o700).close()
    assert mode_of(tmp_path / "old") == 0o750


def test_written_file_replaces_the_old_one_and_leaves_no_temporary(
    folder: Folder, tmp_path: Path
) -> None:
    folder.write("record", b"old", 0o600)
    folder.write("record", b"new", 0o600)
    assert (tmp_path / "record").read_bytes() == b"new"
    assert folder.names() == ["record"]


def test_write_over_a_link_replaces_the_link(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"untouched")
    (tmp_path / "record").symlink_to("target")
    folder.write("record", b"new", 0o600)
    assert (tmp_path / "target").read_bytes() == b"untouched"
    assert not (tmp_path / "record").is_symlink()


def test_temporary_of_a_killed_run_does_not_keep_the_next_from_writing(
    folder: Folder, tmp_path: Path
) -> None:
    temporary = folder_module._temporary_name("record")
    (tmp_path / temporary).symlink_to("/etc/passwd")
    folder.write("record", b"new", 0o600)
    assert folder.names() == ["record"]


def test_write_of_the_longest_file_name_works(folder: Folder) -> None:
    folder.write("n" * 255, b"x", 0o600)
    assert folder.read("n" * 255, max_bytes=1) == b"x"


@pytest.mark.parametrize("put", [put_one, put_set])
def test_matrix_w2_short_writes_are_continued(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, put: Put
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:7]))
    put(folder, "record", bytes(range(100)))
    assert folder.read("record", max_bytes=100) == bytes(range(100))


@pytest.mark.parametrize("put", [put_one, put_set])
@pytest.mark.parametrize("call", ["write", "fsync", "fchmod", "close", "rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_matrix_w2_w4_failed_write_keeps_the_old_file_and_removes_the_new_one(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, call: str, number: int, put: Put
) -> None:
    folder.write("record", b"old", 0o600)
    original = getattr(os, call)
    handles = open_handles()

    def fail(*arguments: object, **keywords: object) -> None:
        if call == "close":
            original(*arguments)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StoreError) as caught:
        put(folder, "record", b"new")
    monkeypatch.undo()
    assert caught.value.hint
    assert open_handles() == handles
    assert folder.read("record", max_bytes=3) == b"old"
    assert folder.names() == ["record"]


def test_full_file_system_is_told_with_what_to_do(folder: Folder) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StoreError, match="File too large"):
            folder.write("record", bytes(2000), 0o600)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert folder.names() == []


def test_absent_file_reads_as_none(folder: Folder) -> None:
    assert folder.read("record", max_bytes=1) is None
    assert folder.open("sub") is None
    assert folder.stat("record") is None


def test_fifo_is_refused_without_waiting(folder: Folder, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pubcert.pem")
    with pytest.raises(UnsafeEntryError, match="not a regular file"):
        folder.read("pubcert.pem", max_bytes=1)


@pytest.mark.parametrize("target", ["real", "/etc/passwd", "nowhere"])
def test_link_to_a_file_is_refused(folder: Folder, tmp_path: Path, target: str) -> None:
    (tmp_path / "real").write_bytes(b"x")
    (tmp_path / "pubcert.pem").symlink_to(target)
    with pytest.raises(UnsafeEntryError, match="symbolic link"):
        folder.read("pubcert.pem", max_bytes=1_000_000)


def test_link_to_a_folder_is_refused(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to("real")
    with pytest.raises(UnsafeEntryError, match="not a folder but a symbolic link"):
        folder.open("linked")
    with pytest.raises(UnsafeEntryError):
        folder.make("linked", 0o700)


def test_folder_in_place_of_a_file_is_refused(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "pubcert.pem").mkdir()
    with pytest.raises(UnsafeEntryError, match="not a regular file"):
        folder.read("pubcert.pem", max_bytes=1)


def test_file_of_another_owner_is_refused_where_owners_count(
    folder: Folder, tmp_path: Path
) -> None:
    (tmp_path / "pubcert.pem").write_bytes(b"x")
    assert folder.read("pubcert.pem", max_bytes=1, owners=MINE) == b"x"
    with pytest.raises(UnsafeEntryError, match="belongs to uid"):
        folder.read("pubcert.pem", max_bytes=1, owners=OTHERS)


def test_folder_of_another_owner_is_refused_where_owners_count(
    folder: Folder, tmp_path: Path
) -> None:
    (tmp_path / "a.example").mkdir()
    with pytest.raises(UnsafeEntryError, match="belongs to uid"):
        folder.open("a.example", owners=OTHERS)


def test_hard_link_is_refused_only_where_owners_count(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "pubcert.pem").write_bytes(b"x")
    (tmp_path / "backup").hardlink_to(tmp_path / "pubcert.pem")
    assert folder.read("pubcert.pem", max_bytes=1) == b"x"
    with pytest.raises(UnsafeEntryError, match="hard link"):
        folder.read("pubcert.pem", max_bytes=1, owners=MINE)


def test_file_that_is_too_big_is_refused(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "pubcert.pem").write_bytes(b"12345")
    assert folder.read("pubcert.pem", max_bytes=5) == b"12345"
    with pytest.raises(UnsafeEntryError, match="more than 4 bytes"):
        folder.read("pubcert.pem", max_bytes=4)


def test_sparse_giant_costs_nothing(folder: Folder, tmp_path: Path) -> None:
    with (tmp_path / "pubcert.pem").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UnsafeEntryError, match="more than"):
        folder.read("pubcert.pem", max_bytes=1 << 20)


def test_create_makes_a_file_once(folder: Folder) -> None:
    assert folder.create("account.json", b"first", 0o644)
    assert not folder.create("account.json", b"second", 0o644)
    assert folder.read("account.json", max_bytes=10) == b"first"
    assert folder.names() == ["account.json"]


def test_create_is_won_by_one_of_many_threads(folder: Folder, tmp_path: Path) -> None:
    won = []

    def claim(content: bytes) -> None:
        with Folder.open_base(tmp_path) as own:
            try:
                if own.create("account.json", content, 0o644):
                    won.append(content)
            except StoreError:
                # another thread took the temporary file away: it lost too
                return

    threads = [threading.Thread(target=claim, args=(bytes([65 + i]),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folder.read("account.json", max_bytes=1) is not None
    assert len(won) <= 1


@pytest.mark.parametrize("has_noreplace", [True, False])
def test_move_never_replaces(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, has_noreplace: bool
) -> None:
    if not has_noreplace:
        monkeypatch.setattr(folder_module, "_renameat2", lambda *_: False)
    folder.write("a", b"a", 0o600)
    folder.write("b", b"b", 0o600)
    with pytest.raises(EntryExistsError):
        folder.move("a", folder, "b")
    folder.move("a", folder, "c")
    assert folder.names() == ["b", "c"]


@pytest.mark.parametrize("has_noreplace", [True, False])
def test_create_works_with_and_without_renameat2(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_noreplace: bool
) -> None:
    if not has_noreplace:
        monkeypatch.setattr(folder_module, "_renameat2", lambda *_: False)
    assert folder.create("account.json", b"x", 0o644)
    assert (tmp_path / "account.json").stat().st_nlink == 1
    assert folder.names() == ["account.json"]


def test_exchange_swaps_two_folders(folder: Folder) -> None:
    with folder.make("live", 0o700) as live, folder.make("new", 0o700) as new:
        live.write("old", b"", 0o600)
        new.write("fresh", b"", 0o600)
    assert folder.exchange("live", folder, "new")
    live_now = folder.open("live")
    assert live_now is not None
    assert live_now.names() == ["fresh"]


def test_exchange_says_where_the_file_system_cannot(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "_libc_renameat2", lambda: lambda *_: errno.EINVAL)
    assert not folder.exchange("a", folder, "b")


def test_exchange_with_nothing_is_an_error(folder: Folder) -> None:
    folder.write("a", b"", 0o600)
    with pytest.raises(StoreError, match="cannot be exchanged"):
        folder.exchange("a", folder, "b")


def test_remove_of_an_absent_entry_is_fine(folder: Folder) -> None:
    folder.remove("nothing")
    folder.remove_tree("nothing")


def test_remove_tree_takes_links_fifos_and_folders_and_spares_what_they_point_to(
    folder: Folder, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_bytes(b"keep")
    victim = tmp_path / "staged"
    (victim / "sub" / "deeper").mkdir(parents=True)
    (victim / "link").symlink_to(outside)
    (victim / "sub" / "link").symlink_to("..")
    os.mkfifo(victim / "sub" / "fifo")
    (victim / "sub" / "deeper" / "file").write_bytes(b"x")
    (victim / "hard").hardlink_to(outside / "keep")
    folder.remove_tree("staged")
    assert folder.names() == ["outside"]
    assert (outside / "keep").read_bytes() == b"keep"


def test_remove_tree_of_a_link_removes_the_link_alone(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    folder.remove_tree("link")
    assert folder.names() == ["real"]


def test_remove_tree_needs_no_handle_per_level(folder: Folder) -> None:
    fd = os.dup(folder.fd)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        deeper = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    folder.remove_tree("d")
    assert folder.names() == []


def test_remove_tree_gives_up_on_a_flood(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "MAX_REMOVED_ENTRIES", 10)
    (tmp_path / "staged").mkdir()
    for number in range(20):
        (tmp_path / "staged" / str(number)).touch()
    with pytest.raises(StoreError, match="more than 10 entries"):
        folder.remove_tree("staged")


def test_closed_twice_is_closed_once(tmp_path: Path) -> None:
    folder = Folder.open_base(tmp_path)
    folder.close()
    other = os.open(tmp_path, os.O_RDONLY)
    folder.close()
    os.fstat(other)
    os.close(other)


def test_base_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "md").touch()
    with pytest.raises(StoreError, match="not a folder"):
        Folder.open_base(tmp_path / "md")


def test_base_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "md").symlink_to("real")
    with Folder.open_base(tmp_path / "md") as folder:
        assert folder.names() == []


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE])
def test_want_of_handles_or_memory_says_nothing_about_a_file(folder: Folder, error: int) -> None:
    folder.write("key", b"secret", 0o600)
    with refusing("open-to-read", error), pytest.raises(ExhaustedError) as caught:
        folder.read("key", max_bytes=100)
    assert caught.value.hint


@pytest.mark.parametrize("call", ["fstat", "fstatvfs"])
def test_disk_that_tells_nothing_is_a_store_error(folder: Folder, call: str) -> None:
    ask = {"fstat": folder.status, "fstatvfs": folder.file_system}[call]
    with refusing(call, errno.EIO), pytest.raises(StoreError, match="cannot be looked at"):
        ask()


def test_lock_file_that_cannot_be_looked_at_leaves_no_handle(folder: Folder) -> None:
    before = open_handles()
    with refusing("fstat", errno.EIO), pytest.raises(StoreError, match="cannot be opened"):
        folder.open_lock("lock", 0o600)
    assert open_handles() == before


# --- what the disk may answer to any call -------------------------------------------------------

FAILING = {
    "open": ("open", lambda folder: folder.open("sub"), "cannot be opened"),
    "make": ("mkdir", lambda folder: folder.make("new", 0o700), "cannot be made"),
    "open what was made": ("open", lambda folder: folder.make("new", 0o700), "cannot be opened"),
    "give a mode": ("fchmod", lambda folder: folder.make("new", 0o750), "cannot be made"),
    "set a mode": ("fchmod", lambda folder: folder.set_mode(0o750), "cannot be given its mode"),
    "list": ("listdir", lambda folder: folder.names(), "cannot be listed"),
    "look": ("stat", lambda folder: folder.stat("record"), "cannot be looked at"),
    "open to read": ("open", lambda folder: folder.read("record", max_bytes=9), "cannot be read"),
    "read": ("read", lambda folder: folder.read("record", max_bytes=9), "cannot be read"),
    "create": ("open", lambda folder: folder.write("new", b"", 0o600), "cannot be written"),
    "write": ("write", lambda folder: folder.write_all({"a": b"a"}, 0o600), "cannot be written"),
    "lock": ("open", lambda folder: folder.open_lock("lock", 0o600), "cannot be opened"),
    "sync": ("fsync", lambda folder: folder.sync(), "cannot be written to the disk"),
    "open to sync": ("open", lambda folder: folder.sync_file("record"), "cannot be opened"),
    "sync a file": ("fsync", lambda folder: folder.sync_file("record"), "cannot be written to the"),
    "remove": ("unlink", lambda folder: folder.remove("record"), "cannot be removed"),
    "remove a tree": ("rmdir", lambda folder: folder.remove_tree("sub"), "cannot be removed"),
    "empty a tree": ("unlink", lambda folder: folder.remove_tree("sub"), "cannot be removed"),
}


@pytest.mark.parametrize(("call", "act", "message"), FAILING.values(), ids=FAILING)
def test_matrix_w2_w3_disk_error_at_any_call_is_an_error_with_its_path(
    folder: Folder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    act: Callable[[Folder], object],
    message: str,
) -> None:
    folder.write("record", b"old", 0o600)
    folder.make("sub", 0o700).write("entry", b"", 0o600)
    hits = []

    def fail(*arguments: object, **keywords: object) -> None:
        hits.append(arguments)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StoreError, match=message) as caught:
        act(folder)
    monkeypatch.undo()
    assert hits
    assert caught.value.path.startswith(str(tmp_path))
    assert caught.value.hint == "the disk reports an error; look at the kernel's log (dmesg)"
    assert folder.read("record", max_bytes=9) == b"old"


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (errno.EROFS, "read-only"),
        (errno.ENOSPC, "free space"),
        (errno.EDQUOT, "quota"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ENFILE, "ulimit -n"),
        (errno.EBUSY, "mounted there"),
        (errno.ESTALE, "NFS"),
        (errno.ENOMEM, "memory"),
        (errno.ENOTSUP, None),
    ],
)
def test_matrix_w3_disk_error_says_what_to_do(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, number: int, word: str | None
) -> None:
    def fail(*arguments: object, **keywords: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "mkdir", fail)
    with pytest.raises(StoreError) as caught:
        folder.make("new", 0o700)
    assert not caught.value.unreadable
    assert (caught.value.hint is None) if word is None else (word in (caught.value.hint or ""))


@pytest.mark.parametrize(
    ("uid", "hint"),
    [
        (0, "root is kept out: an NFS export needs no_root_squash"),
        (1234, "not allowed for uid 1234; run it as the store's owner, or with sudo"),
    ],
)
@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_who_is_kept_out_is_told_what_his_own_remedy_is(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, number: int, uid: int, hint: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    with refusing("mkdir", number) as was_refused, pytest.raises(StoreError) as caught:
        folder.make("new", 0o700)
    assert was_refused()
    assert caught.value.unreadable
    assert (caught.value.hint or "").startswith(hint)


@as_root
@pytest.mark.parametrize("mask", [0o000, 0o077, 0o777])
def test_user_whose_umask_takes_his_own_rights_still_makes_folders(
    parts_folder: Path, mask: int
) -> None:
    parts_folder.chmod(0o777)
    os.seteuid(NOBODY)
    try:
        with umask(mask), Folder.open_base(parts_folder) as base, base.make("a", 0o750) as made:
            made.write("key", b"secret", 0o600)
    finally:
        os.seteuid(0)
    assert mode_of(parts_folder / "a") == 0o750
    assert mode_of(parts_folder / "a" / "key") == 0o600


@as_root
def test_folder_that_somebody_swapped_while_it_was_made_is_refused(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.mkdir

    def swap(name: str, mode: int, *, dir_fd: int) -> None:
        real(name, mode, dir_fd=dir_fd)
        os.rmdir(name, dir_fd=dir_fd)
        real(name, mode, dir_fd=dir_fd)
        os.chown(name, NOBODY, NOBODY, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", swap)
    with pytest.raises(StoreError, match="replaced while it was made"):
        folder.make("staged", 0o755)
    assert (tmp_path / "staged").stat().st_uid == NOBODY


def test_folder_that_vanishes_while_it_is_opened_is_an_error(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(*_: object, **__: object) -> None:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    monkeypatch.setattr(os, "mkdir", taken)
    with pytest.raises(StoreError, match="vanished while it was opened"):
        folder.make("absent", 0o700)


def test_file_that_grows_while_it_is_read_is_read_to_its_end_or_refused(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "growing"
    file.write_bytes(b"1234")
    before = file.stat()
    file.write_bytes(b"12345678")
    monkeypatch.setattr(os, "fstat", lambda _: before)
    assert folder.read("growing", max_bytes=8) == b"12345678"
    with pytest.raises(UnsafeEntryError, match="more than 6 bytes"):
        folder.read("growing", max_bytes=6)


def test_file_that_appears_while_another_is_written_is_kept(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def appear(fd: int) -> None:
        real(fd)
        (tmp_path / "account.json").write_bytes(b"of mod_md")

    monkeypatch.setattr(os, "fsync", appear)
    assert not folder.create("account.json", b"ours", 0o644)
    assert folder.names() == ["account.json"]
    assert folder.read("account.json", max_bytes=99) == b"of mod_md"


def test_interrupted_write_leaves_no_temporary(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        folder.write("record", b"new", 0o600)
    assert folder.names() == []


def test_temporary_that_somebody_makes_again_and_again_is_given_up(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / folder_module._temporary_name("record")
    real, made = os.open, []

    def first(path: str, flags: int, *arguments: int, **keywords: int) -> int:
        if flags & os.O_EXCL:
            made.append(path)
            temporary.touch()
        return real(path, flags, *arguments, **keywords)

    monkeypatch.setattr(os, "open", first)
    with pytest.raises(StoreError):
        folder.write("record", b"new", 0o600)
    assert len(made) == 4
    assert folder.stat("record") is None


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_lock_that_is_no_regular_file_is_refused(
    folder: Folder, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "run.lock")
    with pytest.raises(StoreError, match=r"not a regular file|Is a directory"):
        folder.open_lock("run.lock", 0o600)


@as_root
def test_lock_belongs_to_the_owner_of_the_store(folder: Folder, tmp_path: Path) -> None:
    folder.new_uid = NOBODY
    os.close(folder.open_lock("run.lock", 0o600))
    assert (tmp_path / "run.lock").stat().st_uid == NOBODY


def test_sync_of_what_is_absent_or_no_file_is_fine(folder: Folder, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    folder.sync_file("fifo")
    folder.sync_file("absent")


def test_tree_of_somebody_that_may_not_be_removed_is_an_error(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(StoreError, match="cannot be removed"):
        folder.remove_tree("file")


def test_folder_that_fills_while_it_is_removed_is_emptied_again(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "staged" / "sub").mkdir(parents=True)
    real = os.rmdir
    refilled: list[str] = []

    def refill(name: str, *, dir_fd: int) -> None:
        if name == "sub" and not refilled:
            refilled.append(name)
            (tmp_path / "staged" / "sub" / "late").touch()
        real(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", refill)
    folder.remove_tree("staged")
    assert refilled
    assert folder.names() == []


def test_c_library_without_renameat2_is_one_that_cannot_exchange(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    folder_module._libc_renameat2.cache_clear()
    try:
        assert not folder.exchange("a", folder, "b")
    finally:
        folder_module._libc_renameat2.cache_clear()


def test_folder_is_shown_by_its_path(folder: Folder, tmp_path: Path) -> None:
    assert repr(folder) == f"Folder({str(tmp_path)!r})"


@pytest.mark.parametrize(
    ("user", "advice"), [(0, "no_root_squash"), (1000, "not allowed for uid 1000; run it as")]
)
def test_who_is_kept_out_is_told_what_to_do(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, user: int, advice: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    with refusing("open", errno.EACCES), pytest.raises(StoreError) as caught:
        folder.open_lock("run.lock", 0o600)
    assert advice in str(caught.value.hint)


def test_folder_that_vanishes_as_soon_as_it_is_made_is_an_error_with_its_path(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = os.mkdir

    def make_and_lose(name: str, mode: int, *, dir_fd: int) -> None:
        make(name, mode, dir_fd=dir_fd)
        (tmp_path / name).rmdir()

    monkeypatch.setattr(os, "mkdir", make_and_lose)
    with pytest.raises(StoreError, match="cannot be opened: No such file") as caught:
        folder.make("new", 0o700)
    assert caught.value.path == str(tmp_path / "new")


def test_folder_below_which_something_is_mounted_cannot_be_removed(
    folder: Folder, tmp_path: Path
) -> None:
    (tmp_path / "staged" / "mounted").mkdir(parents=True)
    with (
        refusing("rmdir", errno.EBUSY, of="mounted") as was_refused,
        pytest.raises(StoreError, match="cannot be removed") as caught,
    ):
        folder.remove_tree("staged")
    assert was_refused()
    assert caught.value.hint == "something is mounted there, or in use"
