"""What enroll and renew did: the words that are printed, and the exit code of a whole run."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mdconnector.managed_domain import Finding, Severity
from mdconnector.outcomes.order import BrokenFile, NotLive, Ordered, OrderOutcome, OrderRun
from mdconnector.renewal import LastError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BROKEN = (BrokenFile(Finding("syntax", Severity.ERROR, "a.conf:1", "no", "mend it")),)


def ordered(outcome: Ordered, **more: object) -> OrderOutcome:
    return OrderOutcome("a.example", outcome, "", **more)  # type: ignore[arg-type] # a table's row


def order_run(*domains: OrderOutcome, by_name: bool = False, broken: bool = False) -> OrderRun:
    return OrderRun(
        "renew",
        domains,
        NotLive(0, None, False),
        by_name=by_name,
        broken_files=BROKEN if broken else (),
    )


def test_words_are_those_of_json_and_tables() -> None:
    assert [str(one) for one in Ordered] == [
        "renewed",
        "enrolled",
        "current",
        "staged",
        "pending",
        "backing-off",
        "skipped",
        "failed",
        "planned",
    ]


def test_only_what_waits_depends_on_how_comfortable_it_is() -> None:
    waits = {Ordered.PENDING, Ordered.BACKING_OFF, Ordered.SKIPPED}
    for outcome in Ordered:
        assert ordered(outcome).has_failed is (outcome is Ordered.FAILED)
        uneasy = ordered(outcome, is_comfortable=False).has_failed
        assert uneasy is (outcome in waits or outcome is Ordered.FAILED)
        assert ordered(outcome).is_change is (outcome in {Ordered.RENEWED, Ordered.ENROLLED})


@pytest.mark.parametrize(
    ("run", "code"),
    [
        (order_run(), 0),
        (order_run(ordered(Ordered.CURRENT)), 0),
        (order_run(ordered(Ordered.PENDING)), 0),
        (order_run(ordered(Ordered.PENDING), by_name=True), 5),
        (order_run(ordered(Ordered.SKIPPED), by_name=True), 5),
        (order_run(ordered(Ordered.BACKING_OFF), by_name=True), 0),
        (order_run(ordered(Ordered.CURRENT), by_name=True), 0),
        (order_run(ordered(Ordered.FAILED), ordered(Ordered.PENDING), by_name=True), 1),
        (order_run(ordered(Ordered.CURRENT), broken=True), 1),
        (order_run(ordered(Ordered.CURRENT), broken=True, by_name=True), 0),
        (order_run(ordered(Ordered.FAILED, error=LastError("ca", "", None, NOW))), 1),
        (order_run(ordered(Ordered.FAILED, error=LastError("unsafe-store", "", None, NOW))), 3),
    ],
)
def test_exit_code_of_an_order_run(run: OrderRun, code: int) -> None:
    assert run.exit_code == code


def test_what_a_run_does_not_say() -> None:
    outcome = ordered(Ordered.CURRENT)
    assert (outcome.reasons, outcome.certificates, outcome.error) == ((), (), None)
    assert (outcome.is_comfortable, outcome.is_news, outcome.error_group) == (True, True, "")
    assert BROKEN[0].is_news
