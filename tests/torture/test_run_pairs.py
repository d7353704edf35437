"""A slice of the runs that begin at once, and that two without a lock are found out."""

from __future__ import annotations

import pytest

from tests.torture.run_pairs import RUN_PAIRS
from tests.torture.slices import a_control, a_slice

pytestmark = pytest.mark.pebble


def test_of_two_runs_at_once_one_works_and_the_other_changes_nothing() -> None:
    a_slice(RUN_PAIRS, 10)


def test_run_pairs_find_out_two_writers_without_a_lock() -> None:
    tally = a_control(RUN_PAIRS, "run-lock", 12)
    assert any("two writers at once" in one for one in tally.violations)
