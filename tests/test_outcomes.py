"""Outcomes: the words that are printed, and the exit code that a whole run has."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mdconnector.managed_domain import Finding, Severity
from mdconnector.outcomes import (
    AccountAction,
    AccountOutcome,
    AccountRun,
    BrokenFile,
    DomainStatus,
    NotLive,
    Ordered,
    OrderOutcome,
    OrderRun,
    Promoted,
    PromoteRun,
    PromotionOutcome,
    Reload,
    RevocationOutcome,
    RevocationRun,
    Revoked,
    ScanResult,
    Served,
    StatusResult,
)
from mdconnector.renewal import LastError, State

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


def promote_run(
    *domains: PromotionOutcome,
    reload: Reload = Reload.RELOADED,
    by_name: bool = False,
    broken: bool = False,
) -> PromoteRun:
    return PromoteRun(domains, reload, by_name, broken_files=BROKEN if broken else ())


def promoted(outcome: Promoted, **more: object) -> PromotionOutcome:
    return PromotionOutcome("a.example", outcome, "", **more)  # type: ignore[arg-type] # a table's row


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
    assert [str(one) for one in Promoted] == [
        "promoted",
        "waiting",
        "nothing-staged",
        "rolled-back",
        "failed",
    ]
    assert [str(one) for one in Served] == ["new", "old", "none", "unchecked"]
    assert [str(one) for one in Reload] == [
        "reloaded",
        "not-needed",
        "not-requested",
        "not-running",
        "refused",
        "failed",
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


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (promoted(Promoted.PROMOTED), False),
        (promoted(Promoted.PROMOTED, served=Served.NEW), False),
        (promoted(Promoted.PROMOTED, served=Served.OLD), True),
        (promoted(Promoted.PROMOTED, served=Served.NONE), True),
        (promoted(Promoted.WAITING), True),
        (promoted(Promoted.ROLLED_BACK), True),
        (promoted(Promoted.NOTHING_STAGED), False),
        (promoted(Promoted.FAILED), False),
    ],
)
def test_what_is_not_served(outcome: PromotionOutcome, expected: bool) -> None:
    assert outcome.is_not_served is expected
    assert promote_run(outcome).exit_code == (
        4 if expected else int(outcome.outcome is Promoted.FAILED)
    )


@pytest.mark.parametrize(
    ("run", "code"),
    [
        (promote_run(), 0),
        (promote_run(reload=Reload.REFUSED), 4),
        (promote_run(reload=Reload.FAILED), 4),
        (promote_run(reload=Reload.NOT_RUNNING), 0),
        (promote_run(reload=Reload.NOT_NEEDED), 0),
        (promote_run(reload=Reload.NOT_REQUESTED), 0),
        (promote_run(promoted(Promoted.FAILED), promoted(Promoted.WAITING)), 4),
        (promote_run(broken=True), 1),
        (promote_run(broken=True, by_name=True), 0),
        (promote_run(promoted(Promoted.NOTHING_STAGED, is_missing=True)), 0),
        (promote_run(promoted(Promoted.NOTHING_STAGED, is_missing=True), by_name=True), 5),
        (promote_run(promoted(Promoted.NOTHING_STAGED), by_name=True), 0),
    ],
)
def test_exit_code_of_a_promotion(run: PromoteRun, code: int) -> None:
    assert run.exit_code == code


@pytest.mark.parametrize(
    ("severity", "code"), [(Severity.ERROR, 1), (Severity.WARNING, 0), (Severity.INFO, 0)]
)
def test_exit_code_of_a_scan(severity: Severity, code: int) -> None:
    finding = Finding("x", severity, None, "no", "mend it")
    assert ScanResult((), (finding,), (), "", "/md").exit_code == code
    assert ScanResult((), (), (), "", "/md").exit_code == 0


def test_what_a_run_does_not_say() -> None:
    outcome = ordered(Ordered.CURRENT)
    assert (outcome.reasons, outcome.certificates, outcome.error) == ((), (), None)
    assert (outcome.is_comfortable, outcome.is_news, outcome.error_group) == (True, True, "")
    one = promoted(Promoted.PROMOTED)
    assert (one.served, one.is_missing, one.is_news) == (Served.UNCHECKED, False, True)
    run = promote_run()
    assert (run.command, run.reload_detail, run.reload_is_news) == ("promote", "", True)
    assert ScanResult((), (), (), "", "/md").command == "scan"
    assert BROKEN[0].is_news


def test_exit_code_of_revocations_accounts_and_status() -> None:
    error = LastError("ca", "no", None, NOW)
    done = RevocationOutcome("a.example", Revoked.REVOKED, "")
    failed = RevocationOutcome("b.example", Revoked.FAILED, "", error=error)
    assert RevocationRun((done,)).exit_code == 0
    assert RevocationRun((done, failed)).exit_code == 1
    assert AccountRun(AccountAction.LIST, (AccountOutcome("ACME-1"),)).exit_code == 0
    assert AccountRun(AccountAction.LIST, (AccountOutcome("ACME-1", error=error),)).exit_code == 1
    assert StatusResult((), NOW).exit_code == 0


def test_each_result_knows_its_command() -> None:
    assert RevocationRun(()).command == "revoke"
    assert AccountRun(AccountAction.LIST, ()).command == "account"
    assert StatusResult((), NOW).command == "status"
    assert [str(one) for one in AccountAction] == [
        "list",
        "show",
        "rollover",
        "deactivate",
        "recover",
        "import",
    ]
    assert [str(one) for one in Revoked] == ["revoked", "failed"]


def test_what_is_not_said_of_an_account_or_a_domain() -> None:
    account = AccountOutcome("ACME-1")
    texts = (account.ca_url, account.url, account.status, account.key_label, account.detail)
    assert texts == ("",) * 5
    assert (account.kid, account.contact, account.domains) == (None, (), ())
    assert account.is_change is False
    assert RevocationOutcome("a.example", Revoked.REVOKED, "").next_step == ""
    domain = DomainStatus(
        *("a.example", ("a.example",), State.VALID, "", (), None, None, None, None, None, None),
        errors=0,
        ca_url="",
    )
    assert (domain.used_by_ssl, domain.is_renewed) == (False, True)
    assert (domain.lifetimes, domain.served, domain.in_full) == ((), None, None)
