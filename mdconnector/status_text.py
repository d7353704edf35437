"""Status as plain lines: the table, and all about one domain.

Rules: no box characters, no colour; cells are aligned; what is shown is what JSON tells. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from mdconnector.certificates import CertificateFacts
from mdconnector.outcomes.status import DomainStatus, Lifetime, StatusResult
from mdconnector.printable import printable
from mdconnector.renewal import State
from mdconnector.stock import local_time

if TYPE_CHECKING:
    from mdconnector.particulars import LiveChain, Particulars, Shown

_STATUS_HEAD = ("NAME", "STATE", "KEYS", "VALID UNTIL", "DAYS", "RENEWS AT", "ISSUER", "NOTE")


def result_lines(result: StatusResult) -> list[str]:
    """Return the table; in place of it, where domains were named, all about each of them."""
    if any(domain.in_full is None for domain in result.domains) or not result.domains:
        return status_lines(result)
    return list(in_full_lines(result))


def status_lines(result: StatusResult) -> list[str]:
    """Return the status table as aligned plain lines."""
    if not result.domains:
        return ["no managed domain is declared; see 'mdconnector scan'"]
    rows = [_STATUS_HEAD, *(status_cells(domain, result.now) for domain in result.domains)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_STATUS_HEAD))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def status_cells(domain: DomainStatus, now: datetime) -> tuple[str, ...]:
    """Return one domain's row of the status table, a text per column."""
    issuers = sorted({one.facts.issuer for one in domain.live if one.facts})
    return (
        domain.name,
        domain.state.value,
        ",".join(one.spec.label for one in domain.live),
        local(domain.not_after) if domain.not_after else "-",
        str(days_left(domain.not_after, now)) if domain.not_after else "-",
        local(domain.renew_at) if domain.renew_at else "-",
        printable(", ".join(issuers), 60) or "-",
        status_note(domain),
    )


def status_note(domain: DomainStatus) -> str:
    """Return the last column of status: what waits, what went wrong, when it is tried again."""
    notes = [domain.detail] if domain.detail else []
    if domain.staged is not None:
        notes.append(f"staged since {local(domain.staged.since)}")
    if domain.pending is not None:
        notes.append(f"ordered {local(domain.pending.since)}, the CA is still at work")
    if domain.last_error is not None and domain.state is not State.UNKNOWN:
        notes.append(domain.last_error.detail)
    if domain.next_try is not None:
        notes.append(f"next try {local(domain.next_try)}")
    if domain.served is not None and domain.served.is_stored is False:
        notes.append(domain.served.words)
    return "; ".join(notes)


SHOWN_RUNS = 10


class Section(NamedTuple):
    """A part of what is told of one domain: labels and what belongs to them."""

    heading: str
    rows: tuple[tuple[str, str], ...]
    lifetime: Lifetime | None = None
    """of the certificate that it is about"""


def in_full_lines(result: StatusResult) -> Iterator[str]:
    """Yield all about each named domain as aligned plain lines, a blank line between domains."""
    for number, domain in enumerate(result.domains):
        if number:
            yield ""
        for section in sections(domain, result.now):
            yield section.heading
            width = max((len(label) for label, _ in section.rows), default=0)
            for label, text in section.rows:
                yield f"    {label:<{width}}  {text}".rstrip()


def sections(domain: DomainStatus, now: datetime) -> Iterator[Section]:
    """Yield everything about a domain; what there is nothing to say of is left out."""
    heading = f"{domain.name}: {state_words(domain, now)}"
    yield Section(heading, tuple(_standing(domain)))
    chains = {one.links[0].sha256: one for one in domain.in_full.chains} if domain.in_full else {}
    lifetimes = iter(domain.lifetimes)
    for one in domain.live:
        if one.facts is not None:
            lifetime = next(lifetimes)
            rows = (*_dates(lifetime), *_facts(one.facts), *_chain(chains.get(one.facts.sha256)))
            yield Section(one.facts.key_label, rows, lifetime)
    if domain.in_full is not None:
        yield from _particulars(domain.in_full)


def state_words(domain: DomainStatus, now: datetime) -> str:
    """Return the state with what belongs to it: time left, and how often it has failed."""
    words = domain.state.value
    if domain.not_after is not None:
        words += f", {time_left(domain.not_after, now)}"
    if domain.errors:
        words += f", {domain.errors} failed run{'s' if domain.errors > 1 else ''} in a row"
    return words


def _standing(domain: DomainStatus) -> Iterator[tuple[str, str]]:
    if domain.names[1:]:
        yield "also", ", ".join(domain.names[1:])
    if domain.detail:
        yield "note", domain.detail
    if domain.staged is not None:
        until = min((one.not_after for one in domain.staged.certificates), default=None)
        yield "staged", f"since {local(domain.staged.since)}, valid until {local(until)}"
    if domain.pending is not None:
        yield "ordered", f"{local(domain.pending.since)}, {domain.pending.order_url}"
    if domain.failing_since is not None:
        yield "failing since", local(domain.failing_since)
    if domain.last_error is not None and domain.state is not State.UNKNOWN:
        yield "last error", domain.last_error.detail
        if domain.last_error.hint:
            yield "what to do", domain.last_error.hint
    if domain.in_full is not None:
        step = domain.in_full.next_step
        yield "next", f"{local(step.at)}: {step.words}" if step.at else step.words
    if domain.served is not None:
        yield "served", domain.served.words


def _dates(one: Lifetime) -> Iterator[tuple[str, str]]:
    yield "valid from", local(one.not_before)
    yield "renewed from", local(one.renew_at)
    yield "MDWarnWindow", f"from {local(one.warn_at)}"
    yield "valid until", local(one.not_after)


def _facts(facts: CertificateFacts) -> Iterator[tuple[str, str]]:
    yield "serial", f"{facts.serial:x}"
    yield "sha256", facts.sha256
    yield "names", printable(", ".join(facts.names), 1000)


def _chain(chain: LiveChain | None) -> Iterator[tuple[str, str]]:
    if chain is None:
        return
    yield "subject", chain.links[0].subject or "(none)"
    for link in chain.links[1:]:
        yield "issued by", f"{link.subject} (valid until {local(link.not_after)})"
    yield "issued by", chain.links[-1].issuer


def _particulars(full: Particulars) -> Iterator[Section]:
    if full.shown:
        yield Section("what Apache shows now", tuple(_shown(one) for one in full.shown))
    account = full.account
    if account is None:
        why = full.account_trouble or "none yet: the first order registers one"
        yield Section("account at the CA", (("", why),))
    else:
        rows = [("CA", account.ca_url), ("URL", account.url)]
        rows += [("kid", account.kid)] if account.kid else []
        rows += [("stored as", account.id or "mod_md's, in staging")]
        yield Section("account at the CA", tuple(rows))
    if full.runs:
        runs = (
            (local(run.at), f"{run.command}: {run.outcome}: {run.detail}")
            for run in full.runs[:SHOWN_RUNS]
        )
        yield Section("last runs that did something", tuple(runs))


EQUALS = "as in the store"
DIFFERS = "not what the store holds"


def _shown(one: Shown) -> tuple[str, str]:
    if not one.address:
        return "not asked", one.fault or ""
    host = f"[{one.address}]" if ":" in one.address else one.address
    place = f"{one.server_name} at {host}:{one.port}"
    label = one.key_label or "any key"
    if one.serial is None:
        return label, f"{place}: {one.fault or 'no certificate'}"
    return label, f"{place}: serial {one.serial}, {EQUALS if one.is_stored else DIFFERS}"


def time_left(not_after: datetime, now: datetime) -> str:
    """Return `58 days left`, `7 hours left`, `expired 3 days ago`."""
    left = not_after - now
    count, unit = abs(left) // timedelta(days=1), "day"
    if count < 2:
        count, unit = abs(left) // timedelta(hours=1), "hour"
    words = f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{words} left" if left > timedelta() else f"expired {words} ago"


def local(moment: datetime | None) -> str:
    """Return a time as a person on this machine reads it; a hyphen where there is none."""
    return local_time(moment) if moment else "-"


def days_left(not_after: datetime, now: datetime) -> int:
    """Return whole days until a certificate ends; negative once it has."""
    return (not_after - now).days
