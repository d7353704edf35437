"""Other programs: how mdconnector runs one, here and nowhere else below `hooks`.

Rules: no shell and no search but along a fixed path. A program gets a session and process group of
its own, a time limit at which the whole group is killed, no input and a capped output.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mdconnector.errors import HttpdError, UsageError
from mdconnector.printable import printable

PROGRAM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CLEAN_ENVIRONMENT: Mapping[str, str] = {"PATH": PROGRAM_PATH, "LC_ALL": "C", "HOME": "/"}

_SHELL_WORDS = frozenset({"&&", "||", ";", "|", "&", ">", ">>", "<", "2>&1"})
_MAX_OUTPUT_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that has ended, or was killed at its time limit (`exit_code` is None)."""

    exit_code: int | None
    output: str
    """standard output and error together, the first 64 KiB; not yet safe to print"""


def split_command(command: str) -> tuple[str, ...]:
    """Split a command line into the program's absolute path and its arguments; there is no shell.

    Raises UsageError for what only a shell could run, HttpdError for a program that is not there.
    """
    name, *arguments = command_words(command)
    program = shutil.which(name, path=PROGRAM_PATH)
    if program is None:
        raise HttpdError(f"there is no program {printable(name)}", hint="give its absolute path")
    return (program, *arguments)


def command_words(command: str) -> tuple[str, ...]:
    """Split a command line into words; raise UsageError for what only a shell could run."""
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
    """Run a program to its end; at the limit its whole process group is killed.

    Raises HttpdError where it cannot be started. What it leaves running is not waited for.
    """
    try:
        program = subprocess.Popen(
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=directory,
            start_new_session=True,
        )
    except OSError as error:
        raise HttpdError(f"cannot run {printable(str(arguments[0]))}: {error.strerror}") from error
    with program:
        output, ended = _collect(program, time.monotonic() + limit_seconds)
        if not ended:
            # not yet waited for, so the group's number is still its own
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
        code = program.wait()
    return Finished(code if ended else None, output.decode(errors="replace"))


def _collect(program: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, bool]:
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
                if pipe in ready and not _drain(pipe, output):
                    selector.unregister(pipe)
                if pidfd in ready:
                    _drain(pipe, output)
                    return bytes(output), True
    finally:
        os.close(pidfd)
    return bytes(output), False


def _drain(pipe: int, output: bytearray) -> bool:
    """Take what the pipe holds now, keeping the first 64 KiB; False at its end."""
    for _ in range(64):
        try:
            chunk = os.read(pipe, 65536)
        except BlockingIOError:
            return True
        if not chunk:
            return False
        output += chunk[: _MAX_OUTPUT_BYTES - len(output)]
    return True
