"""A slice of the hostile CA, and that a run is found out that goes where it is sent."""

from __future__ import annotations

import pytest

from tests.torture.hostile_ca import HOSTILE_CA
from tests.torture.slices import a_control, a_slice

pytestmark = pytest.mark.pebble


def test_hostile_ca_costs_no_key_and_the_next_run_ends_well() -> None:
    a_slice(HOSTILE_CA, 9, least=6)


def test_hostile_ca_finds_out_a_run_that_goes_where_it_is_sent() -> None:
    tally = a_control(HOSTILE_CA, "origins", 4)
    assert any("evil.example" in one for one in tally.violations)
