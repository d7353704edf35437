"""A slice of the promotions beside reloads of others, and that a swap without care ends httpd."""

from __future__ import annotations

import pytest

from tests.torture.foreign_reloads import FOREIGN_RELOADS
from tests.torture.slices import a_control, a_slice

pytestmark = pytest.mark.apache


def test_matrix_p7_promotions_of_twenty_sets_beside_reloads_end_no_httpd() -> None:
    tally = a_slice(FOREIGN_RELOADS, 4)
    assert tally.counts["reloads by somebody else"] > 0
    assert tally.counts["sets that we made live"] > 0


def test_foreign_reloads_find_out_a_swap_that_does_not_wait() -> None:
    tally = a_control(FOREIGN_RELOADS, "idle-wait", 100)
    assert "httpd ended" in tally.violations[0]
