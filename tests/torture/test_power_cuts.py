"""A slice of the power cuts: what they take away, and that a run without fsync is found out."""

from __future__ import annotations

import pytest

from tests.torture.power_cuts import POWER_CUTS
from tests.torture.slices import a_control, a_slice

pytestmark = pytest.mark.pebble


def test_matrix_w5_p2_power_cut_at_any_change_leaves_an_old_or_a_new_set() -> None:
    tally = a_slice(POWER_CUTS, 6)
    assert tally.counts["cuts that took something away"] > 0, "no cut did anything"


def test_power_cut_finds_out_a_run_that_says_done_without_fsync() -> None:
    a_control(POWER_CUTS, "fsync", 3)
