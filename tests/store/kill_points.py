"""Stop an action at its Nth change of the disk: by a death like kill -9, or by an error.

Rules: every call that changes the disk is counted, of the whole process, and the Nth is not done;
a write that is stopped has done half its work. A death is a real one, in a forked child, and its
exit status is the proof.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from mdconnector.store import folder

_CALLS = (
    "write",
    "pwrite",
    "ftruncate",
    "fsync",
    "rename",
    "link",
    "mkdir",
    "unlink",
    "rmdir",
    "fchmod",
    "fchown",
    "setxattr",
)
_READS = ("read", "listdir", "scandir", "stat", "fstat", "fstatvfs")
_LOCKS = ("flock", "lockf")
_EXCHANGE = 2
_KILLED = 77
_BROKEN = 99

Call = Callable[..., Any]
Watch = Callable[[str, tuple[Any, ...], dict[str, Any], Call], Any]


@contextmanager
def watched(watch: Watch, *, can_exchange: bool = True, reads: bool = False) -> Iterator[None]:
    """Hand every call that changes the disk to `watch`, which does it or does not.

    With `reads` those that only look at it too, and those that lock; opening to read is then called
    `open-to-read`.
    """

    def wrap(name: str, original: Call) -> Call:
        return lambda *args, **kwargs: watch(name, args, kwargs, original)

    real_open, real_rename = os.open, folder._renameat2

    def open_(path: Any, flags: int, *args: Any, **kwargs: Any) -> Any:
        if flags & os.O_CREAT:
            return watch("open", (path, flags, *args), kwargs, real_open)
        if reads:
            return watch("open-to-read", (path, flags, *args), kwargs, real_open)
        return real_open(path, flags, *args, **kwargs)

    def renameat2(*args: Any) -> Any:
        if args[-1] == _EXCHANGE and not can_exchange:
            return False
        return watch("renameat2", args, {}, real_rename)

    with ExitStack() as patches:
        for name in (*_CALLS, *(_READS if reads else ())):
            patches.enter_context(mock.patch.object(os, name, wrap(name, getattr(os, name))))
        for name in _LOCKS if reads else ():
            patches.enter_context(mock.patch.object(fcntl, name, wrap(name, getattr(fcntl, name))))
        patches.enter_context(mock.patch.object(os, "open", open_))
        patches.enter_context(mock.patch.object(folder, "_renameat2", renameat2))
        yield


def changes_of(act: Callable[[], object], *, can_exchange: bool = True) -> int:
    """Count the changes that an action makes."""
    count = 0

    def watch(_name: str, args: tuple[Any, ...], kwargs: dict[str, Any], original: Call) -> Any:
        nonlocal count
        count += 1
        return original(*args, **kwargs)

    with watched(watch, can_exchange=can_exchange):
        act()
    return count


def killed_at(
    number: int, act: Callable[[], object], *, can_exchange: bool = True, reads: bool = False
) -> bool:
    """Do an action in a child that dies at its Nth change; False: it was done before.

    With `reads` those calls are counted too that only look at the disk.
    """
    child = os.fork()
    if child == 0:
        try:
            with watched(_death(number), can_exchange=can_exchange, reads=reads):
                act()
        except BaseException:  # noqa: BLE001 - a child that goes on would run the tests twice
            traceback.print_exc(file=sys.__stderr__)
            os._exit(_BROKEN)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, _KILLED), f"the child ended with {code}"
    return code == _KILLED


def _death(number: int) -> Watch:
    count = 0

    def watch(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], original: Call) -> Any:
        nonlocal count
        count += 1
        if count < number:
            return original(*args, **kwargs)
        if name == "write":
            original(args[0], bytes(args[1])[: len(args[1]) // 2])
        return os._exit(_KILLED)

    return watch


@contextmanager
def failing_at(
    number: int, error: int = errno.ENOSPC, *, lasting: bool = False
) -> Iterator[Callable[[], bool]]:
    """Let the Nth change fail, and all after it that need space where the fault is lasting.

    What it yields tells whether a change failed.
    """
    count, failed = 0, False

    def watch(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], original: Call) -> Any:
        nonlocal count, failed
        count += 1
        is_hit = count == number or (
            lasting and count > number and name in ("open", "write", "mkdir")
        )
        if not is_hit:
            return original(*args, **kwargs)
        failed = True
        if name == "write" and len(args[1]) > 1:
            original(args[0], bytes(args[1])[:1])
        raise OSError(error, os.strerror(error))

    with watched(watch):
        yield lambda: failed


@contextmanager
def refusing(name: str, error: int, *, of: object = None) -> Iterator[Callable[[], bool]]:
    """Let all calls of a name fail, or those alone whose first argument is `of`.

    What it yields tells whether one failed.
    """
    failed = False

    def watch(call: str, args: tuple[Any, ...], kwargs: dict[str, Any], original: Call) -> Any:
        nonlocal failed
        if call != name or of not in (None, args[0]):
            return original(*args, **kwargs)
        failed = True
        raise OSError(error, os.strerror(error))

    with watched(watch, reads=True):
        yield lambda: failed
