"""A slice of the runs beside an adversary, and that one is found out who gets what he wants."""

from __future__ import annotations

import os

import pytest

from tests.torture.adversary import ADVERSARY
from tests.torture.slices import a_control, a_slice

pytestmark = [
    pytest.mark.pebble,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root has an adversary"),
]


def test_apaches_user_can_make_no_run_write_outside_hang_or_promote_what_is_his() -> None:
    tally = a_slice(ADVERSARY, 10)
    assert tally.counts["tricks of the adversary"] > 0


def test_adversary_is_found_out_where_links_are_followed() -> None:
    tally = a_control(ADVERSARY, "handles", 100)
    assert any("victim/" in one for one in tally.violations)
