"""What promote did: the words that are printed, and the exit code of a whole run."""

from __future__ import annotations

import pytest

from mdconnector.managed_domain import Finding, Severity
from mdconnector.outcomes.order import BrokenFile
from mdconnector.outcomes.promote import Promoted, PromoteRun, PromotionOutcome, Reload, Served

BROKEN = (BrokenFile(Finding("syntax", Severity.ERROR, "a.conf:1", "no", "mend it")),)


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


def test_what_a_run_does_not_say() -> None:
    one = promoted(Promoted.PROMOTED)
    assert (one.served, one.is_missing, one.is_news) == (Served.UNCHECKED, False, True)
    run = promote_run()
    assert (run.command, run.reload_detail, run.reload_is_news) == ("promote", "", True)
