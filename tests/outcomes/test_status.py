"""What status found: it tells, and never judges."""

from __future__ import annotations

from datetime import UTC, datetime

from mdconnector.outcomes.status import DomainStatus, StatusResult
from mdconnector.renewal import State

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_the_exit_code_is_always_0() -> None:
    assert StatusResult((), NOW).exit_code == 0
    assert StatusResult((), NOW).command == "status"


def test_what_is_not_said_of_a_domain() -> None:
    domain = DomainStatus(
        *("a.example", ("a.example",), State.VALID, "", (), None, None, None, None, None, None),
        errors=0,
        ca_url="",
    )
    assert (domain.used_by_ssl, domain.is_renewed) == (False, True)
    assert (domain.lifetimes, domain.served, domain.in_full) == ((), None, None)
