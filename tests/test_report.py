"""What people read of status and of an error, and when -q swallows it."""

from __future__ import annotations

import pytest

from mdconnector.errors import LockedError, UsageError
from mdconnector.outcomes.status import DomainStatus, StatusResult
from mdconnector.renewal import State
from mdconnector.report import Style, describe_error, is_silent, render
from tests.results import NOW, failures_of, lines_of
from tests.standings import ALONE, standing

QUIET = Style(quiet=True)


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


def test_status_by_name_tells_all_and_without_names_a_table() -> None:
    both = StatusResult((*ALONE.domains, standing()), ALONE.now)
    assert lines_of(ALONE)[0].startswith("www.example.org: valid, ")
    assert lines_of(both)[0].startswith("NAME ")
    assert lines_of(StatusResult((), NOW)) == [
        "no managed domain is declared; see 'mdconnector scan'"
    ]
    assert lines_of(ALONE, QUIET) == failures_of(ALONE) == []


def test_an_error_without_a_hint_is_one_line() -> None:
    assert describe_error(UsageError("no such name")) == "mdconnector: error: no such name\n"


def test_a_lock_of_six_hours_is_no_longer_silent() -> None:
    hour = 3600.0
    assert is_silent(LockedError("busy", age_seconds=6 * hour - 1), quiet=True)
    assert not is_silent(LockedError("busy", age_seconds=6 * hour), quiet=True)
    assert not is_silent(UsageError("no"), quiet=True)
