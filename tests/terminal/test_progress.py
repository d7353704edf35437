"""Progress: what is drawn for given steps, and the real command on a pseudo-terminal."""

from __future__ import annotations

import io
import logging
import os
import re
import signal
from pathlib import Path

import pytest
from rich.console import Console

from mdconnector.steps import Phase, Step
from mdconnector.terminal.progress import SHOWN_ROWS, Board, draw
from mdconnector.warning import warn
from tests.e2e.plain_sites import PlainSites, settings_for, ssl_site
from tests.e2e.pseudo_terminal import (
    ENOUGH_SECONDS,
    read_until_it_ends,
    run_on_a_terminal,
    start,
)
from tests.parts import Pebble

NAMES = tuple(f"{word}.example.org" for word in ("eins", "zwei", "drei"))
SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"


def step(name: str, phase: Phase, words: str = "ordering", *, failed: bool = False) -> Step:
    return Step(name, words, phase, has_failed=failed)


def drawn(*steps: Step, width: int = 80, rows: int = SHOWN_ROWS, seconds: int = 0) -> list[str]:
    """Return the lines that are seen."""
    console = Console(file=io.StringIO(), width=width, no_color=True, force_terminal=False)
    with console.capture() as capture:
        console.print(draw(steps, seconds=seconds, rows=rows))
    return [line.rstrip() for line in capture.get().splitlines()]


# --- what is drawn -------------------------------------------------------------------------------


def test_the_first_line_counts_what_is_done_and_what_has_failed() -> None:
    done = step("a.example", Phase.DONE, "enrolled")
    failed = step("b.example", Phase.DONE, "failed", failed=True)
    (line,) = drawn(done, failed, seconds=75)
    assert re.search(r"  2 of 2 done, 1 failed  1:15$", line)


def test_each_domain_at_work_has_its_line_and_its_step() -> None:
    _, *lines = drawn(
        step("a.example", Phase.WAITING, "waits for the CA"),
        step("bb.example", Phase.AT_WORK, "ordering"),
        step("c.example", Phase.DONE, "enrolled"),
    )
    assert lines == ["bb.example  ordering", "a.example   waits for the CA"]


def test_those_that_wait_for_their_turn_are_counted() -> None:
    queued = [step(f"{n}.example", Phase.QUEUED, "waits for its turn") for n in range(30)]
    _, *lines = drawn(*queued, step("a.example", Phase.AT_WORK))
    assert lines == ["a.example  ordering", "30 more    waits for its turn"]


def test_there_are_no_more_lines_than_there_is_room_for() -> None:
    many = [step(f"{n}.example", Phase.AT_WORK, "asking Apache") for n in range(100)]
    lines = drawn(*many, rows=3)
    assert len(lines) == 5
    assert lines[-1] == "97 more    asking Apache"


def test_a_narrow_terminal_cuts_lines_and_wraps_none() -> None:
    lines = drawn(step("a" * 60 + ".example", Phase.AT_WORK, "answering challenges"), width=40)
    assert len(lines) == 2
    assert all(len(line) <= 40 for line in lines)


def test_a_board_takes_itself_away_and_never_hides_the_cursor_for_longer_than_a_write() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=60, height=20)
    board = Board(color=False, console=console)
    assert file.getvalue().endswith(SHOW_CURSOR)
    board.show(step("a.example", Phase.AT_WORK))
    board.close()
    assert "0 of 1 done" in file.getvalue()
    # the last thing erases the lines that were drawn: up and erase, for each
    assert re.search(r"(\x1b\[1A\x1b\[2K)+$", file.getvalue())


def test_a_warning_goes_above_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    board = Board(color=False, console=Console(file=screen, force_terminal=True, width=60))
    board.show(step("a.example", Phase.AT_WORK))
    warn("what was remembered is lost")
    board.close()
    assert (
        left_on_screen(screen.getvalue()).strip()
        == "mdconnector: WARNING: what was remembered is lost"
    )
    assert "0 of 1 done" in screen.getvalue().partition("lost")[2], "it is drawn anew below"


# --- the real command ----------------------------------------------------------------------------


@pytest.fixture
def sites(tmp_path: Path, counting_ca: Pebble) -> PlainSites:
    """Three domains that have nothing yet."""
    made = PlainSites(tmp_path)
    for name in NAMES:
        made.write(name, ssl_site(name, settings_for(counting_ca)))
    return made


def on_a_terminal(sites: PlainSites, *words: str) -> tuple[int, str]:
    return run_on_a_terminal(*words, "--sites", str(sites.sites))


def left_on_screen(told: str) -> str:
    """Return what stands there at the end: what was erased line by line is gone."""
    lines: list[str] = [""]
    for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)", told):
        if part == "\n":
            lines.append("")
        elif part == "\x1b[1A":
            lines.pop()
        elif part in {"\x1b[2K", "\r"}:
            lines[-1] = "" if part == "\x1b[2K" else lines[-1]
        elif not part.startswith("\x1b"):
            lines[-1] += part
    return "\n".join(lines)


@pytest.mark.pebble
def test_on_a_terminal_steps_are_drawn_and_then_taken_away(sites: PlainSites) -> None:
    code, told = on_a_terminal(sites, "enroll", "--all", "--jobs", "1")
    assert code == 0, told
    assert "of 3 done" in told
    assert "waits for its turn" in told
    assert "\x1b[2J" not in told, "the screen is never cleared"
    assert told.rindex(SHOW_CURSOR) > told.rindex(HIDE_CURSOR)
    left = left_on_screen(told)
    assert "of 3 done" not in left
    told_of = [line.split(":")[0] for line in left.splitlines() if ": enrolled: " in line]
    assert sorted(told_of) == sorted(NAMES)

    code, told = on_a_terminal(sites, "promote", "--all")
    assert code == 0, told
    assert "of 3 done" in told
    assert "of 3 done" not in left_on_screen(told)

    code, told = on_a_terminal(sites, "renew", "--all")
    assert code == 0
    assert " done" not in told, "where nothing is due there is nothing to draw"


@pytest.mark.pebble
@pytest.mark.parametrize("words", [("-q",), ("--json",)])
def test_quiet_and_json_draw_nothing(sites: PlainSites, words: tuple[str, ...]) -> None:
    code, told = on_a_terminal(sites, "enroll", "--all", *words)
    assert code == 0, told
    assert "\x1b[" not in told
    assert "of 3" not in told


@pytest.mark.pebble
def test_in_a_pipe_nothing_is_drawn(sites: PlainSites) -> None:
    done = sites.run("enroll", "--all")
    assert done.exit_code == 0
    assert "\x1b" not in done.output
    assert " done" not in done.output


@pytest.mark.pebble
def test_where_only_the_result_goes_into_a_pipe_nothing_is_drawn(sites: PlainSites) -> None:
    read_end, write_end = os.pipe()
    child, ours = start(("enroll", "--all", "--sites", str(sites.sites)), stdout=write_end)
    os.close(write_end)
    told = read_until_it_ends(ours)
    with os.fdopen(read_end, "rb") as pipe:
        result = pipe.read().decode()
    assert child.wait(ENOUGH_SECONDS) == 0
    assert told == ""
    assert result.count(": enrolled: ") == len(NAMES)


@pytest.mark.pebble
def test_a_run_that_is_interrupted_leaves_the_cursor(sites: PlainSites) -> None:
    child, ours = start(("enroll", "--all", "--sites", str(sites.sites)))
    told = b""
    while b"of 3 done" not in told:
        told += os.read(ours, 65536)
    os.killpg(child.pid, signal.SIGINT)
    told += read_until_it_ends(ours).encode()
    assert child.wait(ENOUGH_SECONDS) == -signal.SIGINT
    text = told.decode()
    assert text.rindex(SHOW_CURSOR) > text.rindex(HIDE_CURSOR)
