"""Watch what has been changed and not been written to the disk yet, and under which lock."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mdconnector.store.lock import STORE_LOCK
from tests.store.kill_points import Call, watched

_FOLDERS_CHANGED = {
    "open": ("dir_fd",),
    "mkdir": ("dir_fd",),
    "rename": ("src_dir_fd", "dst_dir_fd"),
    "link": ("dst_dir_fd",),
}


@contextmanager
def unsynced(
    *,
    before_exchange: Callable[[set[str]], None] | None = None,
    before_removal: Callable[[str, set[str]], None] | None = None,
) -> Iterator[Callable[[], set[str]]]:
    """Yield a function that returns the paths with changes that a power cut could undo.

    Removals do not count: what comes back after a power cut is removed again. `before_exchange` is
    handed these paths just before two folders change places, `before_removal` the name of a file
    and these paths just before it goes.
    """
    dirty: dict[tuple[int, int], str] = {}

    def mark(fd: int) -> None:
        status = os.fstat(fd)
        dirty[status.st_dev, status.st_ino] = str(Path(f"/proc/self/fd/{fd}").readlink())

    def watch(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], original: Call) -> Any:
        if name == "renameat2" and args[-1] == 2 and before_exchange is not None:
            before_exchange(set(dirty.values()))
        if name == "unlink" and before_removal is not None:
            before_removal(args[0], set(dirty.values()))
        result = original(*args, **kwargs)
        for key in _FOLDERS_CHANGED.get(name, ()):
            mark(kwargs[key])
        if name == "renameat2":
            mark(args[0])
            mark(args[2])
        elif name in ("write", "fchmod", "fchown"):
            mark(args[0])
        elif name == "fsync":
            status = os.fstat(args[0])
            dirty.pop((status.st_dev, status.st_ino), None)
        return result

    with watched(watch):
        yield lambda: {path for path in dirty.values() if "(deleted)" not in path}


@contextmanager
def locked_exchanges(base: Path) -> Iterator[list[bool]]:
    """Yield a list of whether somebody held store.lock, for each two folders that change places."""
    seen: list[bool] = []

    def watch(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], original: Call) -> Any:
        if name == "renameat2" and args[-1] == 2:
            seen.append(_is_locked(base / STORE_LOCK))
        return original(*args, **kwargs)

    with watched(watch):
        yield seen


def _is_locked(path: Path) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
