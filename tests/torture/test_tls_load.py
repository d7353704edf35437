"""A slice of the promotions under TLS load, and that clients notice a reload that is none."""

from __future__ import annotations

import pytest

from tests.torture.slices import a_control, a_slice
from tests.torture.tls_load import TLS_LOAD

pytestmark = pytest.mark.apache


def test_promotions_with_reload_fail_no_handshake_and_show_no_wrong_certificate() -> None:
    tally = a_slice(TLS_LOAD, 3)
    assert tally.counts["handshakes that showed newest"] > 0


def test_tls_load_finds_out_a_reload_that_stops_httpd() -> None:
    tally = a_control(TLS_LOAD, "graceful", 1)
    assert any("Connection" in one for one in tally.violations), "no client noticed"
