"""A few trials of a figure as an ordinary test, and its controls."""

from __future__ import annotations

import pytest

from tests.torture.figure import CannotRunError, Figure, Tally, Task


def a_slice(figure: Figure, amount: int, *, least: int | None = None) -> Tally:
    """Do some trials and expect no violation; where they cannot run the test is skipped.

    `least`: so many of them have to count, if not all.
    """
    tally = _run(figure, Task(amount))
    assert tally.done >= (amount if least is None else least), (
        f"{tally.done} of {amount} trials were done"
    )
    assert not tally.violations, "\n".join(tally.violations)
    return tally


def a_control(figure: Figure, without: str, amount: int) -> Tally:
    """Do some trials without a protection and expect that the figure sees it."""
    assert without in figure.controls
    tally = _run(figure, Task(amount, without=without))
    assert tally.violations, f"{tally.done} trials without {without}, and nothing was seen"
    return tally


def _run(figure: Figure, task: Task) -> Tally:
    try:
        return figure.run(task)
    except CannotRunError as error:
        pytest.skip(str(error))
