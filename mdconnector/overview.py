"""Say in one line how a domain stands: the row of `status`, and which row comes first.

Rule: what could not be read is `unknown`, never `missing`.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from mdconnector.managed_domain import ManagedDomain
from mdconnector.outcomes import DomainStatus, PendingSummary, StagedSummary
from mdconnector.printable import printable
from mdconnector.renewal import (
    BackingOff,
    InstalledCertificate,
    LastError,
    State,
    renewal_time,
    renews_at,
    state_of,
    unheeded,
)
from mdconnector.stock import Stock, local_time

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
    )


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


def _fault_of(domain: ManagedDomain) -> str:
    if not domain.faults:
        return ""
    first = domain.faults[0]
    return f"{first.at}: {first.message}" if first.at else first.message


def _fault_in(certificate: InstalledCertificate) -> str:
    return f"{certificate.spec.label}: {certificate.fault}" if certificate.fault else ""
