"""Say in one line how a domain stands: the row of `status`, and which row comes first.

Rule: what could not be read is `unknown`, never `missing`.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from mdconnector.certificates import CertificateFacts, InstalledCertificate
from mdconnector.managed_domain import ManagedDomain
from mdconnector.outcomes.order import Ordered
from mdconnector.outcomes.status import (
    DomainStatus,
    Lifetime,
    PendingSummary,
    ServedSummary,
    StagedSummary,
)
from mdconnector.printable import printable
from mdconnector.renewal import (
    BackingOff,
    LastError,
    State,
    renewal_time,
    renews_at,
    state_of,
    unheeded,
)
from mdconnector.stock import Stock, local_time
from mdconnector.store.attempts import AttemptRecord
from mdconnector.store.live import live_changed_at
from mdconnector.store.tree import Store

_FAR_AWAY = datetime.max.replace(tzinfo=UTC)


def status_of(stock: Stock) -> DomainStatus:
    """Return the row of one domain."""
    domain, record = stock.domain, stock.record
    facts = [one.facts for one in stock.live if one.facts is not None]
    staged = stock.found.staged if stock.found else None
    trouble = stock.trouble
    waits = stock.decision if isinstance(stock.decision, BackingOff) else None
    return DomainStatus(
        name=domain.name,
        names=domain.names,
        state=_state(stock),
        detail=_detail(stock),
        live=stock.live,
        not_after=min((one.not_after for one in facts), default=None),
        renew_at=min((renewal_time(domain, one) for one in stock.live if one.facts), default=None),
        staged=StagedSummary(staged.since, staged.certificates) if staged else None,
        pending=PendingSummary(stock.pending_since, stock.pending_url)
        if stock.pending_since
        else None,
        last_error=LastError(trouble.type, printable(str(trouble)), trouble.hint, stock.now)
        if trouble is not None
        else waits.error
        if waits
        else record.attempt.last_error,
        next_try=waits.until
        if waits
        else record.attempt.next_try
        if record.attempt.errors
        else None,
        errors=record.attempt.errors,
        ca_url=stock.ca_url,
        lifetimes=tuple(lifetime_of(domain, one, one.facts) for one in stock.live if one.facts),
        used_by_ssl=domain.used_by_ssl,
        is_renewed=domain.renewed_by is not None,
        failing_since=record.attempt.failing_since if record.attempt.errors else None,
        last_success=_last_success(record),
    )


def lifetime_of(
    domain: ManagedDomain, certificate: InstalledCertificate, facts: CertificateFacts
) -> Lifetime:
    """Return the dates of one live certificate."""
    return Lifetime(
        facts.key_label,
        facts.not_before,
        renewal_time(domain, certificate),
        domain.warn_window.opens(facts.not_before, facts.not_after),
        facts.not_after,
    )


def served_by_memory(
    stock: Stock, store: Store, *, host: str, taken_up: datetime | None
) -> ServedSummary | None:
    """Return what is known, without asking, of what Apache on this host serves.

    `taken_up` is when it last read its certificates; None where it does not run.
    """
    serials = tuple(f"{one.serial:x}" for one in stock.serving)
    if not serials or stock.trouble is not None:
        return None
    seen = stock.record.served.get(host)
    if seen is not None and seen.serials == serials:
        return ServedSummary(True, f"Apache serves it (seen {local_time(seen.at)})", seen.at)
    if seen is not None and seen.missed == serials:
        at = f" {local_time(seen.missed_at)}" if seen.missed_at else ""
        return ServedSummary(False, f"Apache did not serve it when asked{at}", seen.missed_at)
    changed = live_changed_at(store, stock.domain.name)
    if stock.domain.used_by_ssl and changed is not None and taken_up and changed > taken_up:
        words = f"Apache was not reloaded since it went live {local_time(changed)}"
        return ServedSummary(False, words)
    return None


def _last_success(record: AttemptRecord) -> datetime | None:
    if record.last_success is not None:
        return record.last_success
    good = {Ordered.ENROLLED, Ordered.RENEWED}
    return next((run.at for run in record.runs if run.outcome in good), None)


def most_urgent_first(rows: list[DomainStatus]) -> tuple[DomainStatus, ...]:
    """Sort rows: by state, then by the end of the certificate."""
    order = list(State)
    return tuple(
        sorted(rows, key=lambda row: (order.index(row.state), row.not_after or _FAR_AWAY, row.name))
    )


def _state(stock: Stock) -> State:
    if stock.trouble is not None:
        return State.UNKNOWN if stock.trouble.unreadable else State.ERROR
    return state_of(
        stock.domain,
        stock.decision,
        live=stock.live,
        attempt=stock.record.attempt,
        is_pending=stock.pending_since is not None,
        now=stock.now,
    )


def _detail(stock: Stock) -> str:
    if stock.trouble is not None and stock.trouble.unreadable:
        return f"not readable by uid {os.geteuid()}; try sudo"
    notes = [_fault_of(stock.domain)]
    notes += [_fault_in(one) for one in stock.live]
    if stock.record.untold is not None and stock.found is not None:
        notes.append(f"not told yet: {stock.record.untold.why}")
    notes.append(unheeded(stock.domain, stock.live))
    notes += [_suggestion(stock, one) for one in stock.live]
    notes += [_revocation(one) for one in stock.live]
    if stock.rubbish is not None:
        notes.append(f"{stock.rubbish.path}: {stock.rubbish.why}")
    if stock.found is not None and stock.found.staged.fault is not None:
        notes.append(f"staged set refused: {stock.found.staged.fault}")
    return printable("; ".join(note for note in notes if note), 1000)


def _suggestion(stock: Stock, certificate: InstalledCertificate) -> str:
    facts, suggested = certificate.facts, certificate.suggested
    if facts is None or suggested is None or suggested >= renews_at(stock.domain, facts):
        return ""
    info = stock.record.renewal_info.get(facts.ari_id)
    why = f" ({info.explanation})" if info and info.explanation else ""
    return f"the CA would have it renewed by {local_time(suggested)}{why}"


def _revocation(certificate: InstalledCertificate) -> str:
    if certificate.revoked_at is None:
        return ""
    return f"{certificate.spec.label}: revoked {local_time(certificate.revoked_at)}"


def _fault_of(domain: ManagedDomain) -> str:
    return str(domain.faults[0]) if domain.faults else ""


def _fault_in(certificate: InstalledCertificate) -> str:
    return f"{certificate.spec.label}: {certificate.fault}" if certificate.fault else ""
