"""What people, cron and machines read of a result."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from mdconnector.certificates import CertificateFacts
from mdconnector.errors import LockedError, UsageError
from mdconnector.managed_domain import Finding, Severity
from mdconnector.outcomes import (
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
    ScanResult,
    Served,
    StatusResult,
)
from mdconnector.renewal import LastError, Reason, State
from mdconnector.report import (
    Style,
    describe_error,
    is_silent,
    journal_lines,
    render,
    render_failures,
)
from mdconnector.result_json import render_error

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
QUIET = Style(quiet=True)
FACTS = CertificateFacts(
    "rsa2048", ("a.example",), NOW, NOW + timedelta(days=90), 0x0ABC, "ff", "CA", False, b""
)
ERROR = LastError("connection", "no answer", "look at the firewall", NOW)


def order_run(*domains: OrderOutcome, by_name: bool = False, oldest_days: int = 0) -> OrderRun:
    oldest = NOW - timedelta(days=oldest_days) if oldest_days else None
    not_live = NotLive(
        sum(one.outcome is Ordered.STAGED for one in domains), oldest, oldest_days > 1
    )
    return OrderRun("renew", domains, not_live, by_name)


def outcome(word: Ordered, name: str = "a.example", **more: object) -> OrderOutcome:
    return OrderOutcome(name, word, "the detail", **more)  # type: ignore[arg-type] # a table's row


@pytest.mark.parametrize(
    ("domains", "by_name", "code"),
    [
        ((outcome(Ordered.CURRENT), outcome(Ordered.FAILED)), False, 1),
        ((outcome(Ordered.PENDING),), False, 0),
        ((outcome(Ordered.PENDING),), True, 5),
        ((outcome(Ordered.PENDING, is_comfortable=False),), True, 1),
        ((outcome(Ordered.BACKING_OFF),), False, 0),
        ((outcome(Ordered.BACKING_OFF, is_comfortable=False),), False, 1),
        ((outcome(Ordered.SKIPPED),), False, 0),
        ((), False, 0),
    ],
)
def test_the_exit_code_of_an_order_run(
    domains: tuple[OrderOutcome, ...], by_name: bool, code: int
) -> None:
    assert order_run(*domains, by_name=by_name).exit_code == code


def promote_run(*domains: PromotionOutcome, **more: object) -> PromoteRun:
    options: dict[str, object] = {"reload": Reload.RELOADED, "by_name": False}
    return PromoteRun(domains, **(options | more))  # type: ignore[arg-type] # a table's row


def promoted(word: Promoted, **more: object) -> PromotionOutcome:
    return PromotionOutcome("a.example", word, "the detail", **more)  # type: ignore[arg-type] # as above


@pytest.mark.parametrize(
    ("run", "code"),
    [
        (promote_run(promoted(Promoted.PROMOTED, served=Served.NEW)), 0),
        (promote_run(promoted(Promoted.PROMOTED, served=Served.UNCHECKED)), 0),
        (promote_run(promoted(Promoted.PROMOTED, served=Served.OLD)), 4),
        (promote_run(promoted(Promoted.WAITING), reload=Reload.REFUSED), 4),
        (promote_run(promoted(Promoted.ROLLED_BACK)), 4),
        (promote_run(promoted(Promoted.FAILED)), 1),
        (promote_run(promoted(Promoted.FAILED), promoted(Promoted.WAITING)), 4),
        (promote_run(promoted(Promoted.NOTHING_STAGED, is_missing=True), by_name=True), 5),
        (promote_run(promoted(Promoted.NOTHING_STAGED, is_missing=True)), 0),
        (promote_run(promoted(Promoted.NOTHING_STAGED), by_name=True), 0),
        (promote_run(reload=Reload.NOT_RUNNING), 0),
        (promote_run(reload=Reload.FAILED), 4),
    ],
)
def test_the_exit_code_of_a_promotion(run: PromoteRun, code: int) -> None:
    assert run.exit_code == code


def test_quiet_says_nothing_where_nothing_changed_or_failed() -> None:
    run = order_run(outcome(Ordered.CURRENT), outcome(Ordered.STAGED), outcome(Ordered.BACKING_OFF))
    assert render(run, QUIET) + render_failures(run, QUIET) == ""


def test_quiet_tells_staged_sets_once_they_are_older_than_a_day() -> None:
    run = order_run(outcome(Ordered.STAGED), oldest_days=2)
    assert "mdconnector promote --all --reload" in render(run, QUIET)


def test_quiet_tells_one_line_for_a_change_and_one_for_a_failure() -> None:
    run = order_run(outcome(Ordered.RENEWED), outcome(Ordered.FAILED, "b.example", error=ERROR))
    assert render(run, QUIET).splitlines() == ["a.example: renewed: the detail"]
    assert render_failures(run, QUIET).splitlines() == [
        "b.example: failed: the detail; look at the firewall"
    ]


def test_quiet_does_not_repeat_a_failure_that_is_no_news() -> None:
    run = order_run(outcome(Ordered.FAILED, error=ERROR, is_news=False))
    assert render_failures(run, QUIET) == ""
    assert render_failures(run, Style()) != ""


def test_one_unreachable_ca_is_one_line_for_all_its_domains() -> None:
    failed = [
        outcome(Ordered.FAILED, name, error=ERROR, error_group="no answer")
        for name in ("a.example", "b.example", "c.example")
    ]
    lines = render_failures(order_run(*failed), QUIET).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("a.example and 2 more: failed")


def test_a_failed_promotion_tells_what_to_do() -> None:
    run = promote_run(promoted(Promoted.WAITING, error=ERROR), reload=Reload.REFUSED)
    assert "look at the firewall" in render_failures(run, QUIET)


def test_json_is_one_object_with_version_command_and_times_in_utc() -> None:
    run = order_run(outcome(Ordered.RENEWED, certificates=(FACTS,), reasons=(Reason.WINDOW,)))
    document = json.loads(render(run, Style(as_json=True)))
    assert (document["version"], document["command"]) == (1, "renew")
    certificate = document["domains"][0]["certificates"][0]
    assert certificate["serial"] == "abc"
    assert certificate["not_before"] == "2026-06-01T12:00:00Z"
    assert document["domains"][0]["reasons"] == ["window"]


def test_an_error_that_ended_the_run_is_json_without_domains() -> None:
    document = json.loads(render_error(UsageError("no such name", hint="look"), "enroll"))
    assert document["error"] == {"type": "usage", "detail": "no such name", "hint": "look"}
    assert "domains" not in document


def test_an_error_is_said_with_its_hint() -> None:
    assert describe_error(UsageError("no such name", hint="look")).splitlines() == [
        "mdconnector: error: no such name",
        "mdconnector: hint: look",
    ]


@pytest.mark.parametrize(
    ("age", "quiet", "silent"),
    [(60.0, True, True), (7 * 3600.0, True, False), (60.0, False, False), (None, True, True)],
)
def test_another_run_is_silent_under_quiet_until_it_is_six_hours_old(
    age: float | None, quiet: bool, silent: bool
) -> None:
    assert is_silent(LockedError("busy", age_seconds=age), quiet=quiet) is silent


def test_scan_exits_1_for_errors_only() -> None:
    def scanned(severity: Severity) -> ScanResult:
        finding = Finding("code", severity, "x.conf:1", "wrong", "mend it")
        return ScanResult((), (finding,), (), "nobody", "/md")

    assert scanned(Severity.ERROR).exit_code == 1
    assert scanned(Severity.WARNING).exit_code == 0
    assert "x.conf:1: wrong; mend it [code]" in render(scanned(Severity.ERROR), Style())


def test_status_is_aligned_and_has_no_box_characters() -> None:
    row = DomainStatus(
        "a.example",
        ("a.example",),
        State.MISSING,
        "",
        (),
        None,
        None,
        None,
        None,
        None,
        None,
        0,
        "",
    )
    text = render(StatusResult((row,), NOW), Style())
    head, line = text.splitlines()
    assert head.index("STATE") == line.index("missing")
    assert text.isascii()


def test_the_journal_has_changes_and_news_of_failures_only() -> None:
    run = order_run(
        outcome(Ordered.CURRENT),
        outcome(Ordered.RENEWED),
        outcome(Ordered.FAILED, "b.example", is_news=False),
        outcome(Ordered.FAILED, "c.example"),
    )
    assert [line.split(":")[0] for line in journal_lines(run)] == ["a.example", "c.example"]


UNCLOSED = Finding(
    "unclosed-section", Severity.ERROR, "/etc/b.conf:3", "it is not closed", "add </VirtualHost>"
)


@pytest.mark.parametrize("is_news", [True, False])
def test_a_broken_file_is_one_line_and_under_quiet_only_as_news(is_news: bool) -> None:
    broken = (BrokenFile(UNCLOSED, is_news),)
    line = "/etc/b.conf:3: it is not closed; add </VirtualHost>\n"
    for run in (
        order_run()._replace(broken_files=broken),
        promote_run()._replace(broken_files=broken),
    ):
        assert render_failures(run, Style()) == line
        assert render_failures(run, QUIET) == (line if is_news else "")
        assert journal_lines(run) == ((line.strip(),) if is_news else ())
        findings = json.loads(render(run, Style(as_json=True)))["findings"]
        assert [one["at"] for one in findings] == ["/etc/b.conf:3"]


def test_a_broken_file_fails_a_run_over_all_and_not_one_by_name() -> None:
    broken = (BrokenFile(UNCLOSED),)
    assert order_run()._replace(broken_files=broken).exit_code == 1
    assert order_run(by_name=True)._replace(broken_files=broken).exit_code == 0
    assert promote_run()._replace(broken_files=broken).exit_code == 1
    assert promote_run(by_name=True)._replace(broken_files=broken).exit_code == 0
    waiting = promote_run(promoted(Promoted.WAITING))
    assert waiting._replace(broken_files=broken).exit_code == 4, "it comes before 1"


def test_what_is_mended_is_told_even_under_quiet() -> None:
    for run in (
        order_run()._replace(mended=("b.conf: mended",)),
        promote_run()._replace(mended=("b.conf: mended",)),
    ):
        assert render(run, QUIET) == "b.conf: mended\n"
        assert journal_lines(run) == ("b.conf: mended",)
