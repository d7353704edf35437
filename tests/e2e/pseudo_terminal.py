"""The real command on a pseudo-terminal of 100 columns, as a person starts it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Mapping, Sequence

from tests.e2e.command import COMMAND, clean_environment

ENOUGH_SECONDS = 120
SIZE = {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}


def start(
    words: Sequence[str],
    *,
    stdout: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[subprocess.Popen[bytes], int]:
    """Run the command on a pseudo-terminal; return it and the terminal's other end."""
    ours, its = pty.openpty()
    child = subprocess.Popen(
        [*COMMAND, *words],
        env=clean_environment() | SIZE | dict(environment or {}),
        stdin=its,
        stdout=its if stdout is None else stdout,
        stderr=its,
        start_new_session=True,
    )
    os.close(its)
    return child, ours


def read_until_it_ends(ours: int) -> str:
    """Return everything that the terminal is told."""
    told = b""
    deadline = time.monotonic() + ENOUGH_SECONDS
    while time.monotonic() < deadline:
        ready, _, _ = select.select([ours], [], [], 1)
        if not ready:
            continue
        try:
            more = os.read(ours, 65536)
        except OSError:
            break
        if not more:
            break
        told += more
    os.close(ours)
    return told.decode()


def run_on_a_terminal(*words: str, **environment: str) -> tuple[int, str]:
    """Run the command to its end; return its exit code and everything that the terminal is told."""
    child, ours = start(words, environment=environment)
    told = read_until_it_ends(ours)
    return child.wait(ENOUGH_SECONDS), told
