"""Decide about one managed domain: from what is live, staged, remembered, and the clock.

Rules: everything here is a function of values; a decision returns its reasons and the caller
speaks. A certificate that cannot be read is due, never "not due". mod_md's rules are those of
md_reg.c (state_init, md_reg_renew_at); where ours differ, the docstring says so.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from mdconnector.certificates import CLOCK_SLACK, CertificateFacts, InstalledCertificate
from mdconnector.errors import ErrorClass
from mdconnector.managed_domain import DEFAULT_RENEW_WINDOW, ManagedDomain

MAX_DELAY = timedelta(hours=20)
MAX_URGENT_DELAY = timedelta(hours=4)
MAX_RETRY_AFTER = timedelta(days=7)
MAX_HOLD = timedelta(days=1)
"""for a whole account: a CA that means one domain's limit must not stop all others for a week"""
MIN_ARI_PAUSE = timedelta(hours=6)
MAX_ARI_PAUSE = timedelta(days=7)
YOUNGEST_FOR_ARI = timedelta(days=1)
"""a CA that always says "now" then costs a certificate a day, not one in each run"""
GRACE_WITHOUT_CERTIFICATE = timedelta(days=7)


class Reason(StrEnum):
    """Why a certificate is due; the words of `reasons[]` in JSON."""

    MISSING = "missing"
    UNREADABLE = "unreadable"
    NAMES = "names"
    KEY_TYPE = "key-type"
    MUST_STAPLE = "must-staple"
    WINDOW = "window"
    EXPIRED = "expired"
    ARI = "ari"
    REVOKED = "revoked"
    FORCED = "forced"


class StagedSet(NamedTuple):
    """A complete, readable set in staging.

    `is_ours` is false for a set that mod_md staged or a person put there; `fault` says why
    verification refuses it, or is None.
    """

    since: datetime
    certificates: tuple[CertificateFacts, ...]
    is_ours: bool
    fault: str | None = None


class LastError(NamedTuple):
    """What went wrong in the last attempt, as it is shown: nothing secret, nothing unprintable."""

    type: str
    detail: str
    hint: str | None
    at: datetime


class Attempt(NamedTuple):
    """What the last runs left for one domain."""

    errors: int = 0
    """failed runs in a row"""
    failing_since: datetime | None = None
    next_try: datetime | None = None
    digest: str = ""
    """of what was tried: `digest_of` the configuration then"""
    last_error: LastError | None = None
    ca_url: str = ""
    """the CA that was tried, or that has an open order"""
    step: timedelta = timedelta(0)
    """the delay after the last failure, before jitter and caps: no later one is shorter"""


class AccountHold(NamedTuple):
    """A CA's wish to be left alone by one account for a while, and what it said."""

    until: datetime
    error: LastError


class RenewalInfo(NamedTuple):
    """What a CA answered about one certificate (RFC 9773); no window where it could not say."""

    ask_again: datetime
    start: datetime | None = None
    end: datetime | None = None
    chosen: datetime | None = None
    """a time in the window, by chance, once for each window"""
    explanation: str = ""
    """the address of a page that says why, safe to print"""


class Current(NamedTuple):
    """Nothing is due; the earliest certificate is renewed from `renew_at` on."""

    renew_at: datetime
    not_after: datetime


class Staged(NamedTuple):
    """A complete set that fits waits in staging: promote makes it live."""

    since: datetime
    certificates: tuple[CertificateFacts, ...]


class Due(NamedTuple):
    """A new set is to be ordered; `expires` is when the live one ends, None where none serves."""

    reasons: tuple[Reason, ...]
    expires: datetime | None


class BackingOff(NamedTuple):
    """A new set is due, but the last attempt failed and the next one is not before `until`."""

    reasons: tuple[Reason, ...]
    until: datetime
    error: LastError | None


Decision = Current | Staged | Due | BackingOff


def assess(
    domain: ManagedDomain,
    *,
    live: tuple[InstalledCertificate, ...],
    staged: StagedSet | None,
    attempt: Attempt,
    now: datetime,
    hold: AccountHold | None = None,
) -> Decision:
    """Decide about one domain. `live` has one entry per key spec of the domain."""
    reasons = due_reasons(domain, live, now)
    if staged is not None and staged.fault is None:
        settled = any(certificate.window_is_settled for certificate in live)
        staged_due = any(
            renews_at(domain, facts, settled=settled) <= now or facts.not_after <= now
            for facts in staged.certificates
        )
        if not staged_due:
            return Staged(staged.since, staged.certificates)
    if not reasons:
        facts = [certificate.facts for certificate in live if certificate.facts is not None]
        return Current(
            renew_at=min(renewal_time(domain, one) for one in live if one.facts is not None),
            not_after=min(one.not_after for one in facts),
        )
    return _backing_off(domain, reasons, attempt, hold, now) or Due(
        reasons, expires=serves_until(domain, live, now)
    )


def _backing_off(
    domain: ManagedDomain,
    reasons: tuple[Reason, ...],
    attempt: Attempt,
    hold: AccountHold | None,
    now: datetime,
) -> BackingOff | None:
    """Return what keeps the domain from being tried now: its own failure, or its account's hold."""
    own = attempt.next_try if attempt.digest == digest_of(domain) else None
    if _is_of_the_future(attempt.last_error, now):
        own = None
    if hold is not None and _is_of_the_future(hold.error, now):
        hold = None
    if hold is not None and hold.until > max(now, own or now):
        return BackingOff(reasons, hold.until, hold.error)
    if own is not None and own > now:
        return BackingOff(reasons, own, attempt.last_error)
    return None


def _is_of_the_future(error: LastError | None, now: datetime) -> bool:
    """Say whether an error was noted by a clock that was ahead: its times mean nothing now."""
    return error is not None and error.at - now > CLOCK_SLACK


def due_reasons(
    domain: ManagedDomain, live: tuple[InstalledCertificate, ...], now: datetime
) -> tuple[Reason, ...]:
    """Return why new certificates are needed, in the order of Reason; empty where none are."""
    found: set[Reason] = set()
    present = [certificate for certificate in live if certificate.facts or certificate.fault]
    for certificate in live:
        if certificate.fault is not None:
            found.add(Reason.UNREADABLE)
        elif certificate.facts is None:
            found.add(Reason.KEY_TYPE if present else Reason.MISSING)
        else:
            found |= _reasons_of(domain, certificate, certificate.facts, now)
    return tuple(reason for reason in Reason if reason in found)


def _reasons_of(
    domain: ManagedDomain,
    certificate: InstalledCertificate,
    facts: CertificateFacts,
    now: datetime,
) -> set[Reason]:
    found: set[Reason] = set()
    if not all(facts.covers(name) for name in domain.names):
        found.add(Reason.NAMES)
    if facts.must_staple != domain.must_staple and not certificate.must_staple_is_settled:
        found.add(Reason.MUST_STAPLE)
    if certificate.revoked_at is not None:
        found.add(Reason.REVOKED)
    if facts.not_after <= now:
        found.add(Reason.EXPIRED)
    elif renews_at(domain, facts, settled=certificate.window_is_settled) <= now:
        found.add(Reason.WINDOW)
    elif certificate.suggested is not None and certificate.suggested <= now:
        found.add(Reason.ARI)
    return found


def is_as_wished(domain: ManagedDomain, certificates: Iterable[CertificateFacts]) -> bool:
    """Say whether new certificates have must-staple as MDMustStaple says.

    One that has not is used nevertheless, and not ordered again for the same configuration.
    """
    return all(facts.must_staple == domain.must_staple for facts in certificates)


def unheeded(domain: ManagedDomain, live: Iterable[InstalledCertificate]) -> str:
    """Return what the CA made otherwise than was ordered, in words; empty where nothing."""
    notes = []
    for one in live:
        if one.must_staple_is_settled and one.facts and not is_as_wished(domain, [one.facts]):
            verb = "left out" if domain.must_staple else "put in"
            notes.append(f"the CA has {verb} must-staple against MDMustStaple")
        if one.window_is_settled and one.facts:
            window, default = domain.renew_window, DEFAULT_RENEW_WINDOW
            notes.append(f"MDRenewWindow {window} is as long as it lives, so {default} is taken")
    return "; ".join(dict.fromkeys(notes))


NOT_SERVING = frozenset(
    {
        Reason.MISSING,
        Reason.UNREADABLE,
        Reason.NAMES,
        Reason.KEY_TYPE,
        Reason.MUST_STAPLE,
        Reason.EXPIRED,
        Reason.REVOKED,
    }
)
"""with one of these, what is live does not serve the configuration: it is `enroll`'s work too"""


def needs_enrolling(reasons: tuple[Reason, ...]) -> bool:
    """Say whether the live set does not serve the configuration: `enroll` acts on it too."""
    return any(reason in NOT_SERVING for reason in reasons)


def renews_at(domain: ManagedDomain, facts: CertificateFacts, *, settled: bool = False) -> datetime:
    """Return when the renewal window of a certificate opens.

    mod_md renews without end where the window is as long as the certificate lives; we do so once,
    and take the default then (`settled`).
    """
    window = DEFAULT_RENEW_WINDOW if settled else domain.renew_window
    return window.opens(facts.not_before, facts.not_after)


def renewal_time(domain: ManagedDomain, certificate: InstalledCertificate) -> datetime:
    """Return when a live certificate is renewed: the CA's word can only bring its window forward.

    Raises ValueError where there is no certificate.
    """
    if certificate.facts is None:
        raise ValueError("there is no certificate to renew")
    opens = renews_at(domain, certificate.facts, settled=certificate.window_is_settled)
    return min(opens, certificate.suggested or opens)


def serves_until(
    domain: ManagedDomain, live: tuple[InstalledCertificate, ...], now: datetime
) -> datetime | None:
    """Return when the live set ends, or None where it does not serve the domain now."""
    ends = []
    for certificate in live:
        facts = certificate.facts
        if facts is None or facts.not_after <= now or certificate.revoked_at is not None:
            return None
        if not all(facts.covers(name) for name in domain.names):
            return None
        ends.append(facts.not_after)
    return min(ends) if ends else None


def is_expiring(
    domain: ManagedDomain, live: tuple[InstalledCertificate, ...], now: datetime
) -> bool:
    """Say whether any live certificate has expired or is inside MDWarnWindow."""
    return any(
        certificate.facts is not None
        and domain.warn_window.opens(certificate.facts.not_before, certificate.facts.not_after)
        <= now
        for certificate in live
    )


def is_comfortable(
    domain: ManagedDomain,
    live: tuple[InstalledCertificate, ...],
    *,
    waiting_since: datetime | None,
    now: datetime,
) -> bool:
    """Say whether a domain that has to wait may do so without a failure exit code.

    It may while what is served is outside MDWarnWindow, or where nothing is live, for seven days.
    """
    if is_expiring(domain, live, now):
        return False
    if serves_until(domain, live, now) is None:
        return waiting_since is None or now - waiting_since < GRACE_WITHOUT_CERTIFICATE
    return True


def is_urgent(domain: ManagedDomain, live: tuple[InstalledCertificate, ...], now: datetime) -> bool:
    """Say whether the last quarter of a renewal window has begun, or nothing valid is live."""
    if serves_until(domain, live, now) is None:
        return True
    for certificate in live:
        facts = certificate.facts
        if facts is not None:
            settled = certificate.window_is_settled
            left = facts.not_after - renews_at(domain, facts, settled=settled)
            if now >= facts.not_after - left / 4:
                return True
    return False


def delay_step(
    before: Attempt, digest: str, *, error_class: ErrorClass, retry_delay: timedelta
) -> timedelta:
    """Return the delay after one more failure of the configuration with this digest.

    MDRetryDelay doubles up to 20 h; what a human has to mend starts there; never less than before.
    """
    if error_class is not ErrorClass.TRANSIENT:
        return MAX_DELAY
    # 30 doublings of more than 20 h would be more than a timedelta holds
    doubled = min(retry_delay, MAX_DELAY) * (1 << min(before.errors, 30))
    floor = before.step if before.digest == digest else timedelta(0)
    return min(max(doubled, floor), MAX_DELAY)


def next_try(
    step: timedelta,
    *,
    retry_after: timedelta | None,
    urgent: bool,
    jitter: float,
    now: datetime,
) -> datetime:
    """Return when to try again, a `delay_step` after a failure, or when the CA said.

    4 h at most where it is urgent. `jitter` (0 to 1) only shortens, by up to a quarter, so that a
    daily cron meets it.
    """
    delay = min(step, MAX_URGENT_DELAY) if urgent else step
    delay -= delay * (jitter / 4)
    if retry_after is not None:
        delay = max(delay, min(retry_after, MAX_RETRY_AFTER))
    return now + delay


def after_failure(
    before: Attempt,
    domain: ManagedDomain,
    live: tuple[InstalledCertificate, ...],
    *,
    error: LastError,
    error_class: ErrorClass,
    retry_delay: timedelta,
    retry_after: timedelta | None = None,
    jitter: float = 0.0,
) -> Attempt:
    """Return what is remembered after one more failure; `error.at` is now."""
    digest = digest_of(domain)
    step = delay_step(before, digest, error_class=error_class, retry_delay=retry_delay)
    again = next_try(
        step,
        retry_after=retry_after,
        urgent=is_urgent(domain, live, error.at),
        jitter=jitter,
        now=error.at,
    )
    return Attempt(
        errors=before.errors + 1,
        failing_since=before.failing_since or error.at,
        next_try=again,
        digest=digest,
        last_error=error,
        ca_url=before.ca_url,
        step=step,
    )


def ca_for(domain: ManagedDomain, attempt: Attempt, *, failover: int) -> str:
    """Return the CA whose turn it is: each gets `failover` (MDRetryFailover) tries in a row.

    mod_md changes it at every failure past that number (md_acme_drive.c, acme_renew). A success
    leads back to the first; an order that waits at another one is asked for there.
    """
    urls = domain.effective_ca_urls
    if attempt.ca_url not in urls:
        return urls[0]
    turn = urls.index(attempt.ca_url)
    if attempt.errors and attempt.errors % failover == 0:
        turn += 1
    return urls[turn % len(urls)]


def digest_of(domain: ManagedDomain) -> str:
    """Return a digest of what an attempt depends on: if it differs, the back-off is void."""
    eab = domain.eab
    parts = (
        domain.names,
        domain.ca_urls,
        (eab.kid, hashlib.sha256(eab.hmac.encode()).hexdigest()) if eab else None,
        domain.agreement,
        domain.contact,
        tuple((spec.kind, spec.bits, spec.curve) for spec in domain.key_specs),
        domain.challenges,
        domain.must_staple,
        domain.profile,
        domain.profile_mandatory,
        domain.dns01_command,
        domain.proxy_url,
        domain.proxy_ca_certificates,
        domain.ca_certificates,
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def is_open_to_suggestions(domain: ManagedDomain) -> bool:
    """Say whether the CA's word (ARI) counts for a domain (MDRenewViaARI)."""
    is_ours = domain.used and domain.renewed_by is not None
    return domain.ari_renewals and is_ours and not domain.static_pairs and not domain.faults


def is_to_be_asked_about(facts: CertificateFacts, known: RenewalInfo | None, now: datetime) -> bool:
    """Say whether the CA is to be asked when to renew a certificate whose window is not open."""
    life = facts.not_after - facts.not_before
    if not facts.ari_id or now < facts.not_before + min(YOUNGEST_FOR_ARI, life / 10):
        return False
    if known is None:
        return True
    # later than any pause: a clock was wrong when it was written
    return not now < known.ask_again <= now + MAX_ARI_PAUSE


def heed(
    known: RenewalInfo | None,
    window: tuple[datetime, datetime] | None,
    *,
    pause: timedelta | None,
    chance: float,
    now: datetime,
    explanation: str = "",
) -> RenewalInfo:
    """Return what is remembered of an answer; `window` is None where the CA had none to give.

    `pause` is its Retry-After; `chance` (0 to 1) picks the time, unless the window is the old one.
    """
    wait = min(max(pause or MIN_ARI_PAUSE, MIN_ARI_PAUSE), MAX_ARI_PAUSE)
    if window is None:
        return (known or RenewalInfo(now))._replace(ask_again=now + wait)
    start, end = window
    chosen = start + (end - start) * chance
    if known is not None and (known.start, known.end) == window and known.chosen is not None:
        chosen = known.chosen
    return RenewalInfo(now + wait, start, end, chosen, explanation)


class State(StrEnum):
    """One word for a domain in `status`, by precedence: the first that applies."""

    UNKNOWN = "unknown"
    ERROR = "error"
    EXPIRED = "expired"
    MISSING = "missing"
    FAILING = "failing"
    PENDING = "pending"
    STAGED = "staged"
    EXPIRING = "expiring"
    DUE = "due"
    UNUSED = "unused"
    VALID = "valid"


def state_of(
    domain: ManagedDomain,
    decision: Decision,
    *,
    live: tuple[InstalledCertificate, ...],
    attempt: Attempt,
    is_pending: bool,
    now: datetime,
) -> State:
    """Return the state of a domain whose store could be read."""
    reasons = due_reasons(domain, live, now)
    applies = {
        State.ERROR: bool(domain.faults) or Reason.UNREADABLE in reasons,
        State.EXPIRED: Reason.EXPIRED in reasons,
        State.MISSING: any(one.facts is None for one in live),
        State.FAILING: attempt.errors > 0,
        State.PENDING: is_pending,
        State.STAGED: isinstance(decision, Staged),
        State.EXPIRING: is_expiring(domain, live, now),
        State.DUE: bool(reasons),
        State.UNUSED: not domain.used,
    }
    return next((state for state in State if applies.get(state)), State.VALID)
