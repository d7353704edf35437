"""Which domains enroll and renew work on, and what they say of the others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mdconnector.certificates import CertificateFacts, InstalledCertificate
from mdconnector.errors import StoreError
from mdconnector.keys import KeySpec
from mdconnector.managed_domain import (
    Address,
    Finding,
    ManagedDomain,
    Severity,
    SourceLine,
    VirtualHost,
)
from mdconnector.outcomes.order import NotLive, Ordered, OrderOutcome
from mdconnector.planning import (
    Command,
    Job,
    PlanOptions,
    news,
    not_live_after,
    plan,
    planned,
    sort_jobs,
)
from mdconnector.renewal import Attempt, LastError, Reason, StagedSet, assess, digest_of
from mdconnector.stock import Stock
from mdconnector.store.attempts import AttemptRecord, Told
from mdconnector.store.staged import FoundSet

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
RSA = KeySpec("RSA")
AT = SourceLine("/etc/apache2/sites-enabled/shop.conf", 3)
VHOST = VirtualHost("shop.example.org", (), (Address("*", 443),), ssl=True, declared_at=AT)
DOMAIN = ManagedDomain("shop.example.org", ("shop.example.org",), AT, vhosts=(VHOST,))


def facts(*, age_days: float = 10) -> CertificateFacts:
    start = NOW - age_days * DAY
    return CertificateFacts("rsa2048", DOMAIN.names, start, start + 90 * DAY, 1, "00", "CA", False)


def stock_of(
    domain: ManagedDomain = DOMAIN,
    *,
    live: CertificateFacts | None = None,
    staged: StagedSet | None = None,
    record: AttemptRecord | None = None,
    trouble: StoreError | None = None,
) -> Stock:
    installed = (InstalledCertificate(RSA, live),)
    kept = record or AttemptRecord()
    decision = assess(domain, live=installed, staged=staged, attempt=kept.attempt, now=NOW)
    found = FoundSet(staged, (), (), None) if staged else None
    ca_url = domain.effective_ca_urls[0]
    return Stock(domain, installed, found, kept, decision, NOW, trouble=trouble, ca_url=ca_url)


def decide(
    stock: Stock, command: Command = "renew", *, by_name: bool = False, force: bool = False
) -> Job | OrderOutcome:
    return plan(stock, PlanOptions(command, by_name=by_name, force=force))


def outcome_of(stock: Stock, command: Command = "renew", **options: bool) -> OrderOutcome:
    decided = decide(stock, command, **options)
    assert isinstance(decided, OrderOutcome)
    return decided


def job_of(stock: Stock, command: Command = "renew", **options: bool) -> Job:
    decided = decide(stock, command, **options)
    assert isinstance(decided, Job)
    return decided


def failing(*, until: datetime) -> AttemptRecord:
    error = LastError("connection", "no answer", None, NOW - DAY)
    attempt = Attempt(1, NOW - DAY, until, digest_of(DOMAIN), error)
    return AttemptRecord(attempt=attempt)


def test_what_is_missing_is_a_job_of_both_commands() -> None:
    assert job_of(stock_of(), "enroll").reasons == (Reason.MISSING,)
    assert job_of(stock_of(), "renew").reasons == (Reason.MISSING,)


def test_what_is_only_in_its_window_is_left_alone_by_enroll() -> None:
    stock = stock_of(live=facts(age_days=70))
    assert outcome_of(stock, "enroll").outcome is Ordered.CURRENT
    assert job_of(stock, "renew").reasons == (Reason.WINDOW,)


def test_what_is_current_says_until_when() -> None:
    outcome = outcome_of(stock_of(live=facts()))
    assert outcome.outcome is Ordered.CURRENT
    assert "valid until 2026-08-20" in outcome.detail


def test_what_waits_in_staging_is_not_ordered() -> None:
    staged = StagedSet(NOW - DAY, (facts(age_days=1),), is_ours=False)
    outcome = outcome_of(stock_of(staged=staged))
    assert outcome.outcome is Ordered.STAGED


@pytest.mark.parametrize(
    ("outcome", "sets", "oldest"),
    [
        (Ordered.STAGED, 1, NOW - 2 * DAY),
        (Ordered.FAILED, 1, NOW - 2 * DAY),
        (Ordered.PENDING, 1, NOW - 2 * DAY),
        (Ordered.BACKING_OFF, 1, NOW - 2 * DAY),
        (Ordered.RENEWED, 1, None),  # another set has taken its place just now
        (Ordered.SKIPPED, 0, None),
    ],
)
def test_a_staged_set_is_counted_whatever_became_of_the_order(
    outcome: Ordered, sets: int, oldest: datetime | None
) -> None:
    stock = stock_of(staged=StagedSet(NOW - 2 * DAY, (facts(age_days=1),), is_ours=True))
    after = not_live_after([OrderOutcome(DOMAIN.name, outcome, "")], [stock], NOW)
    assert after == NotLive(sets, oldest, is_old=oldest is not None)


def test_a_staged_set_that_does_not_fit_is_not_waiting_to_go_live() -> None:
    unfit = StagedSet(NOW - 2 * DAY, (facts(),), is_ours=True, fault="its key does not fit")
    outcome = OrderOutcome(DOMAIN.name, Ordered.FAILED, "")
    assert not_live_after([outcome], [stock_of(staged=unfit)], NOW) == NotLive(0, None, False)


def test_force_orders_anew_even_what_waits_in_staging() -> None:
    staged = StagedSet(NOW - DAY, (facts(age_days=1),), is_ours=True)
    job = job_of(stock_of(staged=staged), by_name=True, force=True)
    assert job.order_anew
    assert job.reasons == (Reason.FORCED,)


def test_all_passes_over_what_no_vhost_uses_and_a_name_does_not() -> None:
    stock = stock_of(DOMAIN._replace(vhosts=()))
    assert outcome_of(stock).outcome is Ordered.SKIPPED
    assert job_of(stock, by_name=True).reasons == (Reason.MISSING,)


def test_static_files_are_never_enrolled() -> None:
    stock = stock_of(DOMAIN._replace(renewed_by=None))
    assert outcome_of(stock, by_name=True).outcome is Ordered.SKIPPED


def test_the_back_off_holds_for_all_and_is_void_for_a_name() -> None:
    stock = stock_of(record=failing(until=NOW + DAY))
    outcome = outcome_of(stock)
    assert (outcome.outcome, outcome.next_try) == (Ordered.BACKING_OFF, NOW + DAY)
    assert job_of(stock, by_name=True).reasons == (Reason.MISSING,)


def test_backing_off_without_any_certificate_is_a_failure_after_seven_days() -> None:
    record = failing(until=NOW + DAY)
    old = record._replace(attempt=record.attempt._replace(failing_since=NOW - 8 * DAY))
    assert not outcome_of(stock_of(record=record)).has_failed
    assert outcome_of(stock_of(record=old)).has_failed


def test_a_fault_in_the_directives_fails_without_contacting_the_ca() -> None:
    fault = Finding("bad-window", Severity.ERROR, f"{AT}", "it is no window", "write 30d")
    outcome = outcome_of(stock_of(DOMAIN._replace(faults=(fault,))), by_name=True)
    assert outcome.outcome is Ordered.FAILED
    assert outcome.detail == f"{AT}: it is no window"


def test_a_folder_that_cannot_be_used_fails_that_domain() -> None:
    outcome = outcome_of(stock_of(trouble=StoreError("it is a link", path="/md/domains/x")))
    assert outcome.outcome is Ordered.FAILED
    assert "/md/domains/x" in outcome.detail


def test_a_domain_that_mod_md_works_on_is_skipped() -> None:
    decided = plan(
        stock_of(), PlanOptions("renew", by_name=False), watchdog_since=NOW - timedelta(minutes=5)
    )
    assert isinstance(decided, OrderOutcome)
    assert decided.outcome is Ordered.SKIPPED
    assert "mod_md is working on it" in decided.detail


def test_jobs_are_sorted_by_what_is_served_worst() -> None:
    names = ("c.example.org", "b.example.org", "a.example.org")
    ages = (70.0, 80.0, None)
    jobs = [
        Job(
            stock_of(DOMAIN._replace(name=name), live=None if age is None else facts(age_days=age)),
            "renew",
            (Reason.WINDOW,),
        )
        for name, age in zip(names, ages, strict=True)
    ]
    assert [job.stock.domain.name for job in sort_jobs(jobs)] == [
        "a.example.org",
        "b.example.org",
        "c.example.org",
    ]


def test_the_plan_of_a_dry_run_names_ca_keys_names_and_reasons() -> None:
    detail = planned(job_of(stock_of())).detail
    for word in (DOMAIN.effective_ca_urls[0], "rsa2048", "shop.example.org", "missing"):
        assert word in detail


@pytest.mark.parametrize(
    ("told", "is_news"),
    [
        (None, True),
        (Told("other", NOW), True),
        (Told("key", NOW - timedelta(hours=23)), False),
        (Told("key", NOW - timedelta(hours=24)), True),
    ],
    ids=["never told", "another reason", "within a day", "a day ago"],
)
def test_a_lasting_failure_is_news(told: Told | None, is_news: bool) -> None:
    assert news(AttemptRecord(told=told), "key", NOW)[0] is is_news
