"""What monitoring hears: levels, exit codes, and the text of a plug-in."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from mdconnector.certificates import InstalledCertificate
from mdconnector.check import (
    SHOWN_LINES,
    Level,
    exit_code,
    judge,
    render_check,
    unknown_line,
    worst,
)
from mdconnector.outcomes.status import DomainStatus, PendingSummary, ServedSummary, StatusResult
from mdconnector.renewal import State
from tests.standings import (
    ALL,
    EC,
    FAILING,
    HIDING,
    NOW,
    REFUSED,
    RSA,
    STAGED,
    UNREADABLE,
    standing,
)

pytestmark = pytest.mark.usefixtures("utc")
DAY = timedelta(days=1)
MOMENT = timedelta(seconds=1)


def failing(*, left: float, since: timedelta) -> DomainStatus:
    """A domain that fails since then; the warn window of its 90 days is 9, a third of it 3."""
    return standing(state=State.FAILING, left=left, errors=3, last_error=REFUSED)._replace(
        failing_since=NOW - since,
    )


def pending(since: timedelta) -> DomainStatus:
    return standing(state=State.PENDING, pending=PendingSummary(NOW - since, "https://ca/o/1"))


def staged(since: timedelta) -> DomainStatus:
    assert STAGED.staged is not None
    return STAGED._replace(staged=STAGED.staged._replace(since=NOW - since))


def damaged() -> DomainStatus:
    broken = InstalledCertificate(RSA, fault="pubcert.pem does not belong to privkey.pem")
    return standing(state=State.ERROR, left=None, live=(broken,))


def served(is_stored: bool | None) -> DomainStatus:
    return standing(served=ServedSummary(is_stored, "Apache was not reloaded"))


@pytest.mark.parametrize(
    ("domain", "level"),
    [
        pytest.param(standing(), Level.OK, id="valid"),
        pytest.param(standing(state=State.DUE, left=20), Level.OK, id="due is cron's business"),
        pytest.param(
            standing(state=State.EXPIRING, left=9), Level.WARNING, id="in the warn window"
        ),
        pytest.param(standing(left=9.01), Level.OK, id="just before the warn window"),
        pytest.param(standing(state=State.EXPIRED, left=0), Level.CRITICAL, id="expired just now"),
        pytest.param(failing(left=30, since=DAY), Level.WARNING, id="failing for 24 h"),
        pytest.param(failing(left=30, since=DAY - MOMENT), Level.OK, id="failing for less"),
        pytest.param(failing(left=3, since=MOMENT), Level.WARNING, id="failing, a third left"),
        pytest.param(failing(left=2.99, since=MOMENT), Level.CRITICAL, id="failing, under a third"),
        pytest.param(standing(left=2.99), Level.WARNING, id="under a third, but not failing"),
        pytest.param(pending(DAY), Level.WARNING, id="pending for 24 h"),
        pytest.param(pending(DAY - MOMENT), Level.OK, id="pending for less"),
        pytest.param(staged(DAY), Level.WARNING, id="staged for 24 h"),
        pytest.param(staged(DAY - MOMENT), Level.OK, id="staged for less"),
        pytest.param(served(False), Level.WARNING, id="served is not what is stored"),
        pytest.param(served(None), Level.OK, id="nobody knows what is served"),
        pytest.param(served(True), Level.OK, id="served is what is stored"),
        pytest.param(standing(state=State.MISSING, left=None), Level.CRITICAL, id="missing"),
        pytest.param(
            standing(state=State.MISSING, left=None, used_by_ssl=False),
            Level.OK,
            id="missing, and no SSL vhost uses it",
        ),
        pytest.param(damaged(), Level.CRITICAL, id="a pair that does not match"),
        pytest.param(ALL.domains[0], Level.WARNING, id="a mistake in its directives"),
        pytest.param(UNREADABLE, Level.UNKNOWN, id="not readable"),
        pytest.param(
            standing(state=State.MISSING, left=None, is_renewed=False), Level.OK, id="static files"
        ),
    ],
)
def test_the_level_of_a_domain(domain: DomainStatus, level: Level) -> None:
    verdict = judge(domain, NOW)
    assert verdict.level is level
    assert bool(verdict.reasons) is (level is not Level.OK)


def test_a_live_certificate_that_was_revoked_is_critical() -> None:
    whole = standing()
    revoked = tuple(one._replace(revoked_at=NOW) for one in whole.live)
    verdict = judge(whole._replace(live=revoked, state=State.DUE), NOW)
    assert verdict.level is Level.CRITICAL
    assert verdict.reasons[0].startswith("rsa2048 was revoked 20")


def test_one_missing_key_type_is_critical() -> None:
    both = standing(specs=(RSA, EC))
    assert judge(both, NOW).level is Level.OK
    without = both._replace(live=(both.live[0], InstalledCertificate(EC)), state=State.MISSING)
    verdict = judge(without, NOW)
    assert (verdict.level, verdict.reasons) == (Level.CRITICAL, ("secp256r1 is missing",))


@pytest.mark.parametrize(
    ("levels", "stands_for_all"),
    [
        ((Level.OK, Level.WARNING, Level.CRITICAL, Level.UNKNOWN), Level.CRITICAL),
        ((Level.OK, Level.WARNING, Level.UNKNOWN), Level.WARNING),
        ((Level.OK, Level.UNKNOWN), Level.UNKNOWN),
        ((Level.OK,), Level.OK),
        ((), Level.UNKNOWN),
    ],
)
def test_the_worst_level_counts(levels: tuple[Level, ...], stands_for_all: Level) -> None:
    assert worst(levels) is stands_for_all


def test_all_well_is_one_line_with_performance_data() -> None:
    result = StatusResult((standing("a.example", left=30), standing("b.example", left=80)), NOW)
    assert exit_code(result) == 0
    assert render_check(result) == (
        "MDCONNECTOR OK - 2 managed domains, the first to expire is a.example in 30 days"
        "|domains=2;;;0 ok=2;;;0 warning=0;;;0 critical=0;;;0 unknown=0;;;0"
        " days_left=30.00;9.00:;3.00:\n"
    )


def test_the_summary_counts_and_names_the_worst_and_a_line_follows_for_each() -> None:
    assert exit_code(ALL) == 2
    summary, *lines = render_check(ALL).splitlines()
    text, _, performance = summary.partition("|")
    assert text == (
        "MDCONNECTOR CRITICAL - 2 critical, 4 warning of 11 managed domains; "
        "old.example.org: rsa2048 expired 2026-05-30 07:12 UTC"
    )
    assert "days_left=-2.20;9.00:;3.00:" in performance
    assert [line.split(":")[0] for line in lines] == [
        "CRITICAL old.example.org",
        "CRITICAL neu.example.org",
        "WARNING pay.example.org",
        "WARNING mail.example.org",
        "WARNING blog.example.org",
        "WARNING shop.example.org",
    ]


def test_nothing_managed_is_unknown() -> None:
    assert exit_code(StatusResult((), NOW)) == 3
    assert render_check(StatusResult((), NOW)).startswith("MDCONNECTOR UNKNOWN - no managed domain")


def test_a_file_that_may_hide_domains_is_a_warning_though_all_others_are_well() -> None:
    result = StatusResult((standing("a.example", left=30),), NOW, (HIDING,))
    assert exit_code(result) == 1
    summary, line = render_check(result).splitlines()
    assert summary.startswith(
        "MDCONNECTOR WARNING - 1 managed domain, and Apache's configuration may hide others; "
        "/etc/b.conf:3: it is not closed; add </Directory>|domains=1;;;0 ok=1;;;0 warning=0"
    )
    assert line == "WARNING /etc/b.conf:3: it is not closed; add </Directory>"


def test_a_file_that_may_hide_domains_is_told_beside_worse() -> None:
    result = StatusResult((standing("a.example", State.EXPIRED, left=0),), NOW, (HIDING,))
    assert exit_code(result) == 2
    summary, file, domain = render_check(result).splitlines()
    assert summary.partition("|")[0] == (
        "MDCONNECTOR CRITICAL - 1 critical of 1 managed domain, and Apache's configuration "
        "may hide others; a.example: rsa2048 expired 2026-06-01 12:00 UTC"
    )
    assert file.startswith("WARNING /etc/b.conf:3: ")
    assert domain.startswith("CRITICAL a.example: ")


def test_a_file_that_hides_all_domains_is_named() -> None:
    result = StatusResult((), NOW, (HIDING,))
    assert exit_code(result) == 3
    assert render_check(result) == (
        "MDCONNECTOR UNKNOWN - no managed domain is declared; "
        "/etc/b.conf:3: it is not closed; add </Directory>\n"
    )


def test_only_performance_data_stands_behind_a_bar() -> None:
    error = REFUSED._replace(detail="it said |x=1|")
    domain = FAILING._replace(last_error=error, failing_since=NOW - 3 * DAY)
    lines = render_check(StatusResult((domain,), NOW)).splitlines()
    assert lines[0].count("|") == 1
    assert "it said /x=1/" in lines[1]


def test_performance_data_is_of_the_form_that_plug_ins_have() -> None:
    performance = render_check(ALL).splitlines()[0].partition("|")[2]
    for part in performance.split(" "):
        assert re.fullmatch(r"[a-z_]+=-?\d+(\.\d+)?;(\d+\.\d+:)?;(\d+\.\d+:)?(;0)?", part), part


def test_ten_thousand_bad_domains_are_not_ten_thousand_lines() -> None:
    many = tuple(standing(f"{n}.example", State.EXPIRED, left=-1) for n in range(SHOWN_LINES + 7))
    lines = render_check(StatusResult(many, NOW)).splitlines()
    assert len(lines) == 1 + SHOWN_LINES + 1
    assert lines[-1].startswith("and 7 more")
    assert SHOWN_LINES == 100


def test_lines_that_are_not_shown_are_counted_whatever_they_tell_of() -> None:
    bad = standing(state=State.EXPIRED, left=-1)
    files = (HIDING,) * (SHOWN_LINES + 4)
    lines = render_check(StatusResult((bad,), NOW, files)).splitlines()
    assert len(lines) == 1 + SHOWN_LINES + 1
    assert lines[-1].startswith("and 5 more")


# --- every word ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "reasons"),
    [
        (standing(left=9), ("rsa2048 expires 2026-06-10 12:00 UTC",)),
        (standing(left=0), ("rsa2048 expired 2026-06-01 12:00 UTC",)),
        (
            damaged(),
            ("rsa2048 cannot be used: pubcert.pem does not belong to privkey.pem",),
        ),
        (
            failing(left=2.99, since=MOMENT),
            (
                "failing with under a third of MDWarnWindow left",
                "rsa2048 expires 2026-06-04 11:45 UTC",
            ),
        ),
        (failing(left=0, since=MOMENT), ("rsa2048 expired 2026-06-01 12:00 UTC",)),
        (
            failing(left=30, since=DAY),
            (f"failing since 2026-05-31 12:00 UTC: {REFUSED.detail}",),
        ),
        (
            standing(state=State.FAILING, errors=1, failing_since=NOW - DAY),
            ("failing since 2026-05-31 12:00 UTC",),
        ),
        (pending(DAY), ("the CA is at work on an order since 2026-05-31 12:00 UTC",)),
        (staged(DAY), ("staged since 2026-05-31 12:00 UTC and not live",)),
        (standing(state=State.ERROR, detail="a.conf:3: no"), ("a.conf:3: no",)),
        (standing(state=State.ERROR), ()),
        (standing(state=State.VALID, detail="as it should be"), ()),
        (UNREADABLE, ("not readable by uid 1000; try sudo",)),
    ],
)
def test_the_reasons_of_a_domain_in_full(domain: DomainStatus, reasons: tuple[str, ...]) -> None:
    assert judge(domain, NOW).reasons == reasons


def check_of(*domains: DomainStatus) -> list[str]:
    return [
        line.partition("|")[0] for line in render_check(StatusResult(domains, NOW)).splitlines()
    ]


def test_the_line_of_a_domain_tells_all_reasons() -> None:
    first = "a.example: failing with under a third of MDWarnWindow left"
    assert check_of(failing(left=2.99, since=MOMENT)) == [
        f"MDCONNECTOR CRITICAL - 1 critical of 1 managed domain; {first}",
        f"CRITICAL {first}; rsa2048 expires 2026-06-04 11:45 UTC",
    ]


def test_a_domain_of_which_nothing_more_is_known_is_named_alone() -> None:
    unknown = standing(state=State.UNKNOWN, left=None)
    assert check_of(unknown) == [
        "MDCONNECTOR UNKNOWN - 1 unknown of 1 managed domain; a.example:",
        "UNKNOWN a.example: ",
    ]


def test_without_a_certificate_nothing_is_the_first_to_expire() -> None:
    static = standing(state=State.MISSING, left=None, is_renewed=False)
    assert render_check(StatusResult((static,), NOW)) == (
        "MDCONNECTOR OK - 1 managed domain"
        "|domains=1;;;0 ok=1;;;0 warning=0;;;0 critical=0;;;0 unknown=0;;;0\n"
    )


def test_a_check_that_could_not_be_made_is_one_line() -> None:
    assert unknown_line("Apache's configuration | cannot be read") == (
        "MDCONNECTOR UNKNOWN - Apache's configuration / cannot be read\n"
    )
    assert unknown_line("x" * 2000) == f"MDCONNECTOR UNKNOWN - {'x' * 999}…\n"


def test_as_many_domains_as_are_shown_need_no_more_line() -> None:
    many = [standing(f"{n}.example", State.EXPIRED, left=-1) for n in range(SHOWN_LINES)]
    lines = check_of(*many)
    assert lines[-1].startswith("CRITICAL 99.example: ")
    assert check_of(*many, standing("z.example", State.EXPIRED, left=-1))[-1] == (
        "and 1 more; see 'mdconnector status'"
    )
