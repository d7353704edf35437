"""Decide what enroll or renew does about each domain: a job for the CA, or an outcome at once.

Rules: nothing here writes or contacts anybody. What needs nothing is an outcome with the reason
in words; what is due is a job. `enroll` leaves alone what is only near its end; a NAME voids
the back-off.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from mdconnector.certificates import CertificateFacts
from mdconnector.errors import StoreError
from mdconnector.managed_domain import Finding
from mdconnector.outcomes.order import NotLive, Ordered, OrderOutcome
from mdconnector.printable import printable
from mdconnector.renewal import (
    BackingOff,
    Current,
    Due,
    LastError,
    Reason,
    Staged,
    due_reasons,
    is_comfortable,
    needs_enrolling,
    renewal_time,
    serves_until,
    unheeded,
)
from mdconnector.stock import Stock, describe_keys, local_time
from mdconnector.store.attempts import AttemptRecord, Told

TELL_AGAIN_AFTER = timedelta(hours=24)
OLD_STAGED_SET = timedelta(days=1)
_STAGED_SET_STAYS = frozenset(
    {Ordered.STAGED, Ordered.FAILED, Ordered.PENDING, Ordered.BACKING_OFF}
)
_LONG_AGO = datetime.min.replace(tzinfo=UTC)

Command = Literal["enroll", "renew"]


class PlanOptions(NamedTuple):
    """What the command line says about whom to work on."""

    command: Command
    by_name: bool
    force: bool = False


class Rules(NamedTuple):
    """What the command line says about working."""

    wait_seconds: float = 300.0
    jobs: int = 4
    lock_wait_seconds: float = 0.0


class Job(NamedTuple):
    """One domain that is to be worked on, and why."""

    stock: Stock
    command: Command
    reasons: tuple[Reason, ...]
    order_anew: bool = False
    """even though a complete set waits in staging, or to be put there"""

    @property
    def urgency(self) -> tuple[datetime, str]:
        """What jobs are sorted by: who is served worst, or ends first, comes first."""
        serves = serves_until(self.stock.domain, self.stock.live, self.stock.now)
        return serves or _LONG_AGO, self.stock.domain.name


def plan(
    stock: Stock, options: PlanOptions, *, watchdog_since: datetime | None = None
) -> Job | OrderOutcome:
    """Decide about one domain. `watchdog_since` is since when mod_md itself is at work on it."""
    domain, command = stock.domain, options.command
    # first, because a name that is none is never looked up in the store, and that is its trouble
    if domain.faults:
        return _faulty(stock, domain.faults)
    if stock.trouble is not None:
        return in_trouble(stock, stock.trouble)
    if domain.renewed_by is None:
        return _skipped(
            stock, "it has static files (MDCertificateFile) and its mode is not 'always'"
        )
    if not domain.used and not options.by_name:
        hint = f"to obtain it anyway: mdconnector {command} {domain.name}"
        return _skipped(stock, f"no virtual host uses it; {hint}")
    decision = stock.decision
    if options.force:
        return Job(stock, command, (Reason.FORCED,), order_anew=isinstance(decision, Staged))
    if isinstance(decision, BackingOff) and not options.by_name:
        return _backing_off(stock, decision)
    match decision:
        case Staged():
            return _staged(stock, decision)
        case Current():
            return _current(stock)
        case Due(reasons=reasons) | BackingOff(reasons=reasons):
            return _due(stock, reasons, command, watchdog_since)


def _due(
    stock: Stock,
    reasons: tuple[Reason, ...],
    command: Command,
    watchdog_since: datetime | None,
) -> Job | OrderOutcome:
    if command == "enroll" and not needs_enrolling(reasons):
        return _current(stock)
    if watchdog_since is not None:
        return _skipped(
            stock, f"mod_md is working on it since {local_time(watchdog_since)}", reasons
        )
    return Job(stock, command, reasons, order_anew=stock.rubbish is not None)


def planned(job: Job) -> OrderOutcome:
    """Return what --dry-run says about a job."""
    domain = job.stock.domain
    keys = " + ".join(spec.label for spec in domain.key_specs)
    why = ", ".join(job.reasons)
    verb = "take up the open order" if job.stock.pending_since else "order"
    return OrderOutcome(
        domain.name,
        Ordered.PLANNED,
        f"would {verb} at {job.stock.ca_url}: {keys} for {', '.join(domain.order_names)}"
        f" (due: {why})",
        reasons=job.reasons,
        certificates=_live(job.stock),
    )


def _current(stock: Stock) -> OrderOutcome:
    facts = _live(stock)
    until = min(one.not_after for one in facts)
    opens = min(renewal_time(stock.domain, one) for one in stock.live if one.facts is not None)
    verb = "renewed from" if opens > stock.now else "due for renewal since"
    odd = unheeded(stock.domain, stock.live)
    note = f"; note: {odd}" if odd else ""
    return OrderOutcome(
        stock.domain.name,
        Ordered.CURRENT,
        f"{describe_keys(facts)}, valid until {local_time(until)}, "
        f"{verb} {local_time(opens)}{note}",
        certificates=facts,
        renew_at=opens,
    )


def not_live_after(
    outcomes: Sequence[OrderOutcome], stocks: Sequence[Stock], now: datetime
) -> NotLive:
    """Count the sets that wait in staging: new ones, and those that a run has left there."""
    kept = {one.name for one in outcomes if one.outcome in _STAGED_SET_STAYS}
    waiting = [
        stock.found.staged.since
        for stock in stocks
        if stock.found and stock.found.staged.fault is None and stock.domain.name in kept
    ]
    oldest = min(waiting, default=None)
    return NotLive(
        len(waiting) + sum(one.is_change for one in outcomes),
        oldest,
        is_old=oldest is not None and now - oldest > OLD_STAGED_SET,
    )


def _staged(stock: Stock, decision: Staged) -> OrderOutcome:
    until = min(one.not_after for one in decision.certificates)
    return OrderOutcome(
        stock.domain.name,
        Ordered.STAGED,
        f"{describe_keys(decision.certificates)}, valid until {local_time(until)}, "
        f"waits in staging since {local_time(decision.since)}",
        certificates=decision.certificates,
    )


def _backing_off(stock: Stock, decision: BackingOff) -> OrderOutcome:
    comfortable = is_comfortable(
        stock.domain, stock.live, waiting_since=stock.record.attempt.failing_since, now=stock.now
    )
    error = decision.error
    began = "the last try failed"
    if stock.hold is not None and decision.error == stock.hold.error:
        began = "the CA asked this account to wait"
    why = f": {error.detail}" if error else ""
    is_news, _ = news(stock.record, told_key(error), stock.now)
    return OrderOutcome(
        stock.domain.name,
        Ordered.BACKING_OFF,
        f"{began}{why}",
        reasons=decision.reasons,
        certificates=_live(stock),
        next_try=decision.until,
        error=error,
        is_comfortable=comfortable,
        is_news=is_news,
    )


def _faulty(stock: Stock, faults: tuple[Finding, ...]) -> OrderOutcome:
    first = faults[0]
    error = LastError("configuration", printable(str(first), 1000), first.hint, stock.now)
    return _failed(stock, error)


def in_trouble(stock: Stock, trouble: StoreError) -> OrderOutcome:
    """Return the outcome of a domain whose part of the store must not be worked with."""
    error = LastError(trouble.type, printable(str(trouble), 1000), trouble.hint, stock.now)
    return _failed(stock, error)


def _failed(stock: Stock, error: LastError) -> OrderOutcome:
    reasons = due_reasons(stock.domain, stock.live, stock.now)
    is_news, _ = news(stock.record, told_key(error), stock.now)
    return OrderOutcome(
        stock.domain.name,
        Ordered.FAILED,
        error.detail,
        reasons=reasons,
        certificates=_live(stock),
        error=error,
        is_news=is_news,
    )


def _skipped(stock: Stock, why: str, reasons: tuple[Reason, ...] = ()) -> OrderOutcome:
    return OrderOutcome(
        stock.domain.name, Ordered.SKIPPED, why, reasons=reasons, certificates=_live(stock)
    )


def _live(stock: Stock) -> tuple[CertificateFacts, ...]:
    return tuple(one.facts for one in stock.live if one.facts is not None)


def told_key(error: LastError | None) -> str:
    """Return what makes two failures the same for -q."""
    return f"{error.type}: {error.detail}" if error else "unknown"


def news(record: AttemptRecord, key: str, now: datetime) -> tuple[bool, Told]:
    """Say whether a lasting failure is to be told under -q, and what to remember of the telling."""
    told = record.told
    if told is not None and told.key == key and now - told.at < TELL_AGAIN_AFTER:
        return False, told
    return True, Told(key, now)


def sort_jobs(jobs: Iterable[Job]) -> tuple[Job, ...]:
    """Sort jobs, most urgent first: one that is stuck must not starve one that is worse off."""
    return tuple(sorted(jobs, key=lambda job: job.urgency))
