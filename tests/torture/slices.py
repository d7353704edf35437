"""A few trials of a figure as an ordinary test, and its controls."""

from __future__ import annotations

import pytest

from tests.torture.figure import CannotRunError, Figure, Tally, Task


def a_slice(figure: Figure, amount: int, *, first: int = 0) -> Tally:
    """Do some trials and expect no violation; where they cannot run the test is skipped."""
    tally = _run(figure, Task(amount, first=first))
    assert tally.done >= amount, f"{tally.done} of {amount} trials were done"
    assert not tally.violations, "\n".join(tally.violations)
    return tally


def a_control(figure: Figure, without: str, amount: int, *, first: int = 0) -> Tally:
    """Do some trials without a protection and expect that the figure sees it."""
    assert without in figure.controls
    tally = _run(figure, Task(amount, first=first, without=without))
    assert tally.violations, f"{tally.done} trials without {without}, and nothing was seen"
    return tally


def _run(figure: Figure, task: Task) -> Tally:
    try:
        return figure.run(task)
    except CannotRunError as error:
        pytest.skip(str(error))
