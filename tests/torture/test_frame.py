"""The runner: what it notes, when it is content, and that a green control is a failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.__main__ import main
from tests.torture.figure import CannotRunError, Figure, Tally, Task
from tests.torture.notebook import load_note, save_note

BROKEN_TRIAL = 7


def count(task: Task) -> Tally:
    """Do trials that are all good, but for one where the protection is removed."""
    tally = Tally()
    for number in task.trials:
        tally.hit(f"point {number % 4}")
        tally.counts["odd trials"] += number % 2
        if task.without and number == BROKEN_TRIAL:
            tally.violations.append(f"trial {number} is broken")
    tally.peak("number", max(task.trials, default=0))
    return tally


def fail(task: Task) -> Tally:
    """Find one violation."""
    return Tally(done=task.amount, violations=["it is broken"])


def refuse(task: Task) -> Tally:
    """Need what no machine has."""
    raise CannotRunError("there is no perpetual motion here")


def figure(run: object = count, *, goal: int = 20, part: int = 5) -> Figure:
    """Make a figure of one of these."""
    return Figure("some", "Some trials", goal, run, part, {"care": "nobody cares"})  # type: ignore[arg-type] # one of the three


def run(tmp_path: Path, one: Figure, *arguments: str) -> int:
    """Run one figure with notes and a report of its own."""
    words = [*arguments, "--report", str(tmp_path / "report.md")]
    return main(words, figures=[one], notes=tmp_path / "notes")


def report(tmp_path: Path) -> str:
    return (tmp_path / "report.md").read_text()


def test_parts_add_up_to_the_goal_and_the_report_tells_it(tmp_path: Path) -> None:
    assert run(tmp_path, figure()) == 0
    assert "| Some trials | 20 | 20 | 4 | 0 | 0 | met |" in report(tmp_path)
    assert "* odd trials: 10" in report(tmp_path)
    assert "* number: 19 at most" in report(tmp_path)


def test_run_goes_on_where_the_last_one_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, figure(goal=10)) == 0
    capsys.readouterr()
    assert run(tmp_path, figure(goal=20)) == 0
    assert "10 of 20 done" not in capsys.readouterr().out
    assert "* odd trials: 10" in report(tmp_path)


def test_fresh_run_forgets_the_last_one(tmp_path: Path) -> None:
    assert run(tmp_path, figure(goal=10)) == 0
    assert run(tmp_path, figure(fail, goal=10)) == 0, "it was done before"
    assert run(tmp_path, figure(fail, goal=10), "--fresh") == 1


def test_notes_of_other_sources_count_only_where_they_are_asked_for(tmp_path: Path) -> None:
    assert run(tmp_path, figure()) == 0
    note = load_note(tmp_path / "notes", "some", sources="", or_any=True)
    note.sources = "of yesterday"
    save_note(tmp_path / "notes", "some", note)
    assert run(tmp_path, figure(fail), "--as-noted") == 0
    assert "sources of yesterday, ended " in report(tmp_path)
    assert run(tmp_path, figure(fail)) == 1


def test_violation_is_a_failure_and_in_the_report(tmp_path: Path) -> None:
    assert run(tmp_path, figure(fail)) == 1
    assert "**violated**" in report(tmp_path)
    assert "* violation: `it is broken`" in report(tmp_path)


def test_figure_that_cannot_run_here_never_passes(tmp_path: Path) -> None:
    assert run(tmp_path, figure(refuse)) == 1
    assert "not run: there is no perpetual motion here" in report(tmp_path)
    assert run(tmp_path, figure(refuse), "--scale", "0.1") == 1
    assert run(tmp_path, figure(refuse), "--without", "care") == 1


def test_figure_that_does_too_little_never_passes(tmp_path: Path) -> None:
    def idle(task: Task) -> Tally:
        return Tally(done=3 if task.first == 0 else 0)

    assert run(tmp_path, figure(idle)) == 1
    assert "| Some trials | 20 | 3 | 0 | 0 | 0 | goal not reached |" in report(tmp_path)


def test_part_that_is_run_by_hand_is_not_noted(tmp_path: Path) -> None:
    assert run(tmp_path, figure(), "--amount", "3") == 0
    assert run(tmp_path, figure(fail), "--scale", "0.5") == 1
    assert list(tmp_path.iterdir()) == []


def test_control_has_to_be_red(tmp_path: Path) -> None:
    assert run(tmp_path, figure(), "--without", "care") == 0
    assert run(tmp_path, figure(), "--without", "care", "--amount", "3") == 1, "it was green"
    assert run(tmp_path, figure(), "--without", "luck") == 2
    assert list(tmp_path.iterdir()) == []
