"""What people, cron and the journal read of a run."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from mdconnector.managed_domain import Finding, Severity
from mdconnector.outcomes.order import BrokenFile, NotLive, Ordered, OrderOutcome, OrderRun
from mdconnector.outcomes.promote import Promoted, PromoteRun, Reload, Served
from mdconnector.renewal import LastError
from mdconnector.report import Style, journal_lines, render, render_failures
from tests.results import (
    ERROR,
    NONE_WAITS,
    NOW,
    failures_of,
    lines_of,
    outcome,
    promote_run,
    promoted,
    renewal,
    revocation,
)

QUIET = Style(quiet=True)


def order_run(*domains: OrderOutcome, by_name: bool = False, oldest_days: int = 0) -> OrderRun:
    oldest = NOW - timedelta(days=oldest_days) if oldest_days else None
    not_live = NotLive(
        sum(one.outcome is Ordered.STAGED for one in domains), oldest, oldest_days > 1
    )
    return OrderRun("renew", domains, not_live, by_name)


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


def test_a_broken_file_is_one_line_of_at_most_two_thousand_characters() -> None:
    long = Finding("code", Severity.WARNING, "/a.conf:1", "x" * 3000, "mend it")
    run = OrderRun("renew", (), NotLive(0, None, False), False, broken_files=(BrokenFile(long),))
    (line,) = failures_of(run)
    assert len(line) == 2000


OLD_SETS = (
    "2 staged sets are not live (the oldest since 2026-06-01 12:00 UTC); make live: "
    "mdconnector promote --all --reload"
)
ONE_SET = "1 staged set is not live; make live: mdconnector promote --all --reload"


@pytest.mark.usefixtures("utc")
@pytest.mark.parametrize(
    ("run", "lines", "quietly"),
    [
        (
            renewal(not_live=NONE_WAITS),
            ["no managed domain is declared; see 'mdconnector scan'"],
            [],
        ),
        (
            renewal(outcome(Ordered.CURRENT), outcome(Ordered.FAILED), not_live=NONE_WAITS),
            ["a.example: current: the detail"],
            [],
        ),
        (
            renewal(outcome(Ordered.ENROLLED), not_live=NotLive(1, None, False)),
            ["a.example: enrolled: the detail", ONE_SET],
            ["a.example: enrolled: the detail"],
        ),
        (
            renewal(outcome(Ordered.STAGED), not_live=NotLive(2, NOW, True)),
            [
                "a.example: staged: the detail",
                OLD_SETS,
            ],
            [
                OLD_SETS,
            ],
        ),
    ],
    ids=["no domain", "current", "a change", "sets that wait"],
)
def test_the_lines_of_an_order_run(run: OrderRun, lines: list[str], quietly: list[str]) -> None:
    assert lines_of(run) == lines
    assert lines_of(run, QUIET) == quietly


NO_HINT = LastError("connection", "no answer", None, NOW)


@pytest.mark.usefixtures("utc")
@pytest.mark.parametrize(
    ("failed", "line"),
    [
        ([outcome(Ordered.FAILED)], "a.example: failed: the detail"),
        ([outcome(Ordered.FAILED, error=NO_HINT)], "a.example: failed: the detail"),
        (
            [outcome(Ordered.FAILED, error=ERROR, next_try=NOW)],
            "a.example: failed: the detail; look at the firewall; next try 2026-06-01 12:00 UTC",
        ),
        (
            [outcome(Ordered.PENDING, is_comfortable=False)],
            "a.example: pending: the detail",
        ),
        (
            [outcome(Ordered.FAILED, name, error_group="x") for name in ("a.example", "b.example")],
            "a.example and 1 more: failed: the detail",
        ),
    ],
)
def test_the_line_of_a_failure(failed: list[OrderOutcome], line: str) -> None:
    run = renewal(*failed, not_live=NONE_WAITS, repairs=("b.example: repaired",))
    assert failures_of(run) == ["b.example: repaired", line]


PROMOTED_LINE = "a.example: promoted: the detail"


@pytest.mark.parametrize(
    ("run", "lines", "quietly"),
    [
        (
            promote_run(promoted(Promoted.PROMOTED, served=Served.NEW)),
            [PROMOTED_LINE, "Apache: reloaded gracefully"],
            [PROMOTED_LINE],
        ),
        (
            promote_run(promoted(Promoted.NOTHING_STAGED), reload=Reload.NOT_NEEDED),
            ["a.example: nothing-staged: the detail"],
            [],
        ),
        (
            promote_run(promoted(Promoted.PROMOTED), reload=Reload.NOT_RUNNING),
            [
                PROMOTED_LINE,
                "Apache is not running; the sets are served from its next start on",
            ],
            [PROMOTED_LINE],
        ),
        (
            promote_run(promoted(Promoted.PROMOTED), reload=Reload.NOT_REQUESTED),
            [
                PROMOTED_LINE,
                "the sets go live at the next reload of Apache by anybody, or with --reload",
            ],
            [PROMOTED_LINE],
        ),
        (
            promote_run(promoted(Promoted.NOTHING_STAGED), reload=Reload.NOT_REQUESTED),
            ["a.example: nothing-staged: the detail"],
            [],
        ),
        (promote_run(promoted(Promoted.WAITING), reload=Reload.REFUSED), [], []),
        (
            promote_run(promoted(Promoted.PROMOTED, served=Served.OLD), reload=Reload.NOT_NEEDED),
            [],
            [],
        ),
        (promote_run(promoted(Promoted.FAILED), reload=Reload.NOT_NEEDED), [], []),
    ],
)
def test_the_lines_of_a_promotion(run: PromoteRun, lines: list[str], quietly: list[str]) -> None:
    assert lines_of(run) == lines
    assert lines_of(run, QUIET) == quietly


HINTED = "; look at the firewall"


@pytest.mark.parametrize(
    ("run", "lines", "quietly"),
    [
        (promote_run(promoted(Promoted.PROMOTED), promoted(Promoted.NOTHING_STAGED)), [], []),
        (
            promote_run(promoted(Promoted.PROMOTED), promoted(Promoted.FAILED, error=ERROR)),
            [f"a.example: failed: the detail{HINTED}"],
            [f"a.example: failed: the detail{HINTED}"],
        ),
        (
            promote_run(
                promoted(Promoted.WAITING, is_news=False),
                promoted(Promoted.ROLLED_BACK, error=NO_HINT),
            ),
            ["a.example: waiting: the detail", "a.example: rolled-back: the detail"],
            ["a.example: rolled-back: the detail"],
        ),
        (
            promote_run(promoted(Promoted.PROMOTED, served=Served.OLD)),
            ["a.example: promoted: the detail"],
            ["a.example: promoted: the detail"],
        ),
        (
            promote_run(reload=Reload.REFUSED, reload_detail="a.conf:3: no"),
            ["Apache: reload refused: a.conf:3: no"],
            ["Apache: reload refused: a.conf:3: no"],
        ),
        (
            promote_run(reload=Reload.FAILED, reload_detail="it hangs", reload_is_news=False),
            ["Apache: reload failed: it hangs"],
            [],
        ),
        (promote_run(repairs=("b: repaired",)), ["b: repaired"], ["b: repaired"]),
    ],
)
def test_the_failures_of_a_promotion(run: PromoteRun, lines: list[str], quietly: list[str]) -> None:
    assert failures_of(run) == lines
    assert failures_of(run, QUIET) == quietly


def test_the_journal_of_a_promotion_has_what_was_done_and_is_news() -> None:
    run = promote_run(
        promoted(Promoted.PROMOTED),
        promoted(Promoted.NOTHING_STAGED),
        promoted(Promoted.WAITING, is_news=False),
        promoted(Promoted.FAILED),
        repairs=("b.example: repaired",),
    )
    assert journal_lines(run) == (
        "b.example: repaired",
        "a.example: promoted: the detail",
        "a.example: failed: the detail",
    )
    assert journal_lines(renewal(not_live=NONE_WAITS, repairs=("x: repaired",))) == ("x: repaired",)


def test_the_lines_of_a_revocation() -> None:
    run = revocation(ERROR, NO_HINT, None)
    assert lines_of(run) == ["a.example: revoked: rsa2048 1f", "renew it"]
    assert lines_of(run, QUIET) == ["a.example: revoked: rsa2048 1f"]
    assert failures_of(run) == [
        f"b.example: failed: no{HINTED}",
        "b.example: failed: no",
        "b.example: failed: no",
    ]
