"""The decision: a table of what is live, staged and remembered against what is to be done."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mdconnector.certificates import CertificateFacts, InstalledCertificate
from mdconnector.errors import ErrorClass
from mdconnector.keys import KeySpec
from mdconnector.managed_domain import (
    Finding,
    ManagedDomain,
    Severity,
    SourceLine,
    VirtualHost,
    Window,
)
from mdconnector.renewal import (
    MAX_HOLD,
    AccountHold,
    Attempt,
    BackingOff,
    Current,
    Due,
    LastError,
    Reason,
    Staged,
    StagedSet,
    State,
    after_failure,
    assess,
    ca_for,
    delay_step,
    digest_of,
    due_reasons,
    heed,
    is_as_wished,
    is_comfortable,
    is_expiring,
    is_open_to_suggestions,
    is_to_be_asked_about,
    is_urgent,
    needs_enrolling,
    next_try,
    renewal_time,
    serves_until,
    state_of,
    unheeded,
)

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
RSA = KeySpec("RSA")
EC = KeySpec("EC", curve="secp256r1")
DAY = timedelta(days=1)
DOMAIN = ManagedDomain(
    name="shop.example.org",
    names=("shop.example.org", "www.shop.example.org"),
    declared_at=SourceLine("/etc/apache2/sites-enabled/shop.conf", 3),
    configured_key_specs=(RSA,),
)


def facts(
    *,
    age_days: float = 10,
    life_days: float = 90,
    names: tuple[str, ...] = DOMAIN.names,
    must_staple: bool = False,
) -> CertificateFacts:
    not_before = NOW - age_days * DAY
    return CertificateFacts(
        key_label="rsa2048",
        names=names,
        not_before=not_before,
        not_after=not_before + life_days * DAY,
        serial=1,
        sha256="00",
        issuer="Test CA",
        must_staple=must_staple,
    )


def installed(
    value: CertificateFacts | None = None, fault: str | None = None
) -> InstalledCertificate:
    return InstalledCertificate(RSA, value, fault)


def decide(
    *live: InstalledCertificate,
    staged: StagedSet | None = None,
    attempt: Attempt = Attempt(),  # noqa: B008 - frozen
    domain: ManagedDomain = DOMAIN,
    now: datetime = NOW,
) -> object:
    return assess(domain, live=live, staged=staged, attempt=attempt, now=now)


@pytest.mark.parametrize(
    ("live", "reasons"),
    [
        pytest.param(installed(), (Reason.MISSING,), id="nothing there"),
        pytest.param(installed(fault="torn"), (Reason.UNREADABLE,), id="cannot be read"),
        pytest.param(
            installed(facts(names=("shop.example.org",))), (Reason.NAMES,), id="a name lacks"
        ),
        pytest.param(
            installed(facts(must_staple=True)), (Reason.MUST_STAPLE,), id="must-staple unasked"
        ),
        pytest.param(installed(facts(age_days=61)), (Reason.WINDOW,), id="in its window"),
        pytest.param(installed(facts(age_days=90)), (Reason.EXPIRED,), id="expired this second"),
        pytest.param(
            installed(facts())._replace(revoked_at=NOW - DAY), (Reason.REVOKED,), id="revoked"
        ),
    ],
)
def test_a_certificate_is_due_for(live: InstalledCertificate, reasons: tuple[Reason, ...]) -> None:
    decision = decide(live)
    assert isinstance(decision, Due)
    assert decision.reasons == reasons


def test_a_certificate_is_current_until_its_window_opens() -> None:
    decision = decide(installed(facts(age_days=60)))
    assert isinstance(decision, Current)
    assert decision.renew_at == facts(age_days=60).not_after - 29.7 * DAY


def test_a_window_given_in_days_counts_from_the_end() -> None:
    domain = DOMAIN._replace(renew_window=Window.parse("81d"))
    assert isinstance(decide(installed(facts()), domain=domain), Due)


def test_a_window_longer_than_the_life_opens_at_its_beginning() -> None:
    window = Window.parse("400d")
    assert window.opens(NOW, NOW + 90 * DAY) == NOW


def test_a_missing_second_key_type_is_due_as_key_type() -> None:
    domain = DOMAIN._replace(configured_key_specs=(RSA, EC))
    decision = decide(installed(facts()), InstalledCertificate(EC), domain=domain)
    assert isinstance(decision, Due)
    assert decision.reasons == (Reason.KEY_TYPE,)


def test_a_wildcard_covers_exactly_one_label() -> None:
    domain = DOMAIN._replace(names=("*.example.org", "a.b.example.org"))
    decision = decide(installed(facts(names=("*.example.org",))), domain=domain)
    assert isinstance(decision, Due)


def test_a_staged_set_that_fits_waits_though_the_live_one_is_missing() -> None:
    staged = StagedSet(NOW - DAY, (facts(age_days=1),), is_ours=True)
    assert decide(installed(), staged=staged) == Staged(NOW - DAY, staged.certificates)


@pytest.mark.parametrize(
    "staged",
    [
        pytest.param(StagedSet(NOW, (facts(age_days=80),), is_ours=True), id="itself due"),
        pytest.param(StagedSet(NOW, (facts(),), is_ours=True, fault="lacks a name"), id="refused"),
    ],
)
def test_a_staged_set_does_not_count_when_it_is(staged: StagedSet) -> None:
    assert isinstance(decide(installed(), staged=staged), Due)


def test_a_failed_attempt_holds_the_next_one_back() -> None:
    attempt = Attempt(errors=1, next_try=NOW + DAY, digest=digest_of(DOMAIN))
    assert isinstance(decide(installed(), attempt=attempt), BackingOff)


def test_the_back_off_ends_on_the_second() -> None:
    attempt = Attempt(errors=1, next_try=NOW, digest=digest_of(DOMAIN))
    assert isinstance(decide(installed(), attempt=attempt), Due)


def test_a_changed_configuration_voids_the_back_off() -> None:
    attempt = Attempt(errors=1, next_try=NOW + DAY, digest=digest_of(DOMAIN))
    changed = DOMAIN._replace(names=(*DOMAIN.names, "new.example.org"))
    assert isinstance(decide(installed(), attempt=attempt, domain=changed), Due)


def test_enroll_leaves_alone_what_is_only_in_its_window() -> None:
    assert not needs_enrolling((Reason.WINDOW,))
    assert needs_enrolling((Reason.WINDOW, Reason.NAMES))


def waits(
    errors: int,
    *,
    error_class: ErrorClass = ErrorClass.TRANSIENT,
    retry_delay: timedelta = timedelta(seconds=30),
    **changed: object,
) -> timedelta:
    step = delay_step(
        Attempt(errors=errors - 1), "", error_class=error_class, retry_delay=retry_delay
    )
    options: dict[str, object] = {"retry_after": None, "urgent": False, "jitter": 0.0}
    moment = next_try(step, now=NOW, **(options | changed))  # type: ignore[arg-type] # a table's row
    return moment - NOW


def test_transient_errors_double_the_delay_up_to_twenty_hours() -> None:
    assert [waits(n).total_seconds() for n in (1, 2, 3)] == [30, 60, 120]
    assert waits(13) == timedelta(hours=20)


def test_the_delay_never_overflows() -> None:
    assert waits(10_000) == timedelta(hours=20)


@pytest.mark.parametrize("error_class", [ErrorClass.NEEDS_HUMAN, ErrorClass.CONFIGURATION])
def test_what_a_human_must_mend_starts_at_twenty_hours(error_class: ErrorClass) -> None:
    assert waits(1, error_class=error_class) == timedelta(hours=20)


def test_urgency_caps_the_delay_at_four_hours_for_every_class() -> None:
    assert waits(20, urgent=True) == timedelta(hours=4)
    assert waits(1, error_class=ErrorClass.NEEDS_HUMAN, urgent=True) == timedelta(hours=4)


def test_jitter_only_shortens() -> None:
    assert waits(13, jitter=1.0) == timedelta(hours=15)


def test_retry_after_is_honoured_up_to_seven_days() -> None:
    assert waits(1, retry_after=timedelta(hours=30)) == timedelta(hours=30)
    assert waits(1, retry_after=timedelta(days=400)) == timedelta(days=7)


def test_a_long_retry_delay_does_not_overflow() -> None:
    assert waits(10_000, retry_delay=timedelta(days=10_000)) == timedelta(hours=20)


def fail(
    before: Attempt,
    now: datetime,
    *,
    error_class: ErrorClass = ErrorClass.TRANSIENT,
    life_left: timedelta = 1000 * DAY,
    domain: ManagedDomain = DOMAIN,
    **options: Any,
) -> Attempt:
    """Let one more try fail at `now`."""
    not_after = now + life_left
    live = facts()._replace(not_before=not_after - 3000 * DAY, not_after=not_after)
    return after_failure(
        before,
        domain,
        (installed(live),),
        error=LastError("connection", "no answer", None, now),
        error_class=error_class,
        **({"retry_delay": timedelta(seconds=30)} | options),
    )


def next_of(attempt: Attempt) -> datetime:
    assert attempt.next_try is not None
    return attempt.next_try


@pytest.mark.parametrize(
    "classes",
    [
        pytest.param((ErrorClass.TRANSIENT,), id="no answer"),
        pytest.param((ErrorClass.NEEDS_HUMAN,), id="refused"),
        pytest.param((ErrorClass.TRANSIENT, ErrorClass.NEEDS_HUMAN), id="in turn"),
        pytest.param((*(ErrorClass.TRANSIENT,) * 7, ErrorClass.CONFIGURATION), id="now and then"),
    ],
)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("retry_delay", [timedelta(milliseconds=1), timedelta(seconds=30), DAY])
def test_in_four_hundred_days_of_failure_no_delay_is_shorter_than_the_one_before(
    classes: tuple[ErrorClass, ...], seed: int, retry_delay: timedelta
) -> None:
    dice = random.Random(seed)  # noqa: S311 - it spreads, and guards nothing
    attempt, now, longest = Attempt(), NOW, timedelta(0)
    for error_class in itertools.cycle(classes):
        attempt = fail(
            attempt, now, error_class=error_class, retry_delay=retry_delay, jitter=dice.random()
        )
        delay = next_of(attempt) - now
        assert timedelta(0) < delay <= timedelta(hours=20)
        assert delay >= longest * 0.75, "a delay is shorter than jitter makes it"
        longest = max(longest, delay)
        now = next_of(attempt)
        if now > NOW + 400 * DAY:
            break
    assert longest >= timedelta(hours=15)
    assert attempt.errors >= 400 * 24 / 20


def test_in_four_hundred_days_without_a_certificate_it_is_tried_every_four_hours_at_least() -> None:
    attempt, now = Attempt(), NOW
    while now < NOW + 400 * DAY:
        attempt = fail(attempt, now, life_left=timedelta(0))
        assert timedelta(0) < next_of(attempt) - now <= timedelta(hours=4)
        now = next_of(attempt)
    assert attempt.errors > 400 * 6


def test_a_transient_error_after_one_that_a_human_must_mend_does_not_shorten_the_delay() -> None:
    refused = fail(Attempt(), NOW, error_class=ErrorClass.NEEDS_HUMAN)
    again = fail(refused, NOW + DAY)
    assert next_of(again) - (NOW + DAY) == timedelta(hours=20)


def test_a_changed_configuration_begins_with_short_delays() -> None:
    refused = fail(Attempt(), NOW, error_class=ErrorClass.NEEDS_HUMAN)
    changed = DOMAIN._replace(profile="short")
    again = fail(refused, NOW + DAY, domain=changed)
    assert next_of(again) - (NOW + DAY) == timedelta(seconds=60)


def test_a_week_that_the_ca_asked_for_does_not_lengthen_our_own_delays() -> None:
    asked = fail(Attempt(), NOW, retry_after=timedelta(days=7))
    assert next_of(asked) == NOW + 7 * DAY
    again = fail(asked, NOW + 7 * DAY)
    assert next_of(again) - (NOW + 7 * DAY) == timedelta(seconds=60)


# --- short lives ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("life_days", "renewed_with", "urgent_with", "warned_with"),
    [(199, 65.67, 16.42, 19.9), (100, 33, 8.25, 10), (47, 15.51, 3.88, 4.7), (6, 1.98, 0.495, 0.6)],
)
def test_windows_shrink_with_the_life_of_a_certificate(
    life_days: float, renewed_with: float, urgent_with: float, warned_with: float
) -> None:
    def live(days_left: float) -> tuple[InstalledCertificate, ...]:
        return (installed(facts(age_days=life_days - days_left, life_days=life_days)),)

    def is_due(days_left: float) -> bool:
        return isinstance(decide(*live(days_left)), Due)

    assert (is_due(renewed_with * 1.01), is_due(renewed_with * 0.99)) == (False, True)
    for days_left, is_so in ((urgent_with * 1.01, False), (urgent_with * 0.99, True)):
        assert is_urgent(DOMAIN, live(days_left), NOW) is is_so
    for days_left, is_so in ((warned_with * 1.01, False), (warned_with * 0.99, True)):
        assert is_expiring(DOMAIN, live(days_left), NOW) is is_so


@pytest.mark.parametrize("error_class", list(ErrorClass))
@pytest.mark.parametrize("life_days", [6, 47])
def test_a_short_life_leaves_several_tries_before_its_end(
    life_days: int, error_class: ErrorClass
) -> None:
    start = facts(age_days=0, life_days=life_days)
    now, attempt, tries = start.not_after - 0.33 * life_days * DAY, Attempt(), 0
    while now < start.not_after:
        attempt = after_failure(
            attempt,
            DOMAIN,
            (installed(start),),
            error=LastError("connection", "no answer", None, now),
            error_class=error_class,
            retry_delay=timedelta(seconds=30),
        )
        now, tries = next_of(attempt), tries + 1
    assert tries >= 4


def test_a_window_as_long_as_a_six_day_certificate_lives_renews_it_once_and_not_without_end() -> (
    None
):
    domain = DOMAIN._replace(renew_window=Window.parse("30d"))
    fresh = installed(facts(age_days=0, life_days=6))
    assert isinstance(decide(fresh, domain=domain), Due)
    settled = fresh._replace(window_is_settled=True)
    decision = decide(settled, domain=domain)
    assert isinstance(decision, Current)
    assert decision.renew_at == NOW + 0.67 * 6 * DAY
    staged = StagedSet(NOW, (facts(age_days=0, life_days=6),), is_ours=True)
    waiting = decide(installed()._replace(window_is_settled=True), staged=staged, domain=domain)
    assert isinstance(waiting, Staged)


def test_must_staple_that_was_settled_is_no_reason() -> None:
    domain = DOMAIN._replace(must_staple=True)
    assert isinstance(decide(installed(facts()), domain=domain), Due)
    settled = installed(facts())._replace(must_staple_is_settled=True)
    assert isinstance(decide(settled, domain=domain), Current)


# --- whom to ask ---------------------------------------------------------------------------------

CAS = ("https://first.example/dir", "https://second.example/dir", "https://third.example/dir")
MANY_CAS = DOMAIN._replace(ca_urls=CAS)


def asked_in_turn(tries: int, *, failover: int) -> list[str]:
    """Return the CAs that are asked while all of them fail."""
    attempt, asked = Attempt(), []
    for number in range(tries):
        url = ca_for(MANY_CAS, attempt, failover=failover)
        asked.append(url)
        attempt = fail(attempt._replace(ca_url=url), NOW + number * DAY, domain=MANY_CAS)
    return asked


def test_each_ca_gets_its_share_of_tries_in_a_row() -> None:
    first, second, third = CAS
    assert asked_in_turn(7, failover=2) == [first, first, second, second, third, third, first]


def test_success_leads_back_to_the_first_ca() -> None:
    assert ca_for(MANY_CAS, Attempt(), failover=1) == CAS[0]


def test_an_order_that_waits_at_the_second_ca_is_asked_for_there() -> None:
    assert ca_for(MANY_CAS, Attempt(ca_url=CAS[1]), failover=13) == CAS[1]


def test_a_ca_that_is_configured_no_more_is_not_asked() -> None:
    attempt = Attempt(errors=1, ca_url="https://gone.example/dir")
    assert ca_for(MANY_CAS, attempt, failover=1) == CAS[0]


# --- by the CA's word ----------------------------------------------------------------------------

WEEK = (NOW - 3 * DAY, NOW + 4 * DAY)


def suggested(at: datetime | None, *, age_days: float = 10) -> InstalledCertificate:
    return installed(facts(age_days=age_days))._replace(suggested=at)


def test_a_certificate_is_due_when_the_time_that_was_chosen_has_come() -> None:
    assert decide(suggested(NOW)) == Due((Reason.ARI,), facts().not_after)


def test_a_time_to_come_brings_the_renewal_forward() -> None:
    decision = decide(suggested(NOW + DAY))
    assert isinstance(decision, Current)
    assert decision.renew_at == NOW + DAY


def test_a_time_past_the_own_window_does_not_put_the_renewal_off() -> None:
    decision = decide(suggested(NOW + 60 * DAY))
    assert isinstance(decision, Current)
    assert decision.renew_at == facts().not_after - 29.7 * DAY
    late = decide(suggested(NOW + 60 * DAY, age_days=61))
    assert isinstance(late, Due)
    assert late.reasons == (Reason.WINDOW,)


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_the_time_lies_within_the_window_of_the_ca(chance: float) -> None:
    info = heed(None, WEEK, pause=None, chance=chance, now=NOW)
    assert info.chosen == WEEK[0] + 7 * DAY * chance
    assert (info.start, info.end) == WEEK


def test_the_time_is_chosen_once_for_a_window() -> None:
    first = heed(None, WEEK, pause=None, chance=0.25, now=NOW)
    again = heed(first, WEEK, pause=None, chance=0.75, now=NOW + DAY)
    assert again.chosen == first.chosen
    moved = (WEEK[0] - DAY, WEEK[1])
    assert heed(first, moved, pause=None, chance=0.0, now=NOW).chosen == moved[0]


@pytest.mark.parametrize(
    ("pause", "wait"),
    [
        pytest.param(None, timedelta(hours=6), id="not said"),
        pytest.param(timedelta(seconds=5), timedelta(hours=6), id="too soon"),
        pytest.param(timedelta(hours=30), timedelta(hours=30), id="as said"),
        pytest.param(timedelta(days=300), timedelta(days=7), id="too late"),
    ],
)
def test_the_ca_is_asked_again_after_six_hours_to_seven_days(
    pause: timedelta | None, wait: timedelta
) -> None:
    info = heed(None, WEEK, pause=pause, chance=0.0, now=NOW)
    assert info.ask_again == NOW + wait
    at_hand = facts()._replace(ari_id="a.b")
    assert not is_to_be_asked_about(at_hand, info, NOW + wait - timedelta(seconds=1))
    assert is_to_be_asked_about(at_hand, info, NOW + wait)


def test_a_ca_that_gives_no_answer_leaves_the_last_one_in_force() -> None:
    first = heed(None, WEEK, pause=None, chance=0.25, now=NOW)
    failed = heed(first, None, pause=None, chance=0.75, now=NOW + DAY)
    assert failed == first._replace(ask_again=NOW + DAY + timedelta(hours=6))


@pytest.mark.parametrize(
    ("age_days", "life_days", "is_old_enough"),
    [(0.9, 90, False), (1, 90, True), (0.5, 6, False), (0.6, 6, True)],
)
def test_nobody_asks_about_a_certificate_in_its_first_day_or_tenth(
    age_days: float, life_days: float, is_old_enough: bool
) -> None:
    young = facts(age_days=age_days, life_days=life_days)._replace(ari_id="a.b")
    assert is_to_be_asked_about(young, None, NOW) is is_old_enough


HOLD = AccountHold(NOW + DAY, LastError("rateLimited", "too many orders", None, NOW))


def test_an_account_that_was_asked_to_wait_keeps_its_domains_waiting() -> None:
    decision = assess(
        DOMAIN, live=(installed(),), staged=None, attempt=Attempt(), now=NOW, hold=HOLD
    )
    assert decision == BackingOff((Reason.MISSING,), HOLD.until, HOLD.error)


def test_what_is_not_due_does_not_care_for_the_account() -> None:
    live = (installed(facts()),)
    decision = assess(DOMAIN, live=live, staged=None, attempt=Attempt(), now=NOW, hold=HOLD)
    assert isinstance(decision, Current)


def test_an_account_that_has_waited_is_used_again() -> None:
    later = HOLD.until
    decision = assess(
        DOMAIN, live=(installed(),), staged=None, attempt=Attempt(), now=later, hold=HOLD
    )
    assert isinstance(decision, Due)


def test_the_last_quarter_of_the_window_is_urgent() -> None:
    assert not is_urgent(DOMAIN, (installed(facts(age_days=82)),), NOW)
    assert is_urgent(DOMAIN, (installed(facts(age_days=83)),), NOW)


def test_what_is_revoked_serves_nobody_and_is_work_for_enroll() -> None:
    live = (installed(facts())._replace(revoked_at=NOW),)
    assert serves_until(DOMAIN, live, NOW) is None
    assert needs_enrolling(due_reasons(DOMAIN, live, NOW))


def test_waiting_is_comfortable_outside_the_warn_window_only() -> None:
    assert is_comfortable(
        DOMAIN, (installed(facts(age_days=80)),), waiting_since=NOW - DAY, now=NOW
    )
    inside = (installed(facts(age_days=82)),)
    assert not is_comfortable(DOMAIN, inside, waiting_since=NOW - DAY, now=NOW)


def test_waiting_without_a_certificate_is_comfortable_for_seven_days() -> None:
    nothing = (installed(),)
    assert is_comfortable(DOMAIN, nothing, waiting_since=NOW - 6 * DAY, now=NOW)
    assert not is_comfortable(DOMAIN, nothing, waiting_since=NOW - 7 * DAY, now=NOW)


# --- on the second -------------------------------------------------------------------------------


def domain_with(**more: Any) -> ManagedDomain:
    given: dict[str, Any] = {
        "name": DOMAIN.name,
        "names": DOMAIN.names,
        "declared_at": DOMAIN.declared_at,
        "configured_key_specs": (RSA,),
    }
    return ManagedDomain(**(given | more))


def live_with(value: CertificateFacts | None = None, **more: Any) -> InstalledCertificate:
    return InstalledCertificate(RSA, value, **more)


@pytest.mark.parametrize(
    "staged", [facts(age_days=90), facts(age_days=60, life_days=90)], ids=["ended", "in its window"]
)
def test_a_staged_set_is_due_on_the_second(staged: CertificateFacts) -> None:
    domain = domain_with(renew_window=Window.parse("30d"))
    waiting = StagedSet(NOW, (staged,), is_ours=True)
    assert isinstance(decide(installed(), staged=waiting, domain=domain), Due)
    before = NOW - timedelta(seconds=1)
    if staged.not_after > NOW:
        assert isinstance(decide(installed(), staged=waiting, domain=domain, now=before), Staged)


@pytest.mark.parametrize(
    ("ahead", "is_believed"),
    [(timedelta(hours=1), True), (timedelta(hours=1, seconds=1), False)],
)
def test_an_error_that_was_noted_more_than_an_hour_ahead_holds_nothing_back(
    ahead: timedelta, *, is_believed: bool
) -> None:
    error = LastError("connection", "no answer", None, NOW + ahead)
    attempt = Attempt(errors=1, next_try=NOW + 9 * DAY, digest=digest_of(DOMAIN), last_error=error)
    expected = BackingOff if is_believed else Due
    assert isinstance(decide(installed(), attempt=attempt), expected)
    held = assess(
        DOMAIN,
        live=(installed(),),
        staged=None,
        attempt=Attempt(),
        now=NOW,
        hold=AccountHold(NOW + DAY, error),
    )
    assert isinstance(held, expected)


def test_of_two_reasons_to_wait_the_later_one_counts() -> None:
    own = LastError("connection", "no answer", None, NOW)
    for hours, error in ((23, HOLD.error), (25, own)):
        until = NOW + timedelta(hours=hours)
        attempt = Attempt(errors=1, next_try=until, digest=digest_of(DOMAIN), last_error=own)
        decision = assess(
            DOMAIN, live=(installed(),), staged=None, attempt=attempt, now=NOW, hold=HOLD
        )
        assert decision == BackingOff((Reason.MISSING,), max(until, HOLD.until), error)


@pytest.mark.parametrize(("left", "serves"), [(1, True), (0, False)])
def test_a_certificate_serves_to_its_last_second(left: int, *, serves: bool) -> None:
    ends = facts().not_after
    found = serves_until(DOMAIN, (installed(facts()),), ends - timedelta(seconds=left))
    assert found == (ends if serves else None)


def test_a_set_serves_until_the_first_of_it_ends() -> None:
    both = (installed(facts(life_days=50)), installed(facts()))
    assert serves_until(DOMAIN, both, NOW) == facts(life_days=50).not_after
    assert serves_until(DOMAIN, (), NOW) is None


def test_windows_open_on_the_second() -> None:
    domain = domain_with(renew_window=Window.parse("40d"), warn_window=Window.parse("20d"))
    live, ends, second = (installed(facts()),), facts().not_after, timedelta(seconds=1)
    assert is_expiring(domain, live, ends - 20 * DAY)
    assert not is_expiring(domain, live, ends - 20 * DAY - second)
    assert is_urgent(domain, live, ends - 10 * DAY) is True
    assert is_urgent(domain, live, ends - 10 * DAY - second) is False


def test_a_domain_that_warns_need_not_wait_in_comfort() -> None:
    live = (installed(facts(age_days=89)),)
    assert is_comfortable(DOMAIN, live, waiting_since=None, now=NOW) is False
    assert is_comfortable(DOMAIN, (installed(),), waiting_since=None, now=NOW) is True


def test_nothing_is_remembered_of_a_domain_that_was_never_tried() -> None:
    never = Attempt()
    assert (never.errors, never.digest, never.ca_url, never.step) == (0, "", "", timedelta(0))
    assert (never.failing_since, never.next_try, never.last_error) == (None, None, None)


def test_failing_since_is_when_the_first_of_a_row_failed() -> None:
    first = fail(Attempt(), NOW)
    again = fail(first, NOW + DAY)
    assert (first.failing_since, again.failing_since) == (NOW, NOW)
    assert (first.errors, again.errors) == (1, 2)


@pytest.mark.parametrize("minutes", [0, -1])
def test_a_certificate_of_ten_days_is_asked_about_from_a_tenth_of_its_life_on(minutes: int) -> None:
    young = CertificateFacts(
        "rsa2048",
        DOMAIN.names,
        NOW - timedelta(days=0.9),
        NOW + timedelta(days=8.1),
        1,
        "00",
        "Test CA",
        must_staple=False,
        ari_id="a.b",
    )
    now = NOW + timedelta(minutes=minutes)
    assert is_to_be_asked_about(young, None, now) is (minutes == 0)


def test_a_whole_account_is_held_no_longer_than_a_day() -> None:
    assert MAX_HOLD == DAY


# --- what the CA made otherwise ------------------------------------------------------------------

LEFT_OUT = "the CA has left out must-staple against MDMustStaple"
PUT_IN = "the CA has put in must-staple against MDMustStaple"
AS_LONG = "MDRenewWindow 30d is as long as it lives, so 33% is taken"


@pytest.mark.parametrize(
    ("asked", "live", "notes"),
    [
        (True, [live_with(facts(), must_staple_is_settled=True)], LEFT_OUT),
        (False, [live_with(facts(must_staple=True), must_staple_is_settled=True)], PUT_IN),
        (True, [live_with(facts(must_staple=True), must_staple_is_settled=True)], ""),
        (True, [live_with(facts())], ""),
        (False, [live_with(facts(), window_is_settled=True)], AS_LONG),
        (False, [live_with(window_is_settled=True)], ""),
        (True, [live_with(must_staple_is_settled=True)], ""),
        (
            True,
            [live_with(facts(), must_staple_is_settled=True, window_is_settled=True)] * 2,
            f"{LEFT_OUT}; {AS_LONG}",
        ),
        (False, [], ""),
    ],
)
def test_what_the_ca_has_not_heeded_is_told_once(
    asked: bool, live: list[InstalledCertificate], notes: str
) -> None:
    domain = domain_with(must_staple=asked, renew_window=Window.parse("30d"))
    assert unheeded(domain, live) == notes


def test_new_certificates_are_as_wished_where_all_of_them_are() -> None:
    domain = domain_with(must_staple=True)
    with_it, without = facts(must_staple=True), facts()
    assert is_as_wished(domain, [with_it, with_it]) is True
    assert is_as_wished(domain, [with_it, without]) is False
    assert is_as_wished(DOMAIN, [without]) is True


def test_nothing_that_is_not_there_has_a_time_of_renewal() -> None:
    with pytest.raises(ValueError, match=r"^there is no certificate to renew$"):
        renewal_time(DOMAIN, installed())


# --- whose word counts ---------------------------------------------------------------------------

VHOST = VirtualHost("shop.example.org", (), (), True, SourceLine("shop.conf", 1))
FAULT = Finding("bad-keys", Severity.ERROR, "shop.conf:1", "no", "mend it")


@pytest.mark.parametrize(
    ("more", "is_open"),
    [
        ({}, True),
        ({"renewed_by": "mod_md"}, True),
        ({"ari_renewals": False}, False),
        ({"vhosts": ()}, False),
        ({"renewed_by": None}, False),
        ({"static_pairs": (("/c", "/k"),)}, False),
        ({"faults": (FAULT,)}, False),
    ],
    ids=["ours", "mod_md's", "switched off", "unused", "nobody's", "static", "at fault"],
)
def test_the_ca_s_word_counts_for_what_is_used_and_renewed(
    more: dict[str, Any], *, is_open: bool
) -> None:
    assert is_open_to_suggestions(domain_with(**({"vhosts": (VHOST,)} | more))) is is_open


# --- one word for a domain -----------------------------------------------------------------------

STAGED_DECISION = Staged(NOW, (facts(),))


@pytest.mark.parametrize(
    ("state", "given"),
    [
        (State.VALID, {}),
        (State.ERROR, {"faults": (FAULT,)}),
        (State.ERROR, {"live": [live_with(fault="torn")]}),
        (State.EXPIRED, {"live": [live_with(facts(age_days=90)), live_with()]}),
        (State.MISSING, {"live": [live_with(facts()), live_with()], "errors": 1}),
        (State.FAILING, {"errors": 1, "is_pending": True}),
        (State.PENDING, {"is_pending": True, "decision": STAGED_DECISION}),
        (State.STAGED, {"decision": STAGED_DECISION, "live": [live_with(facts(age_days=82))]}),
        (State.EXPIRING, {"live": [live_with(facts(age_days=82))]}),
        (State.DUE, {"live": [live_with(facts(age_days=61))], "vhosts": ()}),
        (State.UNUSED, {"vhosts": ()}),
    ],
)
def test_the_first_state_that_applies_is_the_domain_s(state: State, given: dict[str, Any]) -> None:
    domain = domain_with(vhosts=given.get("vhosts", (VHOST,)), faults=given.get("faults", ()))
    live = tuple(given.get("live", [live_with(facts())]))
    decision = given.get("decision", Current(NOW, NOW))
    found = state_of(
        domain,
        decision,
        live=live,
        attempt=Attempt(errors=given.get("errors", 0)),
        is_pending=given.get("is_pending", False),
        now=NOW,
    )
    assert found is state


def test_the_words_for_reasons_and_states_are_those_of_json() -> None:
    assert [str(one) for one in Reason] == [
        "missing",
        "unreadable",
        "names",
        "key-type",
        "must-staple",
        "window",
        "expired",
        "ari",
        "revoked",
        "forced",
    ]
    assert [str(one) for one in State] == [
        "unknown",
        "error",
        "expired",
        "missing",
        "failing",
        "pending",
        "staged",
        "expiring",
        "due",
        "unused",
        "valid",
    ]
