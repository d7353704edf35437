"""The decision: a table of what is live, staged and remembered against what is to be done."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mdconnector.certificates import CertificateFacts
from mdconnector.errors import ErrorClass
from mdconnector.keys import KeySpec
from mdconnector.managed_domain import ManagedDomain, SourceLine, Window
from mdconnector.renewal import (
    Attempt,
    BackingOff,
    Current,
    Due,
    InstalledCertificate,
    Reason,
    Staged,
    StagedSet,
    assess,
    digest_of,
    is_comfortable,
    is_urgent,
    needs_enrolling,
    next_try,
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
        public_key=b"",
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
    domain = replace(DOMAIN, renew_window=Window.parse("81d"))
    assert isinstance(decide(installed(facts()), domain=domain), Due)


def test_a_window_longer_than_the_life_opens_at_its_beginning() -> None:
    window = Window.parse("400d")
    assert window.opens(NOW, NOW + 90 * DAY) == NOW


def test_a_missing_second_key_type_is_due_as_key_type() -> None:
    domain = replace(DOMAIN, configured_key_specs=(RSA, EC))
    decision = decide(installed(facts()), InstalledCertificate(EC), domain=domain)
    assert isinstance(decision, Due)
    assert decision.reasons == (Reason.KEY_TYPE,)


def test_a_wildcard_covers_exactly_one_label() -> None:
    domain = replace(DOMAIN, names=("*.example.org", "a.b.example.org"))
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
    changed = replace(DOMAIN, names=(*DOMAIN.names, "new.example.org"))
    assert isinstance(decide(installed(), attempt=attempt, domain=changed), Due)


def test_enroll_leaves_alone_what_is_only_in_its_window() -> None:
    assert not needs_enrolling((Reason.WINDOW,))
    assert needs_enrolling((Reason.WINDOW, Reason.NAMES))


def waits(
    errors: int, *, error_class: ErrorClass = ErrorClass.TRANSIENT, **changed: object
) -> timedelta:
    options: dict[str, object] = {
        "retry_delay": timedelta(seconds=30),
        "retry_after": None,
        "urgent": False,
        "jitter": 0.0,
    }
    moment = next_try(
        Attempt(errors=errors),
        error_class=error_class,
        now=NOW,
        **(options | changed),  # type: ignore[arg-type] # a table's row
    )
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


def test_the_last_quarter_of_the_window_is_urgent() -> None:
    assert not is_urgent(DOMAIN, (installed(facts(age_days=82)),), NOW)
    assert is_urgent(DOMAIN, (installed(facts(age_days=83)),), NOW)


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
