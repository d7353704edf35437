"""The calls by which a run of the real command changes its store, and a death at any of them.

Rules: strace counts a call by its name, in each thread of its own, and of those alone that touch a
path that is named with -P; so a point is a call, a path and a number, and one that another thread
would reach first is left out. A death is proven three ways: the exit status, strace's word, and the
last call of the log, which was not done.
"""

from __future__ import annotations

import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.parts import MissingProgramError, find_program
from tests.torture.figure import CannotRunError

SECONDS_FOR_A_RUN = 120
CALLS = (
    "openat",
    "write",
    "pwrite64",
    "ftruncate",
    "fsync",
    "rename",
    "renameat",
    "renameat2",
    "linkat",
    "mkdir",
    "mkdirat",
    "unlinkat",
    "fchmod",
    "fchown",
)
_LINE = re.compile(r"^(?P<thread>\d+) +(?P<call>\w+)\((?P<arguments>.*)\) += (?P<result>\S+)")
_HANDLE = re.compile(r"\d+<(/[^>]*)>")
_FIXED = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}


@dataclass(frozen=True, slots=True)
class Call:
    """One call that changes something on a path.

    The `number`th of its name in its thread: of those on that path, or of all, if it is `of_all`.
    """

    name: str
    path: str
    number: int
    of_all: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """A command with its environment."""

    words: tuple[str, ...]
    environment: Mapping[str, str]
    failing: str = ""
    """a call that always fails, as strace puts it; then paths cannot be told apart"""


def calls_of(run: Run, *, below: Path, log: Path) -> tuple[tuple[Call, ...], int]:
    """Run a command to its end; return the changes that it makes below a folder.

    And the number of those that cannot be reached, because another thread comes first.
    """
    code, output = _traced(run, log, "-e", f"trace={','.join(CALLS)}")
    if code != 0:
        raise AssertionError(f"the run that nobody kills ended with {code}: {output}")
    text = log.read_text(errors="replace")
    made = list(_changes(text, below, of_all=bool(run.failing)))
    reachable = [call for call, is_first in made if is_first]
    return tuple(dict.fromkeys(reachable)), len(made) - len(reachable)


def died_at(run: Run, call: Call, log: Path) -> bool:
    """Run a command that is killed when it begins a call; False: it never came to it.

    Raises AssertionError where it ended in any other way, or was killed at another call.
    """
    kill = f"inject={call.name}:signal=SIGKILL:when={call.number}"
    where = () if call.of_all else ("-P", call.path)
    code, output = _traced(run, log, *where, "-e", f"trace={call.name}", "-e", kill)
    text = log.read_text(errors="replace")
    if "killed by SIGKILL" not in text:
        assert code in (0, 1), f"it ended with {code}: {output}"
        return False
    assert code in (-signal.SIGKILL, 128 + signal.SIGKILL), f"killed, but it ended with {code}"
    (last,) = [line for line in text.splitlines() if line.rstrip().endswith("= ?")]
    assert f" {call.name}(" in last, f"killed at another call: {last}"
    assert call.path in last, f"killed at another place: {last}"
    return True


def _traced(run: Run, log: Path, *options: str) -> tuple[int, str]:
    try:
        strace = find_program("strace")
    except MissingProgramError as error:
        raise CannotRunError(str(error)) from None
    log.unlink(missing_ok=True)
    done = subprocess.run(
        [strace, "-f", "-qq", "-y", "-o", str(log), *options, *_failing(run), *run.words],
        env={**run.environment, **_FIXED},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_FOR_A_RUN,
    )
    if "ptrace" in done.stderr or not log.exists():
        raise CannotRunError(f"strace may not trace here: {done.stderr.strip()}")
    return done.returncode, done.stdout + done.stderr


def _failing(run: Run) -> tuple[str, ...]:
    return ("-e", f"inject={run.failing}") if run.failing else ()


def _changes(text: str, below: Path, *, of_all: bool) -> Iterator[tuple[Call, bool]]:
    """Yield each change, and whether it is the first that strace would kill at for it."""
    seen: Counter[tuple[str, str, str]] = Counter()
    first: dict[tuple[str, str, int], str] = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        thread, name = match["thread"], match["call"]
        paths = list(dict.fromkeys(_HANDLE.findall(match["arguments"])))
        counted = [""] if of_all else paths
        for path in counted:
            seen[thread, name, path] += 1
            first.setdefault((name, path, seen[thread, name, path]), thread)
        if paths and paths[0].startswith(str(below)) and _is_change(match):
            number = seen[thread, name, counted[0]]
            yield (
                Call(name, paths[0], number, of_all),
                first[name, counted[0], number] == thread,
            )


def _is_change(match: re.Match[str]) -> bool:
    if match["result"].startswith("-"):
        return False
    return match["call"] != "openat" or "O_CREAT" in match["arguments"]
