"""The fault matrix, row X6: 400 days of cron, with a CA that is down for sixty of them.

The clock alone is moved. With MDCONNECTOR_EVERY_DAY=1 cron comes on every one of the quiet days,
else every fortnight; while the CA is down it always comes daily.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.e2e.behind_proxy import PROVEN, SitesBehindProxy
from tests.parts import FaultingProxy, Pebble, Reset, Rule

pytestmark = pytest.mark.pebble

DAY = timedelta(days=1)
STEP = 1 if os.environ.get("MDCONNECTOR_EVERY_DAY") == "1" else 14
LIFE, DOWN_FROM, DOWN_UNTIL, END = 90, 58, 118, 400
WARNED_FROM = LIFE - LIFE // 10
TRIES = 3
"""of one request, within one run"""


def checked(sites: SitesBehindProxy, day: int) -> int:
    """Return what a monitoring plug-in says on a day."""
    return sites.here("status", "--check", later=day * DAY).exit_code


def test_matrix_x6_ca_that_is_down_for_sixty_days_is_told_in_time_and_not_stormed(
    new_sites: SitesBehindProxy, proxy: FaultingProxy, make_pebble: Callable[..., Pebble]
) -> None:
    sites = new_sites
    assert sites.here("renew", "--all").exit_code == 0
    assert sites.here("promote", "--all").exit_code == 0
    down = Rule(Reset())
    proxy.expect(down)

    for day in range(1, DOWN_FROM, STEP):
        done = sites.here("renew", "--all", later=day * DAY)
        assert (done.exit_code, checked(sites, day)) == (0, 0), (day, done.output)
    assert down.hits == 0, "nothing is asked while nothing is due"

    codes, checks = {}, {}
    for day in range(DOWN_FROM, DOWN_UNTIL):
        before = down.hits
        done = sites.here("renew", "--all", later=day * DAY)
        assert "Traceback" not in done.output
        assert down.hits - before <= TRIES, "one request, a few tries"
        codes[day] = done.exit_code
        if day % 3 == 0:
            checks[day] = checked(sites, day)
    assert set(codes.values()) <= {0, 1}
    tried = [day for day in codes if codes[day] == 1]
    assert tried[0] <= LIFE * 2 // 3 + 2, "it is due in the last third, and that is told"
    assert all(codes[day] == 1 for day in codes if day > WARNED_FROM)
    assert sorted(checks.values()) == list(checks.values()), "it only gets worse"
    assert {checks[day] for day in checks if day >= LIFE} == {2}, "expired"
    assert all(checks[day] >= 1 for day in checks if day > tried[0] + 1)
    assert min(day for day in checks if checks[day] == 2) < LIFE, "critical before it is too late"
    live = sites.store / "domains" / PROVEN
    assert {path.name for path in live.glob("pubcert*")}, "it stays live to its end and beyond"

    lasting = make_pebble(always_valid=True, nonce_reject=0, validity_seconds=10 * 365 * 86400)
    sites.add(
        PROVEN,
        {
            "MDCertificateAuthority": lasting.directory_url,
            "MDCACertificateFile": str(lasting.ca_file),
        },
    )
    after = DOWN_UNTIL * DAY
    assert sites.here("renew", PROVEN, "--force", later=after).exit_code == 0
    assert sites.here("promote", "--all", later=after).exit_code == 0
    with lasting.recorded() as requests:
        for day in range(DOWN_UNTIL + 1, END, STEP):
            done = sites.here("renew", "--all", later=day * DAY)
            assert (done.exit_code, checked(sites, day)) == (0, 0), (day, done.output)
    assert requests == []
