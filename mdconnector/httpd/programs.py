"""Other programs: how mdconnector runs one, here and nowhere else below `hooks`.

Rules: no shell and no search but along a fixed path. A program gets a session and process group of
its own, a time limit at which the whole group is killed, no input and a capped output.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mdconnector.errors import HttpdError, UsageError
from mdconnector.printable import printable

if TYPE_CHECKING:
    import subprocess

PROGRAM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CLEAN_ENVIRONMENT: Mapping[str, str] = {"PATH": PROGRAM_PATH, "LC_ALL": "C", "HOME": "/"}

_SHELL_WORDS = frozenset({"&&", "||", ";", "|", "&", ">", ">>", "<", "2>&1"})
_MAX_OUTPUT_BYTES = 64 * 1024
_MAX_DUMP_BYTES = 256 * 1024 * 1024


class Finished(NamedTuple):
    """A program that has ended, or was killed at its time limit (`exit_code` is None)."""

    exit_code: int | None
    output: str
    """standard output, and standard error unless that is kept apart; not yet safe to print"""
    errors: str = ""
    """standard error where it is kept apart"""


def split_command(command: str) -> tuple[str, ...]:
    """Split a command line into the program's absolute path and its arguments; there is no shell.

    Raises UsageError for what only a shell could run, HttpdError for a program that is not there.
    """
    name, *arguments = command_words(command)
    program = find_program(name)
    if program is None:
        raise HttpdError(f"there is no program {printable(name)}", hint="give its absolute path")
    return (program, *arguments)


def find_program(name: str) -> str | None:
    """Return a program's absolute path, searched along the fixed path alone."""
    import shutil

    return shutil.which(name, path=PROGRAM_PATH)


def command_words(command: str) -> tuple[str, ...]:
    """Split a command line into words; raise UsageError for what only a shell could run."""
    import shlex

    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"the command cannot be split into words: {error}") from error
    if not words:
        raise UsageError("the command is empty")
    relative = "/" in words[0] and not words[0].startswith("/")
    if relative or _SHELL_WORDS.intersection(words):
        raise UsageError(
            f"'{printable(command)}' would need a shell or a current folder",
            hint="write it into a script and give the script's absolute path",
        )
    return tuple(words)


def run_program(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str] = CLEAN_ENVIRONMENT,
    directory: Path = Path("/"),
    limit_seconds: float,
) -> Finished:
    """Run a program to its end, and keep the first 64 KiB of what it says.

    At the limit its whole process group is killed. Raises HttpdError where it cannot be started.
    What it leaves running is not waited for.
    """
    program = _start(arguments, environment, directory, errors_to=None)
    code, output = _await_end(program, limit_seconds, _MAX_OUTPUT_BYTES)
    return Finished(code, output.decode(errors="replace"))


def dump_of(
    arguments: Sequence[str], *, environment: Mapping[str, str], limit_seconds: float
) -> Finished:
    """Run a program as `run_program` does, for a long text on standard output alone.

    Bytes that are not UTF-8 become surrogates. Raises HttpdError where it cannot be started.
    """
    with open(os.memfd_create("errors"), "w+b") as errors:  # noqa: PTH123 - it has no path
        program = _start(arguments, environment, Path("/"), errors_to=errors.fileno())
        code, output = _await_end(program, limit_seconds, _MAX_DUMP_BYTES)
        errors.seek(0)
        said = errors.read(_MAX_OUTPUT_BYTES)
    return Finished(
        code, output.decode(errors="surrogateescape"), said.decode(errors="surrogateescape")
    )


def _start(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    directory: Path,
    *,
    errors_to: int | None,
) -> subprocess.Popen[bytes]:
    """Start a program; without a handle of their own, errors go where the output goes."""
    import subprocess

    try:
        return subprocess.Popen(
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if errors_to is None else errors_to,
            env=dict(environment),
            cwd=directory,
            start_new_session=True,
        )
    except OSError as error:
        raise HttpdError(f"cannot run {printable(str(arguments[0]))}: {error.strerror}") from error


def _await_end(
    program: subprocess.Popen[bytes], limit_seconds: float, max_bytes: int
) -> tuple[int | None, bytes]:
    with program:
        output, ended = _collect(program, time.monotonic() + limit_seconds, max_bytes)
        if not ended:
            # not yet waited for, so the group's number is still its own
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
        code = program.wait()
    return (code if ended else None), output


def _collect(
    program: subprocess.Popen[bytes], deadline: float, max_bytes: int
) -> tuple[bytes, bool]:
    """Read the output until the program itself has ended; a child of it may keep the pipe open."""
    assert program.stdout is not None  # noqa: S101 - asked for above; for the type checker
    pipe = program.stdout.fileno()
    os.set_blocking(pipe, False)
    output = bytearray()
    pidfd = os.pidfd_open(program.pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            selector.register(pidfd, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0:
                ready = {key.fd for key, _ in selector.select(left)}
                if pipe in ready and not _drain(pipe, output, max_bytes):
                    selector.unregister(pipe)
                if pidfd in ready:
                    _drain(pipe, output, max_bytes)
                    return bytes(output), True
    finally:
        os.close(pidfd)
    return bytes(output), False


def _drain(pipe: int, output: bytearray, max_bytes: int) -> bool:
    """Take what the pipe holds now, keeping the first `max_bytes`; False at its end."""
    for _ in range(64):
        try:
            chunk = os.read(pipe, 65536)
        except BlockingIOError:
            return True
        if not chunk:
            return False
        output += chunk[: max_bytes - len(output)]
    return True
