"""A slice of the kills under strace, what counts as one, and that each control is seen."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.torture.figure import Tally
from tests.torture.kills import ENROLL, KILLS, PROMOTE, RENEW, Block, Case, run_block
from tests.torture.system_calls import Call, Run, calls_of, died_at

pytestmark = [pytest.mark.pebble, pytest.mark.strace]

WRITER = """
import os, sys, threading
folder = os.open(sys.argv[1], os.O_RDONLY)
def write(name):
    handle = os.open(name, os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=folder)
    os.write(handle, b"x")
    os.fsync(handle)
    os.close(handle)
write("a")
thread = threading.Thread(target=write, args=("b",))
thread.start()
thread.join()
write("c")
"""


def block(
    case: Case, amount: int, *, first: Case | None = None, without: str = "", of: str = ""
) -> Tally:
    """Do some trials of one case."""
    return run_block(Block(0, case, range(amount), 5, without, first, of))


@pytest.mark.parametrize(
    ("case", "first"),
    [
        pytest.param(ENROLL, None, id="enroll"),
        pytest.param(RENEW, ENROLL, id="renew what was killed"),
        pytest.param(PROMOTE, PROMOTE, id="promote what was killed"),
    ],
)
def test_killed_command_is_mended_by_the_next(case: Case, first: Case | None) -> None:
    tally = block(case, 2, first=first)
    assert tally.violations == []
    assert tally.done == (2 if first is None else 5), tally.counts


@pytest.mark.parametrize(
    ("case", "without", "of", "what"),
    [
        pytest.param(PROMOTE, "exchange", "", "a key is lost", id="exchange"),
        pytest.param(ENROLL, "temporary", "/pubcert", "the next run ended with", id="temporary"),
    ],
)
def test_control_finds_violations(case: Case, without: str, of: str, what: str) -> None:
    """Seven calls: as many as write one chain into pending/ and from there into staging/."""
    assert without in KILLS.controls
    violations = block(case, 7, without=without, of=of).violations
    assert any(what in violation for violation in violations)


def writer(folder: Path) -> Run:
    """A program that makes three files, the second in another thread."""
    return Run((sys.executable, "-c", WRITER, str(folder)), {})


def test_every_change_below_the_folder_is_a_point(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    calls, hidden = calls_of(writer(folder), below=folder, log=tmp_path / "log")
    assert [(call.name, Path(call.path).name, call.number) for call in calls] == [
        ("openat", "store", 1),
        ("write", "a", 1),
        ("fsync", "a", 1),
        ("write", "b", 1),
        ("fsync", "b", 1),
        ("openat", "store", 2),
        ("write", "c", 1),
        ("fsync", "c", 1),
    ]
    assert hidden == 1, "the other thread's first openat, which strace would not come to"


def test_death_is_at_the_very_call(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    assert died_at(writer(folder), Call("write", str(folder / "b"), 1), tmp_path / "log")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a": b"x", "b": b""}


def test_run_that_never_comes_to_the_call_is_no_kill(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    assert not died_at(writer(folder), Call("write", str(folder / "a"), 2), tmp_path / "log")
