"""The two locks: one run of mdconnector at a time, and mod_md's lock around its own activation.

Rules: both are kernel locks on files that are never removed, so a killed holder leaves nothing to
clear up. The run lock's file names its holder, for people; the lock alone decides. store.lock is
mod_md's: it is held for the swap and nothing else, because Apache stops waiting after seconds.
Hosts may share a store, so a holder is named with its host, and what a file system makes of flock
is found out, not assumed.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from mdconnector.errors import LockedError, StoreBusyError, UnsafeStoreError
from mdconnector.printable import printable
from mdconnector.store.folder import store_error
from mdconnector.this_host import host_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mdconnector.store.folder import Folder
    from mdconnector.store.tree import Store

RUN_LOCK = "run.lock"
RUN_LOCK_MODE = 0o600
STORE_LOCK = "store.lock"
STORE_LOCK_MODE = 0o640

_POLL_SECONDS = 0.1
_MAX_HOLDER_BYTES = 4096


class _Holder(NamedTuple):
    pid: int
    command: str
    started: datetime
    host: str
    """where that is another one than ours"""

    def __str__(self) -> str:
        place = f"pid {self.pid} on {self.host}" if self.host else f"pid {self.pid}"
        return f"{place}, {printable(self.command, 100)}, since {_rfc3339(self.started)}"


@contextmanager
def run_lock(
    store: Store, *, wait_seconds: float, command: str, on_wait: Callable[[str], None]
) -> Iterator[None]:
    """Hold mdconnector/run.lock for a whole run that writes.

    `command` is shown to whoever has to wait. `on_wait` is called once with who holds the lock,
    before the wait begins. Raises LockedError when `wait_seconds` are over.
    """
    with store.make_own() as folder:
        fd = _take_run_lock(folder, wait_seconds, on_wait)
    try:
        with suppress(OSError):  # it is only for people
            _write_holder(fd, command)
        yield
    finally:
        with suppress(OSError):
            os.ftruncate(fd, 0)
        os.close(fd)


@contextmanager
def store_lock(store: Store, wait_seconds: float = 5) -> Iterator[None]:
    """Hold mod_md's store.lock, so that no Apache with MDStoreLocks activates a set meanwhile.

    Raises StoreBusyError when `wait_seconds` are over.
    """
    deadline = time.monotonic() + wait_seconds
    fd = store.base.open_lock(STORE_LOCK, STORE_LOCK_MODE)
    try:
        while not _lock_both_ways(store, fd):
            if time.monotonic() >= deadline:
                raise StoreBusyError(
                    "another process holds it; probably an Apache that starts or reloads",
                    path=store.base.path_of(STORE_LOCK),
                    hint="try again; fuser -v tells which process of this host it is",
                )
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(fd)


def _take_run_lock(folder: Folder, wait_seconds: float, on_wait: Callable[[str], None]) -> int:
    deadline = time.monotonic() + wait_seconds
    has_told = False
    while True:
        fd = folder.open_lock(RUN_LOCK, RUN_LOCK_MODE)
        with ExitStack() as unless_taken:
            unless_taken.callback(os.close, fd)
            if _flock(fd, folder.path_of(RUN_LOCK)):
                if _is_current(folder, fd):
                    unless_taken.pop_all()
                    return fd
                # somebody removed the file: what was locked is no longer what others lock
                continue
            holder = _read_holder(fd)
        if time.monotonic() >= deadline:
            raise _locked(holder)
        if not has_told:
            on_wait(str(holder) if holder else "another run")
            has_told = True
        time.sleep(_POLL_SECONDS)


def _flock(fd: int, path: str) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise _cannot_be_locked(error, path) from error
    return True


def _lock_both_ways(store: Store, fd: int) -> bool:
    """Take the flock that Debian's libapr takes, and the POSIX lock that others are built with."""
    path = store.base.path_of(STORE_LOCK)
    if not _flock(fd, path):
        return False
    if _lockf(fd, path) or _flock_is_a_posix_lock(store):
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _lockf(fd: int, path: str) -> bool:
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise _cannot_be_locked(error, path) from error
        return False
    return True


def _flock_is_a_posix_lock(store: Store) -> bool:
    """Say whether one flock keeps out both kinds, our own lockf too, as on NFS.

    Nobody takes a POSIX lock on run.lock: what refuses one there is the flock of this run.
    """
    with store.make_own() as folder:
        fd = folder.open_lock(RUN_LOCK, RUN_LOCK_MODE)
        try:
            return not _lockf(fd, folder.path_of(RUN_LOCK))
        finally:
            os.close(fd)


def _cannot_be_locked(error: OSError, path: str) -> UnsafeStoreError:
    return UnsafeStoreError(
        f"cannot be locked: {error.strerror}",
        path=path,
        hint="the file system of the store must know flock; a local one does, NFS with its lockd",
    )


def _is_current(folder: Folder, fd: int) -> bool:
    status = folder.stat(RUN_LOCK)
    try:
        return status is not None and os.path.samestat(status, os.fstat(fd))
    except OSError as error:
        raise store_error(error, folder.path_of(RUN_LOCK), "cannot be looked at") from error


def _write_holder(fd: int, command: str) -> None:
    holder = {
        "pid": os.getpid(),
        "host": host_name(),
        "command": command,
        "started": _rfc3339(datetime.now(UTC)),
    }
    os.ftruncate(fd, 0)
    os.pwrite(fd, json.dumps(holder).encode() + b"\n", 0)


def _read_holder(fd: int) -> _Holder | None:
    try:
        record = json.loads(os.pread(fd, _MAX_HOLDER_BYTES, 0))
        started = datetime.fromisoformat(record["started"])
        host = str(record.get("host", ""))
        return _Holder(
            int(record["pid"]),
            str(record["command"]),
            started.astimezone(UTC),
            "" if host == host_name() else printable(host, 100),
        )
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        # between taking the lock and writing who it is, or damaged: it is only for people
        return None


def _locked(holder: _Holder | None) -> LockedError:
    if holder is None:
        return LockedError("another run holds the lock")
    age = (datetime.now(UTC) - holder.started).total_seconds()
    return LockedError(f"another run holds the lock: {holder}", age_seconds=age, host=holder.host)


def _rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
