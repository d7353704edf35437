"""Run an administrator's command: the lines of MDChallengeDns01, MDNotifyCmd and MDMessageCmd.

Rules: an absolute path and a list of words, never a shell. A command runs with the rights of its
file's owner, in a clean environment, in a session of its own, for a limited time; it is not run at
all while somebody other than that owner or root could change it. Only its own exit code is a
failure; a command that could not be run is told apart from it.
"""

from __future__ import annotations

import os
import pwd
import select
import signal
import stat
import time
from collections import deque
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mdconnector.printable import MAX_CHARACTERS, printable

if TYPE_CHECKING:
    import subprocess

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT_OUTPUT_BYTES = 4096
_MAX_LINKS = 40
_POLL_SECONDS = 0.05
_LAST_WORDS_SECONDS = 1.0
"""how long a command that has ended, but left a child at its pipe, is still listened to"""
_GRACE_SECONDS = 2.0
"""between SIGTERM and SIGKILL"""


class Account(NamedTuple):
    """A user of this system, as a program needs it to run with his rights."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str

    @classmethod
    def of(cls, uid: int) -> Account | None:
        """Return the account of a user; None where the system knows none."""
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            return None
        groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
        return cls(uid, entry.pw_gid, groups, entry.pw_name, entry.pw_dir)

    @classmethod
    def own(cls) -> Account:
        """Return ours, though the system may know nothing of it."""
        uid = os.geteuid()
        return cls.of(uid) or cls(uid, os.getegid(), tuple(os.getgroups()), str(uid), "/")


class HookOutcome(StrEnum):
    """What became of a command."""

    OK = "ok"
    FAILED = "failed"
    NOT_RUN = "not-run"


class HookResult(NamedTuple):
    """How a command ended."""

    outcome: HookOutcome
    program: str
    """safe to print"""
    exit_code: int | None = None
    """None: it was not run, or it was ended by a signal"""
    output: str = ""
    """the end of what it printed, on one line, safe to print"""
    reason: str = ""
    """why it was not run, or how it failed; empty where it went well"""

    def __str__(self) -> str:
        verb = "was not run: " if self.outcome is HookOutcome.NOT_RUN else ""
        said = f": {self.output}" if self.output else ""
        return f"{self.program} {verb}{self.reason or 'ended well'}{said}"


def split_command_line(line: str) -> tuple[str, ...]:
    """Split a line into words as Apache does for its commands.

    A word that begins with a quote ends with the same quote; elsewhere a quote is a character like
    any other. A backslash keeps the character after it (APR: apr_cpystrn.c, apr_tokenize_to_argv).
    """
    words: list[str] = []
    rest = line.lstrip(" \t")
    while rest:
        quote = rest[0] if rest[0] in "\"'" else ""
        length = _word_length(rest := rest[len(quote) :], quote or " \t")
        words.append(_unescaped(rest[:length]))
        rest = rest[length + 1 :].lstrip(" \t")
    return tuple(words)


def run_hook(line: str, arguments: Sequence[str], *, timeout_seconds: float) -> HookResult:
    """Run a command line with `arguments` after its own words, and wait for its end.

    Never raises: whatever happens is in the result. As root the command gets the user, group and
    groups of its file's owner; otherwise it keeps ours.
    """
    words = split_command_line(line)
    try:
        owner = _check(words)
    except (_RefusedError, OSError, ValueError) as error:
        program = printable(words[0]) if words else "the empty command"
        return HookResult(HookOutcome.NOT_RUN, program, reason=_said_by(error))
    return run_as(owner, (*words, *arguments), timeout_seconds=timeout_seconds)


def run_as(
    account: Account, words: Sequence[str], *, timeout_seconds: float, stdin: bytes = b""
) -> HookResult:
    """Run a program of ours, or a checked one, with an account's rights where we are root.

    `stdin` has at most the 64 KiB that a pipe holds. Never raises, as `run_hook`.
    """
    import subprocess

    program = printable(words[0])
    is_root = os.geteuid() == 0
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            cwd="/",
            env=_environment(account),
            start_new_session=True,
            umask=0o022,
            user=account.uid if is_root else None,
            group=account.gid if is_root else None,
            extra_groups=account.groups if is_root else None,
        )
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return HookResult(HookOutcome.NOT_RUN, program, reason=_said_by(error))
    return _await_end(process, program, stdin, timeout_seconds)


def refusal(line: str) -> str | None:
    """Say why a command line would not be run; None where it would be."""
    try:
        _check(split_command_line(line))
    except (_RefusedError, OSError, ValueError) as error:
        return _said_by(error)
    return None


def who_else_writes(path: Path) -> str | None:
    """Say who but root and we could change a file, by itself or by a folder above it; else None.

    Raises OSError where it cannot be looked at.
    """
    try:
        _refuse_writable(path, trusted=frozenset({0, os.geteuid()}))
    except _RefusedError as error:
        return _said_by(error)
    return None


class _RefusedError(Exception):
    """A command that must not be run."""


def _word_length(text: str, ends: str) -> int:
    position = 0
    while position < len(text) and text[position] not in ends:
        escaped = text[position] == "\\" and text[position + 1 : position + 2] in (*" \t\"'",)
        position += 2 if escaped else 1
    return position


def _unescaped(word: str) -> str:
    kept: list[str] = []
    escaped = False
    for character in word:
        escaped = character == "\\" and not escaped
        if not escaped:
            kept.append(character)
    return "".join(kept)


def _check(words: tuple[str, ...]) -> Account:
    """Return whose rights the command is to have, or say why it must not be run."""
    if not words or not words[0].startswith("/"):
        raise _RefusedError("it must begin with an absolute path")
    path = Path(words[0])
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise _RefusedError("it is not a file")
    own = os.geteuid()
    if own not in (0, status.st_uid) and status.st_uid != 0:
        raise _RefusedError(f"it belongs to uid {status.st_uid}, not to root or uid {own}")
    _refuse_writable(path, trusted=frozenset({0, status.st_uid}))
    account = Account.of(status.st_uid) if own == 0 else Account.own()
    if account is None:
        raise _RefusedError(f"its owner, uid {status.st_uid}, is not a user of this system")
    return account


def _refuse_writable(path: Path, *, trusted: frozenset[int]) -> None:
    """Walk to a file, links included; refuse it if others could put another in its place."""
    here = Path("/")
    _refuse_writable_entry(here, here.lstat(), trusted)
    parts = deque(path.parts[1:])
    links = 0
    while parts:
        part = parts.popleft()
        entry = here.parent if part == ".." else here / part
        status = entry.lstat()
        _refuse_writable_entry(entry, status, trusted)
        if not stat.S_ISLNK(status.st_mode):
            here = entry
            continue
        links += 1
        if links > _MAX_LINKS:
            raise _RefusedError("there are too many links in its path")
        target = entry.readlink()
        if target.is_absolute():
            here = Path("/")
        parts.extendleft(reversed(target.parts[1:] if target.is_absolute() else target.parts))


def _refuse_writable_entry(entry: Path, status: os.stat_result, trusted: frozenset[int]) -> None:
    if status.st_uid not in trusted:
        raise _RefusedError(f"{entry} belongs to uid {status.st_uid}, who could replace it")
    # In a sticky folder nobody can rename what belongs to another, so /tmp itself does no harm.
    sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    if status.st_mode & 0o022 and not sticky and not stat.S_ISLNK(status.st_mode):
        raise _RefusedError(f"{entry} is writable by others; chmod go-w {entry}")


def _said_by(error: Exception) -> str:
    return printable((isinstance(error, OSError) and error.strerror) or str(error))


def _environment(account: Account) -> dict[str, str]:
    return {
        "PATH": SEARCH_PATH,
        "HOME": account.home,
        "USER": account.name,
        "LOGNAME": account.name,
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
    }


def _await_end(
    process: subprocess.Popen[bytes], program: str, stdin: bytes, seconds: float
) -> HookResult:
    try:
        _feed(process, stdin)
        tail = _listen(process, time.monotonic() + seconds)
        ended = process.poll() is not None
    finally:
        _end(process)
    output = _shown(tail)
    if not ended:
        reason = f"did not end within {seconds:g} s"
        return HookResult(HookOutcome.FAILED, program, output=output, reason=reason)
    code = process.returncode
    if code < 0:
        reason = f"was ended by signal {-code}"
        return HookResult(HookOutcome.FAILED, program, output=output, reason=reason)
    if code > 0:
        reason = f"exited with {code}"
        return HookResult(HookOutcome.FAILED, program, code, output, reason)
    return HookResult(HookOutcome.OK, program, code, output)


def _feed(process: subprocess.Popen[bytes], stdin: bytes) -> None:
    if process.stdin is None:
        return
    try:
        process.stdin.write(stdin)
        process.stdin.close()
    except BrokenPipeError:
        # it ended without reading; its exit code says more
        return


def _listen(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """Read until the command has ended or its time is over; keep the end of what it said."""
    pipe = process.stdout
    tail = b""
    ended = False
    while (left := deadline - time.monotonic()) > 0:
        if pipe is None:
            _wait(process, left)
            break
        if not ended and process.poll() is not None:
            ended = True
            deadline = min(deadline, time.monotonic() + _LAST_WORDS_SECONDS)
        if not select.select([pipe], [], [], 0 if ended else min(left, _POLL_SECONDS))[0]:
            if ended:
                break
            continue
        chunk = os.read(pipe.fileno(), 1 << 16)
        tail = (tail + chunk)[-_KEPT_OUTPUT_BYTES:]
        if not chunk:
            pipe = None
    return tail


def _wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    from subprocess import TimeoutExpired

    try:
        process.wait(seconds)
    except TimeoutExpired:
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the command's whole process group if it has not ended by itself; close its pipe."""
    if process.poll() is None:
        _signal_group(process, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_SECONDS
        while not _is_zombie(process) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        # The leader is not reaped before this, so that its number still is the group's.
        _signal_group(process, signal.SIGKILL)
        _wait(process, _GRACE_SECONDS)
    if process.stdout is not None:
        process.stdout.close()


def _is_zombie(process: subprocess.Popen[bytes]) -> bool:
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _shown(tail: bytes) -> str:
    text = printable(tail.decode("utf-8", "replace"), limit=8 * _KEPT_OUTPUT_BYTES)
    return text if len(text) <= MAX_CHARACTERS else f"…{text[1 - MAX_CHARACTERS :]}"
