"""The locks: one run at a time, told who holds it; and mod_md's own lock around a swap."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mdconnector.errors import LockedError, StoreError
from mdconnector.store import lock
from mdconnector.store.lock import run_lock, store_lock
from mdconnector.store.tree import Store
from mdconnector.this_host import host_name
from tests.store.kill_points import refusing

_HOLD = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o640)
getattr(fcntl, sys.argv[2])(fd, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


_F_OFD_SETLK = 37


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A new store."""
    opened = Store.open(
        tmp_path / "md",
        httpd_user_uid=None,
        httpd_group_gid=None,
        mod_md_loaded=False,
        create=True,
    )
    assert opened is not None
    with opened:
        yield opened


@contextmanager
def held_elsewhere(path: Path, how: str = "flock") -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a lock until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def _must_not_wait(holder: str) -> None:
    pytest.fail(f"waited for {holder}")


def test_run_lock_names_its_holder_while_it_is_held(store: Store) -> None:
    file = store.path / "mdconnector" / "run.lock"
    with run_lock(store, wait_seconds=0, command="renew --all", on_wait=_must_not_wait):
        holder = json.loads(file.read_text())
        assert (holder["pid"], holder["command"]) == (os.getpid(), "renew --all")
        assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() == ""


def test_second_run_is_refused_and_told_who_works(store: Store) -> None:
    path = store.path / "mdconnector" / "run.lock"
    holder = {"pid": 4711, "command": "enroll a.example", "started": "2026-01-01T00:00:00Z"}
    with held_elsewhere(path):
        path.write_text(json.dumps(holder))
        with (
            pytest.raises(
                LockedError, match=r"pid 4711, enroll a\.example, since 2026-01-01"
            ) as it,
            run_lock(store, wait_seconds=0, command="renew", on_wait=_must_not_wait),
        ):
            pytest.fail("got a lock that another process holds")
    assert it.value.exit_code == 75
    assert it.value.age_seconds is not None
    assert it.value.age_seconds > 0


@pytest.mark.parametrize(
    ("host", "named", "where"),
    [(host_name(), "pid 4711, renew", "ps"), ("web-9\x1b[2J", r"pid 4711 on web-9\x1b[2J, ", None)],
)
def test_holder_on_another_host_is_named_with_it(
    store: Store, host: str, named: str, where: str | None
) -> None:
    path = store.path / "mdconnector" / "run.lock"
    holder = {"pid": 4711, "host": host, "command": "renew", "started": "2026-01-01T00:00:00Z"}
    with held_elsewhere(path):
        path.write_text(json.dumps(holder))
        with (
            pytest.raises(LockedError) as caught,
            run_lock(store, wait_seconds=0, command="renew", on_wait=_must_not_wait),
        ):
            pytest.fail("got a lock that another process holds")
    assert named in str(caught.value)
    assert str(caught.value.hint).endswith(where or r"ps on web-9\x1b[2J")


@pytest.mark.parametrize(
    "content", ["", "nonsense", "[]", '{"pid": 1}', '{"pid": 1, "command": "x", "started": 5}']
)
def test_holder_that_cannot_be_told_does_not_matter(store: Store, content: str) -> None:
    path = store.path / "mdconnector" / "run.lock"
    with held_elsewhere(path):
        path.write_text(content)
        with (
            pytest.raises(LockedError, match="another run holds the lock") as caught,
            run_lock(store, wait_seconds=0, command="renew", on_wait=_must_not_wait),
        ):
            pytest.fail("got a lock that another process holds")
    assert caught.value.age_seconds is None


def test_waiting_run_tells_once_and_goes_on_when_the_holder_dies(store: Store) -> None:
    told: list[str] = []
    with held_elsewhere(store.path / "mdconnector" / "run.lock") as holder:

        def end_it(text: str) -> None:
            told.append(text)
            holder.kill()

        with run_lock(store, wait_seconds=60, command="renew", on_wait=end_it):
            assert told == ["another run"]


def test_matrix_b3_lock_file_that_was_replaced_while_it_was_locked_is_not_trusted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store.path / "mdconnector" / "run.lock"
    original = fcntl.flock
    replaced: list[int] = []

    def flock(fd: int, operation: int) -> None:
        original(fd, operation)
        if not replaced:
            path.unlink()
            path.touch()
            replaced.append(fd)

    monkeypatch.setattr(fcntl, "flock", flock)
    with run_lock(store, wait_seconds=0, command="renew", on_wait=_must_not_wait):
        assert json.loads(path.read_text())["command"] == "renew"


def test_lock_is_free_after_an_error(store: Store) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        run_lock(store, wait_seconds=0, command="renew", on_wait=_must_not_wait),
    ):
        raise ZeroDivisionError
    with run_lock(store, wait_seconds=0, command="renew", on_wait=_must_not_wait):
        pass


@pytest.mark.parametrize("how", ["flock", "lockf"])
def test_store_lock_excludes_both_kinds_of_lock(store: Store, how: str) -> None:
    with (
        held_elsewhere(store.path / "store.lock", how),
        pytest.raises(StoreError, match="another process holds it"),
        store_lock(store, wait_seconds=0),
    ):
        pytest.fail("got a lock that another process holds")


@pytest.mark.parametrize("how", ["flock", "lockf"])
def test_store_lock_keeps_others_out_until_it_is_given_back(store: Store, how: str) -> None:
    tries = (
        "import fcntl, os, sys; fd = os.open(sys.argv[1], os.O_RDWR);"
        "getattr(fcntl, sys.argv[2])(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)"
    )
    command = [sys.executable, "-c", tries, str(store.path / "store.lock"), how]
    with store_lock(store):
        assert subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode != 0
    assert subprocess.run(command, check=False).returncode == 0


def _flock_on_bytes(fd: int, how: int) -> None:
    """Lock as NFS does for flock: all bytes, for the open file."""
    kind = fcntl.F_UNLCK if how & fcntl.LOCK_UN else fcntl.F_WRLCK
    fcntl.fcntl(fd, _F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0))


def test_store_lock_is_had_where_flock_keeps_our_own_posix_lock_out(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store.path / "store.lock"
    monkeypatch.setattr(fcntl, "flock", _flock_on_bytes)
    with run_lock(store, wait_seconds=0, command="promote", on_wait=_must_not_wait):
        with held_elsewhere(path, "lockf"), pytest.raises(StoreError, match="another process"):
            store_lock(store, wait_seconds=0).__enter__()
        with store_lock(store, wait_seconds=0), path.open("a") as second:
            with pytest.raises(BlockingIOError):
                fcntl.lockf(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with pytest.raises(BlockingIOError):
                _flock_on_bytes(second.fileno(), fcntl.LOCK_EX)
        with pytest.raises(LockedError):
            run_lock(store, wait_seconds=0, command="", on_wait=print).__enter__()


def test_store_lock_that_is_a_link_is_refused(store: Store) -> None:
    (store.path / "store.lock").unlink()
    (store.path / "store.lock").symlink_to("md_store.json")
    with pytest.raises(StoreError, match="Too many levels"), store_lock(store, wait_seconds=0):
        pytest.fail("locked what a link points to")


def test_store_lock_file_stays(store: Store) -> None:
    with store_lock(store):
        pass
    assert (store.path / "store.lock").is_file()


def test_run_goes_on_where_the_lock_file_cannot_name_its_holder(store: Store) -> None:
    with (
        refusing("pwrite", errno.ENOSPC) as has_failed,
        run_lock(store, wait_seconds=0, command="renew", on_wait=_must_not_wait),
    ):
        assert has_failed()
        with pytest.raises(LockedError), run_lock(store, wait_seconds=0, command="", on_wait=print):
            pytest.fail("two runs hold it")


def test_lock_file_that_the_disk_tells_nothing_of_is_a_store_error(store: Store) -> None:
    with store.make_own() as folder:
        fd = folder.open_lock("run.lock", 0o600)
    try:
        with (
            refusing("fstat", errno.EIO, of=fd) as has_failed,
            store.make_own() as folder,
            pytest.raises(StoreError, match="cannot be looked at"),
        ):
            lock._is_current(folder, fd)
        assert has_failed()
    finally:
        os.close(fd)


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_matrix_b5_file_system_without_flock_is_refused(store: Store, error: int) -> None:
    with refusing("flock", error), pytest.raises(StoreError, match="cannot be locked") as caught:
        run_lock(store, wait_seconds=0, command="", on_wait=_must_not_wait).__enter__()
    assert "flock" in str(caught.value.hint)
    with refusing("lockf", error), pytest.raises(StoreError, match="cannot be locked"):
        store_lock(store, wait_seconds=0).__enter__()


def test_store_lock_that_breaks_half_way_is_an_error_and_free_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(StoreError, match="cannot be locked"), store_lock(store, wait_seconds=0):
        pytest.fail("swapped with half a lock")
    monkeypatch.undo()
    with store_lock(store, wait_seconds=0):
        pass


def test_waiting_run_tells_only_once_who_holds_the_lock(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("mdconnector.store.lock._POLL_SECONDS", 0)
    seconds = iter(range(100))
    monkeypatch.setattr("mdconnector.store.lock.time.monotonic", lambda: next(seconds))
    with (
        held_elsewhere(store.path / "mdconnector" / "run.lock"),
        pytest.raises(LockedError),
        run_lock(store, wait_seconds=5, command="renew", on_wait=told.append),
    ):
        pytest.fail("two runs at once")
    assert told == ["another run"]
    assert next(seconds) > 4, "it looked more than once"
