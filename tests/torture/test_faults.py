"""A slice of the faults in process, and that each control is seen."""

from __future__ import annotations

import pytest

from tests.torture import faults
from tests.torture.figure import Figure, Task

FIGURES = pytest.mark.parametrize(
    "figure", [faults.FAULTS_IN_STORIES, faults.FAULTS_IN_RECOVERY], ids=lambda one: one.name
)


@FIGURES
def test_faults_leave_nothing_broken(figure: Figure) -> None:
    tally = figure.run(Task(130))
    assert tally.violations == []
    assert tally.done == len(tally.points) >= 80
    assert tally.counts["runs that ended with an error of ours"] > 50


@pytest.mark.parametrize(
    ("figure", "without", "what"),
    [
        (faults.FAULTS_IN_STORIES, "exchange", "did not mend it"),
        (faults.FAULTS_IN_STORIES, "errors", "a traceback"),
        (faults.FAULTS_IN_STORIES, "recovery", "did not mend it"),
        (faults.FAULTS_IN_RECOVERY, "exchange", "did not mend it"),
        (faults.FAULTS_IN_RECOVERY, "errors", "a traceback"),
    ],
    ids=lambda one: one.name if isinstance(one, Figure) else None,
)
def test_control_finds_violations(figure: Figure, without: str, what: str) -> None:
    assert without in figure.controls
    violations = figure.run(Task(60, without=without)).violations
    assert any(what in violation for violation in violations)
